//! Questions, answers, and addresses that lead to somebody else or nowhere.

use std::net::TcpListener;

use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_types::Endpoint;

use crate::fixture::{
    HELD, PLAIN, Provider, about, asking, assert_answers, client, patiently, told,
};

#[tokio::test]
async fn a_question_is_answered_to_the_peer_of_the_handshake() {
    let provider = Provider::start().await;
    let client = client();
    assert_answers(&client, &provider.endpoint()).await;
    let answer = patiently(client.ask(&provider.endpoint(), about(PLAIN))).await.unwrap();
    assert_eq!(answer, Response::Welcome);
    assert_eq!(provider.service.seen().asked, 2);
}

#[tokio::test]
async fn a_name_leads_to_a_provider() {
    let provider = Provider::start().await;
    let by_name = provider.endpoint().to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    assert_answers(&client(), &by_name.parse().unwrap()).await;
    let nowhere = by_name.replace("localhost", "nowhere.invalid").parse().unwrap();
    let error = patiently(client().ask(&nowhere, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
}

#[tokio::test]
async fn somebody_else_at_the_address_is_not_asked() {
    let provider = Provider::start().await;
    let other = NodeIdentity::generate();
    let endpoint = other.endpoint(provider.address()).unwrap();
    let client = client();
    let error = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
    let there = format!("the peer there is {}", provider.identity.peer_id());
    assert!(told(&error).ends_with(&there), "{}", told(&error));
    assert_eq!(provider.service.seen().asked, 0);
    assert_answers(&client, &provider.endpoint()).await;
}

#[tokio::test]
async fn an_address_without_a_listener_is_unreachable() {
    let client = client();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peer = NodeIdentity::generate().peer_id();
    let nowhere = [
        (format!("/ip4/127.0.0.1/tcp/{}", closed.port()), "refused"),
        ("/memory/1".to_owned(), "addresses of this kind cannot be dialled"),
    ];
    for (address, reason) in nowhere {
        let endpoint: Endpoint = format!("{address}/p2p/{peer}").parse().unwrap();
        let error = patiently(client.ask(&endpoint, Request::Profile)).await.unwrap_err();
        assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
        assert!(error.to_string().contains(&address), "{error}");
        assert!(told(&error).contains(reason), "{}", told(&error));
    }
}

#[tokio::test]
async fn a_listener_that_never_speaks_is_unreachable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let peer = NodeIdentity::generate().peer_id();
    let endpoint = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}").parse().unwrap();
    let error = patiently(client().ask(&endpoint, Request::Profile)).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
}

#[tokio::test]
async fn a_wrong_address_of_a_peer_does_not_keep_from_the_right_one() {
    let provider = Provider::start().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wrong = format!("/ip4/127.0.0.1/tcp/{}", closed.port()).parse().unwrap();
    let wrong = provider.identity.endpoint(wrong).unwrap();
    let client = client();
    // The wrong one comes first, so the other waits for its end.
    let wrong = asking(&client, wrong, Request::Profile);
    let right = asking(&client, provider.endpoint(), about(PLAIN));
    let error = patiently(wrong).await.unwrap().unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{}", told(&error));
    assert_eq!(patiently(right).await.unwrap().unwrap(), Response::Welcome);
}

#[tokio::test]
async fn a_held_question_keeps_nobody_waiting() {
    let (slow, quick) = (Provider::start().await, Provider::start().await);
    let client = client();
    let held = asking(&client, slow.endpoint(), about(HELD));
    slow.service.wait(|seen| seen.asked == 1).await;
    assert_answers(&client, &slow.endpoint()).await;
    assert_answers(&client, &quick.endpoint()).await;
    assert!(!held.is_finished());
    slow.service.release();
    assert_eq!(patiently(held).await.unwrap().unwrap(), Response::Welcome);
}
