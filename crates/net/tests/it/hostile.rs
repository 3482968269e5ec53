//! Peers that keep no rule, and a service that breaks.

use std::net::Ipv4Addr;

use futures_util::StreamExt;
use libp2p::{
    request_response::{Event, Message, OutboundFailure},
    swarm::SwarmEvent,
};
use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Denial, Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_net::JobClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    fixture::{
        BROKEN, HELD, Provider, about, asking, assert_answers, client, connected, patiently, told,
    },
    stranger,
};

/// Somebody else's address.
const ELSEWHERE: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

#[tokio::test]
async fn who_sends_garbage_is_cut_off_and_harms_nobody() {
    let provider = Provider::start().await;
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: provider\r\n\r\n",
        &[0xff; 4096],
        &[0; 64],
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff not a handshake",
    ];
    for bytes in garbage {
        let mut stream = connected(&provider, Ipv4Addr::LOCALHOST).await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        // Its end, or a reset where bytes were left unread.
        let _ = patiently(stream.read_to_end(&mut Vec::new())).await;
    }
    assert_answers(&client(), &provider.endpoint()).await;
    assert_eq!(provider.service.seen().asked, 1);
}

#[tokio::test]
async fn who_stalls_keeps_nobody_waiting() {
    let provider = Provider::start().await;
    let mut stalled = Vec::new();
    for count in 0..48 {
        let mut stream = connected(&provider, ELSEWHERE[count / 24]).await;
        if count % 2 == 0 {
            stream.write_all(b"\x13/multistream/1.0.0\n\x07/noi").await.unwrap();
        }
        stalled.push(stream);
    }
    let visitors = [client(), client()];
    assert_answers(&visitors[0], &provider.endpoint()).await;
    visitors[0].shutdown().await;
    provider.service.wait(|seen| seen.gone.len() == 1).await;
    // Who never shook hands never was a visitor.
    drop(stalled);
    assert_answers(&visitors[1], &provider.endpoint()).await;
    visitors[1].shutdown().await;
    let seen = provider.service.wait(|seen| seen.gone.len() == 2).await;
    assert_eq!(seen.gone, visitors.map(|visitor| visitor.peer()));
}

#[tokio::test]
async fn who_connects_without_a_word_keeps_nobody_out() {
    let provider = Provider::start().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(connected(&provider, ELSEWHERE[0]).await);
    }
    // The server accepts in order, so it has seen all of them before this one.
    assert_answers(&client(), &provider.endpoint()).await;
}

#[tokio::test]
async fn strangers_of_many_names_keep_nobody_out() {
    let provider = Provider::start().await;
    let busy = client();
    let held = asking(&busy, provider.endpoint(), about(HELD));
    provider.service.wait(|seen| seen.asked == 1).await;
    let mut strangers = Vec::new();
    for _ in 0..128 {
        let identity = NodeIdentity::generate();
        for _ in 0..2 {
            let stranger = JobClient::start(&identity).unwrap();
            assert_answers(&stranger, &provider.endpoint()).await;
            strangers.push(stranger);
        }
    }
    assert_answers(&client(), &provider.endpoint()).await;
    assert_answers(&strangers[0], &provider.endpoint()).await;
    provider.service.release();
    assert_eq!(patiently(held).await.unwrap().unwrap(), Response::Welcome);
    assert!(!provider.service.seen().gone.contains(&busy.peer()), "it never had to leave");
}

#[tokio::test]
async fn what_is_no_question_is_malformed() {
    let provider = Provider::start().await;
    let mut stranger = stranger::stranger();
    let deep = [b'['; 4096];
    let questions: [&[u8]; 5] =
        [b"what?", b"{}", br#"{"sync":{"job":"0x01"}}"#, br#""profile" "profile""#, &deep];
    for question in questions {
        let answer = stranger::ask(&mut stranger, &provider.endpoint(), question.to_vec()).await;
        let answer: Response = serde_json::from_slice(&answer.unwrap()).unwrap();
        assert_eq!(answer, Response::Denied(Denial::Malformed));
    }
    assert_eq!(provider.service.seen().asked, 0);
    let answer = stranger::ask(&mut stranger, &provider.endpoint(), b"\"profile\"".to_vec()).await;
    let answer: Response = serde_json::from_slice(&answer.unwrap()).unwrap();
    assert_eq!(answer, Response::Profile(stranger.local_peer_id().to_string()));
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let client = client();
    for answer in ["", "what?", "{}", r#"{"state":{}}"#] {
        let endpoint = stranger::answering(answer.as_bytes()).await;
        let error = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap_err();
        assert!(matches!(error, LinkError::NoAnswer { .. }), "{answer}: {}", told(&error));
    }
}

#[tokio::test]
async fn who_asks_is_not_to_be_asked() {
    let (mut stranger, endpoint) = stranger::listening().await;
    let question = asking(&client(), endpoint, Request::Profile);
    let mut channels = Vec::new();
    let refusal = patiently(async {
        loop {
            match stranger.select_next_some().await {
                SwarmEvent::Behaviour(Event::Message {
                    peer,
                    message: Message::Request { channel, .. },
                    ..
                }) => {
                    channels.push(channel);
                    stranger.behaviour_mut().send_request(&peer, b"\"profile\"".to_vec());
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { error, .. }) => return error,
                _ => {}
            }
        }
    })
    .await;
    assert!(matches!(refusal, OutboundFailure::UnsupportedProtocols), "{refusal}");
    question.abort();
}

#[tokio::test]
async fn a_question_that_breaks_the_service_breaks_nothing_else() {
    let provider = Provider::start().await;
    let client = client();
    for _ in 0..40 {
        let answer = patiently(client.ask(&provider.endpoint(), about(BROKEN))).await.unwrap();
        assert_eq!(answer, Response::Denied(Denial::Busy));
    }
    assert_answers(&client, &provider.endpoint()).await;
    client.shutdown().await;
    provider.service.wait(|seen| seen.gone == [client.peer()]).await;
}
