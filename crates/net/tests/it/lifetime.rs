//! Beginnings and ends of servers, clients, connections and questions.

use std::{net::TcpListener, sync::Arc};

use futures_util::StreamExt;
use libp2p::{
    request_response::{Event, Message},
    swarm::SwarmEvent,
};
use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_net::{JobClient, JobServer, ListenError};
use roadstead_types::Endpoint;
use tokio::sync::watch;

use crate::{
    fixture::{HELD, Provider, Service, about, asking, assert_answers, client, patiently, told},
    stranger,
};

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let provider = Provider::start().await;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let others = format!("/ip4/127.0.0.1/tcp/{}", other.local_addr().unwrap().port());
    let taken = [provider.address().to_string(), others];
    for address in taken {
        let service = Arc::new(Service::default());
        let again = JobServer::listen(&provider.identity, address.parse().unwrap(), service).await;
        let error = again.unwrap_err();
        assert!(matches!(error, ListenError::Address { .. }), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
        assert!(told(&error).contains("in use"), "{}", told(&error));
    }
    assert_answers(&client(), &provider.endpoint()).await;
}

#[tokio::test]
async fn only_an_address_of_this_machine_and_of_tcp_can_be_listened_on() {
    let provider = Provider::start().await;
    for address in ["/ip4/192.0.2.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1"] {
        let service = Arc::new(Service::default());
        let address = address.parse().unwrap();
        let listening = JobServer::listen(&provider.identity, address, service).await;
        assert!(matches!(listening, Err(ListenError::Address { .. })));
    }
}

#[tokio::test]
async fn all_networks_of_the_machine_can_be_listened_on() {
    let provider = Provider::start().await;
    let service = Arc::new(Service::default());
    let everywhere = "/ip4/0.0.0.0/tcp/0".parse().unwrap();
    let server = JobServer::listen(&provider.identity, everywhere, service).await.unwrap();
    assert!(!server.addresses().is_empty());
    assert_answers(&client(), &server.endpoint()).await;
}

#[tokio::test]
async fn a_peer_is_gone_once_its_last_connection_is() {
    let provider = Provider::start().await;
    let (first, second) = (client(), client());
    assert_answers(&first, &provider.endpoint()).await;
    assert_answers(&second, &provider.endpoint()).await;
    first.shutdown().await;
    provider.service.wait(|seen| !seen.gone.is_empty()).await;
    assert_answers(&second, &provider.endpoint()).await;
    second.shutdown().await;
    let seen = provider.service.wait(|seen| seen.gone.len() == 2).await;
    assert_eq!(seen.gone, [first.peer(), second.peer()]);
}

#[tokio::test]
async fn a_peer_is_not_gone_while_another_connection_stays() {
    let provider = Provider::start().await;
    let identity = NodeIdentity::generate();
    let (closed, kept) =
        (JobClient::start(&identity).unwrap(), JobClient::start(&identity).unwrap());
    assert_answers(&closed, &provider.endpoint()).await;
    assert_answers(&kept, &provider.endpoint()).await;
    closed.shutdown().await;
    // Takes the place of the closed connection, so the server has seen it close.
    let next = JobClient::start(&identity).unwrap();
    patiently(async { while next.ask(&provider.endpoint(), Request::Profile).await.is_err() {} })
        .await;
    assert_eq!(provider.service.seen().gone, []);
    kept.shutdown().await;
    next.shutdown().await;
    let seen = provider.service.wait(|seen| !seen.gone.is_empty()).await;
    assert_eq!(seen.gone, [identity.peer_id()]);
}

#[tokio::test]
async fn a_peer_is_gone_after_the_last_of_its_questions() {
    let provider = Provider::start().await;
    let (held, other) = (client(), client());
    let question = asking(&held, provider.endpoint(), about(HELD));
    provider.service.wait(|seen| seen.asked == 1).await;
    held.shutdown().await;
    assert!(patiently(question).await.unwrap().is_err());
    assert_answers(&other, &provider.endpoint()).await;
    other.shutdown().await;
    let seen = provider.service.wait(|seen| seen.gone.contains(&other.peer())).await;
    assert_eq!(seen.gone, [other.peer()], "the other's question is still under way");
    provider.service.release();
    let seen = provider.service.wait(|seen| seen.gone.contains(&held.peer())).await;
    assert_eq!((seen.answered, seen.gone.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_question_finds_a_server_that_was_restarted() {
    let Provider { identity, service, mut server } = Provider::start().await;
    let address = server.addresses().remove(0);
    let endpoint = server.endpoint();
    let client = client();
    for _ in 0..10 {
        assert_answers(&client, &endpoint).await;
        server.shutdown().await;
        server = JobServer::listen(&identity, address.clone(), service.clone()).await.unwrap();
    }
    assert_answers(&client, &endpoint).await;
}

#[tokio::test]
async fn a_server_that_is_dropped_ends() {
    let Provider { service, server, .. } = Provider::start().await;
    let endpoint = server.endpoint();
    let client = client();
    let held = asking(&client, endpoint.clone(), about(HELD));
    service.wait(|seen| seen.asked == 1).await;
    drop(server);
    let error = patiently(held).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. } | LinkError::Unreachable { .. }));
    let error = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
}

