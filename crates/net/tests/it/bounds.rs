//! How much, how many, how large.

use std::{iter, net::Ipv4Addr, sync::Arc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Denial, MAX_MESSAGE, Request, Response, Restore},
};
use roadstead_crypto::NodeIdentity;
use roadstead_net::JobClient;
use roadstead_types::{
    JobId, Receipt, Resources, Signature, SignedReceipt, Timestamp, TokenAmount,
};

use crate::{
    fixture::{
        HELD, LARGE, Provider, about, asking, assert_answers, by_way_of, client, patiently, told,
    },
    stranger,
};

/// The most questions of a peer that a server takes.
const PER_PEER: usize = 32;

/// The most questions that a client has under way to one provider.
const PER_PROVIDER: usize = 24;

/// The most questions that a server takes.
const IN_ALL: usize = 4096;

/// The most connections of one address that a server takes.
const CONNECTIONS_PER_SOURCE: usize = 32;

/// The most connections of a peer that a server takes.
const CONNECTIONS_PER_PEER: usize = 2;

fn receipts(count: usize) -> Request {
    let job = JobId::default();
    let receipt = Receipt {
        job,
        seq: 0,
        from: Timestamp(0),
        to: Timestamp(0),
        total: Resources::default(),
        cumulative: TokenAmount::default(),
        prev: job.0,
    };
    let receipt = SignedReceipt { receipt, signature: Signature([1; Signature::LENGTH]) };
    Request::Restore(Restore { job, receipts: vec![receipt; count], more: false, voucher: None })
}

#[tokio::test]
async fn a_question_may_be_large_but_not_too_large() {
    let provider = Provider::start().await;
    let client = client();
    let one = serde_json::to_vec(&receipts(2)).unwrap().len()
        - serde_json::to_vec(&receipts(1)).unwrap().len();
    let large = receipts(MAX_MESSAGE / one - 1);
    let answer = patiently(client.ask(&provider.endpoint(), large)).await.unwrap();
    assert_eq!(answer, Response::Welcome);
    let too_large = receipts(MAX_MESSAGE / one + 1);
    let error = patiently(client.ask(&provider.endpoint(), too_large)).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{}", told(&error));
    assert_eq!(provider.service.seen().asked, 1);
    assert_answers(&client, &provider.endpoint()).await;
}

#[tokio::test]
async fn a_question_that_is_too_large_is_not_read() {
    let provider = Provider::start().await;
    let mut stranger = stranger::stranger();
    let endpoint = provider.endpoint();
    // Spaces around it leave a question what it is.
    let mut question = br#""profile""#.to_vec();
    question.resize(MAX_MESSAGE, b' ');
    stranger::ask(&mut stranger, &endpoint, question.clone()).await.unwrap();
    for too_large in [MAX_MESSAGE + 1, 16 * MAX_MESSAGE] {
        question.resize(too_large, b' ');
        let answer = stranger::ask(&mut stranger, &endpoint, question.clone()).await;
        // The stream ends without an answer; a codec without rules takes that for an empty one.
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_empty()), "{too_large}");
    }
    assert_eq!(provider.service.seen().asked, 1);
    assert_answers(&client(), &endpoint).await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_sent() {
    let provider = Provider::start().await;
    let client = client();
    let error = patiently(client.ask(&provider.endpoint(), about(LARGE))).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{}", told(&error));
    assert_answers(&client, &provider.endpoint()).await;
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_read() {
    let mut answer = br#""welcome""#.to_vec();
    answer.resize(MAX_MESSAGE, b' ');
    let largest = stranger::answering(&answer).await;
    answer.push(b' ');
    let larger = stranger::answering(&answer).await;
    let client = client();
    let answer = patiently(client.ask(&largest, Request::Profile)).await.unwrap();
    assert_eq!(answer, Response::Welcome);
    let error = patiently(client.ask(&larger, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. }), "{}", told(&error));
    assert!(told(&error).contains(&MAX_MESSAGE.to_string()), "{}", told(&error));
}

