//! The HTTP server itself: who it listens to, and how it starts and stops.

use std::net::SocketAddr;
use std::time::Duration;

use roadstead_devchain::{Mining, ServeError, serve};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fixture::{chain, served};

/// Sends one request with these header lines, and returns the status and the body.
async fn post(address: SocketAddr, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (head, body) = exchange("POST", address, headers, body).await;
    (head[9..12].parse().unwrap(), body)
}

/// Sends one request, and returns the head of the answer and its body.
async fn exchange(
    method: &str,
    address: SocketAddr,
    headers: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!(
        "{method} / HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer and hang up before it has read everything.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let body = answer.split_off(head + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

const QUESTION: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;

#[tokio::test]
async fn only_programs_on_this_machine_are_answered() {
    let server = served(&chain(Mining::Manual)).await;
    let address = server.local_addr();
    let own = format!("Host: {address}\r\n");
    for headers in [
        own.clone(),
        "Host: localhost\r\n".to_owned(),
        "Host: [::1]:8545\r\n".to_owned(),
        format!("{own}Origin: http://localhost:3000\r\n"),
        format!("{own}Origin: http://127.0.0.1\r\n"),
    ] {
        let (status, body) = post(address, &headers, QUESTION).await;
        assert_eq!(status, 200, "{headers}");
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": "0x7a69"}));
    }
    for headers in [
        String::new(),
        "Host: rebound.example:8545\r\n".to_owned(),
        "Host: 10.0.0.1\r\n".to_owned(),
        format!("{own}Origin: https://shop.example\r\n"),
        format!("{own}Origin: null\r\n"),
        format!("{own}Origin: http://127.0.0.1.shop.example\r\n"),
        format!("{own}Origin: http://localhost\r\nOrigin: https://shop.example\r\n"),
    ] {
        let (status, _) = post(address, &headers, QUESTION).await;
        assert!(status == 403 || (headers.is_empty() && status == 400), "{status}: {headers}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_page_from_this_machine_may_read_the_answers() {
    let server = served(&chain(Mining::Manual)).await;
    let address = server.local_addr();
    let from = |origin: &str| format!("Host: {address}\r\nOrigin: {origin}\r\n");
    let page = from("http://localhost:3000");
    let allowed = "\r\naccess-control-allow-origin: http://localhost:3000\r\n";
    let ask =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    let (head, _) = exchange("OPTIONS", address, &format!("{page}{ask}"), b"").await;
    assert!(head.starts_with("http/1.1 204"), "{head}");
    assert!(head.contains(allowed) && head.contains("vary: origin"), "{head}");
    assert!(head.contains("\r\naccess-control-allow-methods: post\r\n"), "{head}");
    assert!(head.contains("\r\naccess-control-allow-headers: content-type\r\n"), "{head}");
    let (head, body) = exchange("POST", address, &page, QUESTION).await;
    assert!(head.starts_with("http/1.1 200") && head.contains(allowed), "{head}");
    assert!(!body.is_empty());

    let foreign = from("https://shop.example");
    let (head, _) = exchange("OPTIONS", address, &format!("{foreign}{ask}"), b"").await;
    assert!(head.starts_with("http/1.1 403") && !head.contains("access-control"), "{head}");
    let (head, _) = exchange("OPTIONS", address, &format!("Host: {address}\r\n"), b"").await;
    assert!(head.starts_with("http/1.1 405") && !head.contains("access-control"), "{head}");
    server.shutdown().await;
}

/// A client that was asked for the body it announced, and sends none.
async fn silent(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Waits until the server has hung up.
async fn hung_up(mut stream: TcpStream) {
    let end = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test]
async fn a_dropped_server_hangs_up_on_everybody() {
    let server = served(&chain(Mining::Manual)).await;
    let idle = TcpStream::connect(server.local_addr()).await.unwrap();
    let reading = silent(server.local_addr()).await;
    drop(server);
    hung_up(reading).await;
    hung_up(idle).await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_silent_client_for_ever() {
    let server = served(&chain(Mining::Manual)).await;
    let reading = silent(server.local_addr()).await;
    tokio::time::timeout(Duration::from_secs(30), server.shutdown()).await.unwrap();
    hung_up(reading).await;
}

#[tokio::test]
async fn a_request_has_a_size_limit() {
    let server = served(&chain(Mining::Manual)).await;
    let address = server.local_addr();
    let headers = format!("Host: {address}\r\n");
    let (status, _) = post(address, &headers, &vec![b' '; 5 * 1024 * 1024 + 1]).await;
    assert_eq!(status, 413);
    let (status, body) = post(address, &headers, QUESTION).await;
    assert_eq!((status, body.is_empty()), (200, false));
    server.shutdown().await;
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_address() {
    let server = served(&chain(Mining::Manual)).await;
    let error = serve(chain(Mining::Manual), server.local_addr()).await.unwrap_err();
    let expected = format!("cannot listen on {}", server.local_addr());
    assert_eq!(error.to_string(), expected);
    let ServeError::Bind { address, .. } = error else { panic!("{error}") };
    assert_eq!(address, server.local_addr());
    server.shutdown().await;
}

#[tokio::test]
async fn after_shutdown_the_port_is_free() {
    let server = served(&chain(Mining::Manual)).await;
    let address = server.local_addr();
    server.shutdown().await;
    serve(chain(Mining::Manual), address).await.unwrap().shutdown().await;
}