#[tokio::test]
async fn shutting_down_ends_the_questions_that_are_held() {
    let provider = Provider::start().await;
    let client = client();
    let held: Vec<_> = (0..3).map(|_| asking(&client, provider.endpoint(), about(HELD))).collect();
    provider.service.wait(|seen| seen.asked == 3).await;
    patiently(provider.server.shutdown()).await;
    // The task and its service are gone: nobody else holds it.
    assert_eq!(Arc::strong_count(&provider.service), 1);
    for question in held {
        patiently(question).await.unwrap().unwrap_err();
    }
    assert_eq!(provider.service.seen().answered, 0);
}

#[tokio::test]
async fn a_question_can_be_forgotten() {
    let provider = Provider::start().await;
    let client = client();
    let held = asking(&client, provider.endpoint(), about(HELD));
    provider.service.wait(|seen| seen.asked == 1).await;
    held.abort();
    assert!(patiently(held).await.unwrap_err().is_cancelled());
    assert_answers(&client, &provider.endpoint()).await;
    provider.service.release();
    provider.service.wait(|seen| seen.answered == 2).await;
    assert_answers(&client, &provider.endpoint()).await;
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_is_not_asked() {
    let provider = Provider::start().await;
    let client = client();
    // The first step of a question hands it over; the runtime has no other thread that could take it up meanwhile.
    let endpoint = provider.endpoint();
    let mut question = Box::pin(client.ask(&endpoint, about(HELD)));
    assert!(futures_util::poll!(question.as_mut()).is_pending());
    drop(question);
    assert_answers(&client, &endpoint).await;
    assert_eq!(provider.service.seen().asked, 1);
}

#[tokio::test]
async fn a_client_that_is_shut_down_answers_at_once() {
    let provider = Provider::start().await;
    let client = client();
    let held = asking(&client, provider.endpoint(), about(HELD));
    provider.service.wait(|seen| seen.asked == 1).await;
    patiently(client.shutdown()).await;
    let error = patiently(held).await.unwrap().unwrap_err();
    assert!(told(&error).contains("shut down"), "{}", told(&error));
    let error = patiently(client.ask(&provider.endpoint(), Request::Profile)).await.unwrap_err();
    assert!(told(&error).contains("shut down"), "{}", told(&error));
}

/// A provider that hangs up on the first questions and welcomes the next.
async fn hanging_up(times: usize) -> (Endpoint, watch::Receiver<usize>) {
    let (mut stranger, endpoint) = stranger::listening().await;
    let (asked, count) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(Event::Message {
                peer,
                message: Message::Request { channel, .. },
                ..
            }) = stranger.select_next_some().await
            {
                asked.send_modify(|asked| *asked += 1);
                if *asked.borrow() <= times {
                    stranger.disconnect_peer_id(peer).unwrap();
                } else {
                    let welcome = br#""welcome""#.to_vec();
                    stranger.behaviour_mut().send_response(channel, welcome).unwrap();
                }
            }
        }
    });
    (endpoint, count)
}

#[tokio::test]
async fn a_question_that_its_connection_took_along_is_asked_once_more() {
    let (endpoint, asked) = hanging_up(1).await;
    let answer = patiently(client().ask(&endpoint, Request::Profile)).await.unwrap();
    assert_eq!((answer, *asked.borrow()), (Response::Welcome, 2));

    let (endpoint, asked) = hanging_up(2).await;
    let client = client();
    let error = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{}", told(&error));
    assert_eq!(*asked.borrow(), 2);
    let answer = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap();
    assert_eq!(answer, Response::Welcome);
}