#[tokio::test]
async fn a_peer_that_asks_too_much_at_once_is_told_so() {
    let provider = Provider::start().await;
    let identity = NodeIdentity::generate();
    // One alone asks less at once than is borne.
    let greedy =
        [(); CONNECTIONS_PER_PEER].map(|()| Arc::new(JobClient::start(&identity).unwrap()));
    let more = CONNECTIONS_PER_PEER * PER_PROVIDER - PER_PEER;
    let mut asked: FuturesUnordered<_> = greedy
        .iter()
        .flat_map(|client| iter::repeat_n(client, PER_PROVIDER))
        .map(|client| asking(client, provider.endpoint(), about(HELD)))
        .collect();
    for _ in 0..more {
        let answer = patiently(asked.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Response::Denied(Denial::Busy));
    }
    assert_answers(&client(), &provider.endpoint()).await;
    provider.service.wait(|seen| seen.asked == PER_PEER + 1).await;
    provider.service.release();
    while let Some(answer) = patiently(asked.next()).await {
        assert_eq!(answer.unwrap().unwrap(), Response::Welcome);
    }
    assert_answers(&greedy[0], &provider.endpoint()).await;
}

#[tokio::test]
async fn all_peers_together_ask_only_so_much() {
    let provider = Arc::new(Provider::start().await);
    let mut clients = Vec::new();
    for from in 2..=u8::MAX {
        let endpoint = by_way_of(Ipv4Addr::new(127, 0, 0, from), &provider).await;
        clients.extend((0..CONNECTIONS_PER_SOURCE).map(|_| (client(), endpoint.clone())));
        if clients.len() * PER_PROVIDER >= IN_ALL {
            break;
        }
    }
    let questions = clients.iter().flat_map(|visitor| iter::repeat_n(visitor, PER_PROVIDER));
    let mut held: FuturesUnordered<_> = questions
        .take(IN_ALL)
        .map(|(client, endpoint)| asking(client, endpoint.clone(), about(HELD)))
        .collect();
    provider.service.wait(|seen| seen.asked == IN_ALL).await;
    let late = client();
    let answer = patiently(late.ask(&provider.endpoint(), Request::Profile)).await.unwrap();
    assert_eq!(answer, Response::Denied(Denial::Busy));
    provider.service.release();
    while let Some(answer) = patiently(held.next()).await {
        assert_eq!(answer.unwrap().unwrap(), Response::Welcome);
    }
    assert_answers(&late, &provider.endpoint()).await;
}

#[tokio::test]
async fn more_questions_than_a_provider_bears_wait_for_their_turn() {
    let provider = Provider::start().await;
    let client = client();
    let mut asked: FuturesUnordered<_> =
        (0..300).map(|_| asking(&client, provider.endpoint(), about(HELD))).collect();
    provider.service.wait(|seen| seen.asked == PER_PROVIDER).await;
    provider.service.release();
    while let Some(answer) = patiently(asked.next()).await {
        assert_eq!(answer.unwrap().unwrap(), Response::Welcome);
    }
    assert_eq!(provider.service.seen().asked, 300);
}

#[tokio::test]
async fn a_peer_has_only_so_many_connections() {
    let provider = Provider::start().await;
    let identity = NodeIdentity::generate();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_PER_PEER {
        let client = JobClient::start(&identity).unwrap();
        assert_answers(&client, &provider.endpoint()).await;
        clients.push(client);
    }
    let over = JobClient::start(&identity).unwrap();
    let error = patiently(over.ask(&provider.endpoint(), Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::NoAnswer { .. } | LinkError::Unreachable { .. }));
    for client in &clients {
        assert_answers(client, &provider.endpoint()).await;
    }
    assert_answers(&client(), &provider.endpoint()).await;
    assert_eq!(provider.service.seen().gone, []);
}
