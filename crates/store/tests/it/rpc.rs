//! Who may use the loopback RPC, and in what words it refuses.

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, header};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use roadstead_core::ports::ContentStore;
use roadstead_store::{EmbeddedStore, LoopbackRpc, RpcError};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ANY, embedded, raw};

async fn serve() -> (LoopbackRpc, EmbeddedStore, TempDir) {
    let (store, home) = embedded();
    let rpc =
        LoopbackRpc::serve(store.clone(), None, ANY, &CancellationToken::new()).await.unwrap();
    (rpc, store, home)
}

async fn ask(
    rpc: &LoopbackRpc,
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &str)],
    body: impl Into<Bytes>,
) -> (u16, String) {
    let mut request = Request::builder().method(method).uri(format!("{}/api/v0/{path}", rpc.url()));
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}

/// An id that this market does not use.
const FOREIGN: &str = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";

#[tokio::test]
async fn a_failure_of_the_disk_is_told_with_its_cause() {
    let (rpc, store, home) = serve().await;
    let (cid, block) = raw("here");
    store.put(&cid, block).await.unwrap();
    let shard = format!("{:02x}", cid.hash().digest()[0]);
    let file = home.path().join("blocks").join(shard).join(cid.to_string());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let (status, body) = ask(&rpc, Method::POST, &format!("block/get?arg={cid}"), &[], "").await;
    assert_eq!(status, 500);
    assert!(body.contains("read failed: Is a directory"), "{body}");
}

#[tokio::test]
async fn it_listens_for_this_machine_alone() {
    let (store, _home) = embedded();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let (address, stop) = (address.parse().unwrap(), CancellationToken::new());
        let served = LoopbackRpc::serve(store.clone(), None, address, &stop).await;
        assert!(matches!(served, Err(RpcError::NotLoopback { .. })), "{address}");
    }
}

#[tokio::test]
async fn what_a_web_page_can_send_is_refused() {
    let (rpc, _store, _home) = serve().await;
    for (name, value) in [
        (header::ORIGIN, "http://127.0.0.1:8080"),
        (header::ORIGIN, "null"),
        (header::REFERER, "http://localhost/"),
        (header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64)"),
        (header::HOST, "attacker.example"),
        (header::HOST, "127.0.0.1.attacker.example"),
        (header::HOST, "10.0.0.1"),
    ] {
        let (status, _) = ask(&rpc, Method::POST, "version", &[(name.clone(), value)], "").await;
        assert_eq!(status, 403, "{name}: {value}");
    }
    for host in ["localhost:5001", "127.0.0.1", "[::1]:5001"] {
        let (status, _) = ask(&rpc, Method::POST, "version", &[(header::HOST, host)], "").await;
        assert_eq!(status, 200, "{host}");
    }
    for method in [Method::GET, Method::PUT, Method::OPTIONS] {
        assert_eq!(ask(&rpc, method.clone(), "version", &[], "").await.0, 405, "{method}");
    }
    assert_eq!(ask(&rpc, Method::POST, "config/show", &[], "").await.0, 404);
}

#[tokio::test]
async fn errors_are_in_the_form_of_kubo() {
    let (rpc, store, _home) = serve().await;
    let (missing, _) = raw("missing");
    let (cid, block) = raw("here");
    store.put(&cid, block).await.unwrap();
    for (path, status, code, part) in [
        ("block/get".to_owned(), 400, 1, "required"),
        ("block/get?arg=nonsense".to_owned(), 400, 1, "invalid path"),
        (format!("block/get?arg={missing}"), 500, 0, "could not find"),
        (format!("block/stat?arg={missing}"), 500, 0, "could not find"),
        (format!("block/get?arg={FOREIGN}"), 400, 1, "not a version 1 id"),
        (format!("pin/add?arg={FOREIGN}"), 400, 1, "not a version 1 id"),
        (format!("pin/add?arg={missing}"), 500, 0, "could not find"),
        (format!("pin/add?arg={cid}&recursive=false"), 400, 1, "whole graphs"),
        (format!("pin/rm?arg={cid}"), 500, 0, "not pinned"),
        (format!("pin/ls?arg={cid}"), 500, 0, "not pinned"),
        ("pin/ls?type=direct".to_owned(), 400, 1, "whole graphs"),
        ("block/put?format=cbor".to_owned(), 400, 1, "format cbor"),
        ("block/put?mhtype=blake3".to_owned(), 400, 1, "hash"),
        ("block/put?pin=true".to_owned(), 400, 1, "pin/add"),
        ("block/put".to_owned(), 400, 1, "multipart"),
    ] {
        let (found, body) = ask(&rpc, Method::POST, &path, &[], "").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let message = body["Message"].as_str().unwrap();
        assert_eq!(
            (found, &body["Code"], &body["Type"]),
            (status, &json!(code), &json!("error")),
            "{path}"
        );
        assert!(message.contains(part), "{path}: {message}");
    }
}

#[tokio::test]
async fn a_block_by_its_path_and_a_pin_by_its_name_are_found() {
    let (rpc, store, _home) = serve().await;
    let (cid, block) = raw("here");
    store.put(&cid, block).await.unwrap();
    store.pin(&cid).await.unwrap();
    let got = ask(&rpc, Method::POST, &format!("block/get?arg=/ipfs/{cid}"), &[], "").await;
    assert_eq!(got, (200, "here".to_owned()));
    let (status, body) = ask(&rpc, Method::POST, &format!("pin/ls?arg={cid}"), &[], "").await;
    let keys = json!({"Keys": {cid.to_string(): {"Type": "recursive", "Name": ""}}});
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, keys));
}

#[tokio::test]
async fn a_body_larger_than_a_block_is_not_read() {
    let (rpc, _store, _home) = serve().await;
    let form = [(header::CONTENT_TYPE, "multipart/form-data; boundary=x")];
    let body = vec![b'x'; 3 << 20];
    let (status, _) = ask(&rpc, Method::POST, "block/put", &form, body).await;
    assert_eq!(status, 413);
}
