//! Gateways that lie, dawdle, or never stop.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use roadstead_core::ports::{BlockSource, ContentError, ContentStore, Sources};
use roadstead_store::{FetchLimits, GatewaySource, GatewaySources, SourcePolicy, fetch};
use roadstead_types::content::MAX_BLOCK;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use crate::fixture::{ANY, Graph, embedded, gateway, raw, strange};

fn source(url: &str) -> GatewaySource {
    GatewaySources::new(SourcePolicy::Development).gateway(url).unwrap()
}

/// A server that answers everything on a connection with these bytes, and then keeps it open.
async fn blunt(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&answer).await;
                std::future::pending::<()>().await;
            });
        }
    });
    url
}

#[tokio::test]
async fn other_bytes_are_a_mismatch() {
    let url = strange(|_| async { "something else".into_response() }).await;
    let error = source(&url).get(&raw("block").0).await.unwrap_err();
    assert!(matches!(&error, ContentError::Mismatch { place, .. } if *place == url), "{error}");
}

#[tokio::test]
async fn a_block_without_end_is_not_read() {
    let endless = strange(|_| async {
        let piece = Bytes::from_static(&[0; 65536]);
        Body::from_stream(stream::repeat(piece).map(Ok::<_, Infallible>)).into_response()
    });
    let (largest, block) = raw(vec![1; MAX_BLOCK]);
    let exact = strange(move |_| std::future::ready(block.clone().into_response())).await;
    let long = strange(|_| async { vec![1; MAX_BLOCK + 1].into_response() }).await;
    for url in [endless.await, long] {
        // The block may be smaller elsewhere.
        let error = source(&url).get(&largest).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
        let reason = std::error::Error::source(&error).unwrap().to_string();
        assert!(reason.contains("more than"), "{reason}");
    }
    assert!(source(&exact).get(&largest).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_dawdles_is_not_waited_for() {
    let silent = strange(|_| std::future::pending::<Response>()).await;
    let halting = strange(|_| async {
        let first =
            stream::once(std::future::ready(Ok::<_, Infallible>(Bytes::from_static(b"bl"))));
        Body::from_stream(first.chain(stream::pending())).into_response()
    });
    let mute = blunt(Vec::new()).await;
    for url in [silent, halting.await, mute] {
        let begun = Instant::now();
        let error = source(&url).get(&raw("block").0).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
        let waited = begun.elapsed();
        assert!((30..=31).contains(&waited.as_secs()), "{waited:?} for {url}");
    }
}

/// A gateway that gives a block of this many bytes one by one, each after the same pause.
async fn dripping(bytes: u64, pause: Duration) -> String {
    strange(move |_| {
        let drops = stream::iter(0..bytes).then(move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Bytes::from_static(b"x"))
        });
        std::future::ready(Body::from_stream(drops).into_response())
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_slow_gateway_is_waited_for_while_it_gives_but_not_for_ever() {
    let (cid, block) = raw(vec![b'x'; 20]);
    let begun = Instant::now();
    let slow = source(&dripping(20, Duration::from_secs(10)).await);
    assert_eq!(slow.get(&cid).await.unwrap(), Some(block));
    assert!(begun.elapsed() >= Duration::from_secs(200));

    let begun = Instant::now();
    let endless = source(&dripping(1 << 20, Duration::from_secs(10)).await);
    let error = endless.get(&cid).await.unwrap_err();
    assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    let waited = begun.elapsed();
    assert!((599..=601).contains(&waited.as_secs()), "{waited:?}");
}

#[tokio::test]
async fn only_not_found_means_that_it_is_not_there() {
    let url = strange(|_| async { StatusCode::NOT_FOUND.into_response() }).await;
    assert_eq!(source(&url).get(&raw("block").0).await.unwrap(), None);
    for status in [204, 206, 304, 400, 403, 410, 429, 500, 504] {
        let status = StatusCode::from_u16(status).unwrap();
        let url = strange(move |_| std::future::ready((status, "").into_response())).await;
        let error = source(&url).get(&raw("").0).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{status}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (store, _home) = embedded();
    let (cid, block) = raw("block");
    store.put(&cid, block).await.unwrap();
    let target = gateway(&store).await;
    let url = target.url();
    for status in [301, 302, 303, 307, 308] {
        let status = StatusCode::from_u16(status).unwrap();
        let location = format!("{url}/ipfs/{cid}?format=raw");
        let redirecting = strange(move |_| {
            std::future::ready((status, [(header::LOCATION, location.clone())]).into_response())
        });
        let error = source(&redirecting.await).get(&cid).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{status}: {error}");
    }
    assert!(source(&url).get(&cid).await.unwrap().is_some());
}

#[tokio::test]
async fn answers_that_are_no_http_are_errors() {
    let mut headers = b"HTTP/1.1 200 OK\r\n".to_vec();
    headers.extend(b"X: x\r\n".repeat(100));
    for answer in [
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        headers.into_iter().chain(*b"\r\n").collect(),
        [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat(),
    ] {
        let error = source(&blunt(answer).await).get(&raw("block").0).await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_announced_length_reserves_nothing_and_proves_nothing() {
    let (cid, _) = raw("block");
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nblock".to_vec();
    let error = source(&blunt(short).await).get(&cid).await.unwrap_err();
    assert!(matches!(error, ContentError::Mismatch { .. }), "{error}");
    let listener = TcpListener::bind(ANY).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\nblo")
            .await
            .unwrap();
    });
    let error = source(&url).get(&cid).await.unwrap_err();
    assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn ids_of_others_are_not_even_asked_for() {
    let url = strange(|cid| async move { panic!("asked for {cid}") }).await;
    let error = source(&url).get(&"bafkqaaa".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ContentError::Unsupported { .. }), "{error}");
}

#[tokio::test]
async fn under_the_public_policy_this_machine_is_not_asked() {
    let (store, _home) = embedded();
    let gateway = gateway(&store).await;
    let sources = GatewaySources::new(SourcePolicy::Public);
    for address in [gateway.url(), gateway.url().replace("http", "https")] {
        assert!(matches!(sources.open(&address), Err(ContentError::Refused { .. })), "{address}");
    }
}

#[tokio::test]
async fn a_good_gateway_behind_bad_ones_is_enough() {
    let graph = Graph::sample();
    let (store, _home) = embedded();
    graph.put(&store).await;
    let good = gateway(&store).await;
    let liar = strange(|_| async { "lie".into_response() }).await;
    let closed = {
        let listener = TcpListener::bind(ANY).await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let sources = GatewaySources::new(SourcePolicy::Development);
    let sources = [liar, closed, good.url()].map(|url| sources.open(&url).unwrap());
    let (into, _into_home) = embedded();
    let limits = FetchLimits { bytes: 1 << 20, blocks: 100, depth: 8 };
    fetch(&graph.root(), &sources, &into, &limits, &|_| {}).await.unwrap();
    assert!(graph.is_in(&into).await);
}
