//! The trustless gateway, as its specification has it.

use http_body_util::{BodyExt, Empty};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Bytes, header};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use roadstead_core::ports::ContentStore;
use roadstead_store::{EmbeddedStore, Gateway};
use roadstead_types::Cid;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use crate::fixture::{Block, Graph, embedded, gateway, node, raw, raw_node, sharded_folder};

struct Served {
    gateway: Gateway,
    store: EmbeddedStore,
    graph: Graph,
    home: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// `None` where the body broke off.
    body: Option<Bytes>,
}

async fn served() -> Served {
    let (store, home) = embedded();
    let graph = Graph::sample();
    graph.put(&store).await;
    Served { gateway: gateway(&store).await, store, graph, home }
}

impl Served {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.gateway.url()));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let answer = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[]).await
    }
}

/// The root that a CAR names, and its blocks.
fn read_car(bytes: &[u8]) -> (Cid, Vec<Block>) {
    let mut rest = bytes;
    let header = take(&mut rest);
    let tag = header.windows(2).position(|pair| pair == [0xd8, 0x2a]).unwrap();
    // A long byte string has its length in a byte of its own; before the id stands a zero.
    let at = tag + if header[tag + 2] == 0x58 { 5 } else { 4 };
    let root = Cid::try_from(&header[at..header.len() - 9]).unwrap();
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let mut section = take(&mut rest);
        let cid = Cid::read_bytes(&mut section).unwrap();
        blocks.push((cid, Bytes::copy_from_slice(section)));
    }
    (root, blocks)
}

/// What stands behind a varint of its length.
fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let (mut length, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

#[tokio::test]
async fn a_block_comes_with_the_headers_of_something_that_never_changes() {
    let served = served().await;
    let (cid, block) = &served.graph.blocks[0];
    let path = format!("/ipfs/{cid}?format=raw");
    let answer = served.get(&path).await;
    assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, Some(block)));
    for (name, value) in [
        ("content-type", "application/vnd.ipld.raw"),
        ("content-length", &block.len().to_string()),
        ("content-disposition", &format!("attachment; filename=\"{cid}.bin\"")),
        ("cache-control", "public, max-age=29030400, immutable"),
        ("x-content-type-options", "nosniff"),
        ("etag", &format!("\"{cid}.raw\"")),
        ("x-ipfs-path", &format!("/ipfs/{cid}")),
    ] {
        assert_eq!(answer.headers[name], value, "{name}");
    }
    let head = served.ask(Method::HEAD, &path, &[]).await;
    assert_eq!((head.status, head.body), (StatusCode::OK, Some(Bytes::new())));
    assert_eq!(head.headers["content-length"], block.len().to_string());
    assert_eq!(head.headers["etag"], answer.headers["etag"]);

    let accept = [(header::ACCEPT, "application/vnd.ipld.raw")];
    let by_header = served.ask(Method::GET, &format!("/ipfs/{cid}"), &accept).await;
    assert_eq!(by_header.body.as_ref(), Some(block));
}

#[tokio::test]
async fn a_known_etag_is_not_answered_again() {
    let served = served().await;
    for (form, etag) in [("raw", "\"{}.raw\""), ("car", "W/\"{}.car.all.dfs.n\"")] {
        let root = served.graph.root();
        let etag = etag.replace("{}", &root.to_string());
        let path = format!("/ipfs/{root}?format={form}");
        let known = [(header::IF_NONE_MATCH, etag.as_str())];
        let answer = served.ask(Method::GET, &path, &known).await;
        assert_eq!((answer.status, answer.body), (StatusCode::NOT_MODIFIED, Some(Bytes::new())));
        let any = [(header::IF_NONE_MATCH, "*")];
        assert_eq!(served.ask(Method::GET, &path, &any).await.status, StatusCode::NOT_MODIFIED);
        let other = [(header::IF_NONE_MATCH, "\"other\"")];
        assert_eq!(served.ask(Method::GET, &path, &other).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_car_is_depth_first_without_duplicates_and_names_its_root() {
    let served = served().await;
    let root = served.graph.root();
    let answer = served.get(&format!("/ipfs/{root}?format=car")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let content_type = "application/vnd.ipld.car; version=1; order=dfs; dups=n";
    assert_eq!(answer.headers["content-type"], content_type);
    let disposition = format!("attachment; filename=\"{root}.car\"");
    assert_eq!(answer.headers["content-disposition"], disposition);
    assert_eq!(read_car(&answer.body.unwrap()), (root, served.graph.blocks.clone()));

    let head = served.ask(Method::HEAD, &format!("/ipfs/{root}?format=car"), &[]).await;
    assert_eq!((head.status, head.body), (StatusCode::OK, Some(Bytes::new())));
    assert!(!head.headers.contains_key("content-length"));
}

#[tokio::test]
async fn the_scope_of_a_car_says_how_much_of_the_graph_it_holds() {
    let served = served().await;
    let blocks = &served.graph.blocks;
    for (root, scope, expected) in [
        (0, "block", &blocks[..1]),
        (0, "entity", &blocks[..1]),
        (0, "all", &blocks[..]),
        (1, "block", &blocks[1..2]),
        (1, "entity", &blocks[1..5]),
        (2, "entity", &blocks[2..3]),
        (2, "all", &blocks[2..3]),
    ] {
        let root = blocks[root].0;
        let answer = served.get(&format!("/ipfs/{root}?format=car&dag-scope={scope}")).await;
        assert_eq!(read_car(&answer.body.unwrap()), (root, expected.to_vec()), "{root} {scope}");
        assert!(answer.headers["etag"].to_str().unwrap().contains(scope));
    }
}

#[tokio::test]
async fn a_sharded_folder_has_no_entity_but_its_blocks_are_served() {
    let served = served().await;
    let below = (served.graph.blocks[2].0, 3);
    let folder = sharded_folder(&[below]);
    served.store.put(&folder.0, folder.1.clone()).await.unwrap();
    let senseless = raw_node(b"no node");
    served.store.put(&senseless.0, senseless.1).await.unwrap();
    for (root, status) in [(folder.0, 501), (senseless.0, 500)] {
        let path = format!("/ipfs/{root}?format=car&dag-scope=entity");
        for method in [Method::GET, Method::HEAD] {
            let answer = served.ask(method.clone(), &path, &[]).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        }
    }
    let expected = [folder.clone(), served.graph.blocks[2].clone()];
    for (scope, blocks) in [("block", &expected[..1]), ("all", &expected[..])] {
        let path = format!("/ipfs/{}?format=car&dag-scope={scope}", folder.0);
        let answer = served.get(&path).await;
        assert_eq!(read_car(&answer.body.unwrap()), (folder.0, blocks.to_vec()), "{scope}");
    }
}

/// More than the buffers of two sockets hold.
fn large() -> Graph {
    let leaves: Vec<Block> = (0..24_u8).map(|number| raw(vec![number; 1 << 20])).collect();
    let claims: Vec<_> = leaves.iter().map(|(cid, _)| (*cid, 1 << 20)).collect();
    Graph { blocks: [node(&claims)].into_iter().chain(leaves).collect() }
}

#[tokio::test]
async fn a_peer_has_a_few_streams_at_a_time_and_others_have_theirs() {
    let (store, _home) = embedded();
    let graph = large();
    graph.put(&store).await;
    let gateway = gateway(&store).await;
    let begin = async |peer: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(peer.parse().unwrap()).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(gateway.local_addr()).await.unwrap();
        let request = format!("GET /ipfs/{}?format=car HTTP/1.1\r\nHost: x\r\n\r\n", graph.root());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        let (stream, status) = begin("127.0.0.1:0").await;
        assert_eq!(status, "HTTP/1.1 200");
        held.push(stream);
    }
    assert_eq!(begin("127.0.0.1:0").await.1, "HTTP/1.1 503");
    for peer in ["127.0.0.2:0", "127.0.0.3:0", "127.0.0.4:0"] {
        for _ in 0..4 {
            let (stream, status) = begin(peer).await;
            assert_eq!(status, "HTTP/1.1 200");
            held.push(stream);
        }
    }
    assert_eq!(begin("127.0.0.5:0").await.1, "HTTP/1.1 503", "that is all of them");
    held.clear();
    while begin("127.0.0.5:0").await.1 != "HTTP/1.1 200" {}
}

#[tokio::test]
async fn a_car_with_a_missing_block_breaks_off() {
    let served = served().await;
    let root = served.graph.root();
    let (store, home) = embedded();
    for (cid, block) in served.graph.blocks.iter().take(4) {
        store.put(cid, block.clone()).await.unwrap();
    }
    let gateway = gateway(&store).await;
    let part = Served { gateway, store, graph: served.graph.clone(), home };
    // Where the break comes before the head was sent, there is not even that.
    let request = format!("{}/ipfs/{root}?format=car", part.gateway.url()).parse().unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let whole = match client.get(request).await {
        Ok(answer) => answer.into_body().collect().await.is_ok(),
        Err(_) => false,
    };
    assert!(!whole);
}

#[tokio::test]
async fn what_is_not_served_is_refused_with_its_own_status() {
    let served = served().await;
    let root = served.graph.root();
    let (missing, _) = raw("missing");
    for (path, status) in [
        (format!("/ipfs/{missing}?format=raw"), 404),
        (format!("/ipfs/{missing}?format=car"), 404),
        ("/ipfs/QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n?format=raw".into(), 404),
        ("/ipfs/nonsense?format=raw".into(), 400),
        (format!("/ipfs/{root}"), 400),
        (format!("/ipfs/{root}?format=tar"), 406),
        (format!("/ipfs/{root}?format=car&car-dups=y"), 406),
        (format!("/ipfs/{root}?format=car&entity-bytes=0:1"), 501),
        (format!("/ipfs/{root}/0000?format=car"), 501),
        (format!("/ipfs/{root}/..%2f..%2fetc%2fpasswd?format=raw"), 501),
        ("/ipfs/..%2f..%2fpins?format=raw".into(), 400),
        ("/ipns/example.com".into(), 404),
        ("/".into(), 404),
    ] {
        assert_eq!(served.get(&path).await.status.as_u16(), status, "{path}");
    }
    let page = [(header::ACCEPT, "text/html,*/*;q=0.8")];
    let answer = served.ask(Method::GET, &format!("/ipfs/{root}"), &page).await;
    assert_eq!(answer.status, StatusCode::NOT_ACCEPTABLE);
    let cached = [(header::CACHE_CONTROL, "only-if-cached")];
    let answer = served.ask(Method::GET, &format!("/ipfs/{missing}?format=raw"), &cached).await;
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED);
    let answer = served.ask(Method::POST, &format!("/ipfs/{root}?format=raw"), &[]).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn clients_that_look_for_a_gateway_find_one() {
    let served = served().await;
    let answer = served.get("/ipfs/bafkqaaa?format=raw").await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Some(Bytes::new())));
    let answer = served.get("/ipfs/bafkqaaa?format=car").await;
    let probe: Cid = "bafkqaaa".parse().unwrap();
    assert_eq!(read_car(&answer.body.unwrap()), (probe, Vec::new()));
}

#[tokio::test]
async fn a_damaged_block_is_not_served() {
    let served = served().await;
    let (cid, block) = &served.graph.blocks[2];
    let shard = format!("{:02x}", cid.hash().digest()[0]);
    let path = served.home.path().join("blocks").join(shard).join(cid.to_string());
    assert_eq!(std::fs::read(&path).unwrap(), *block);
    std::fs::write(&path, b"0ne").unwrap();
    let answer = served.get(&format!("/ipfs/{cid}?format=raw")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(!served.store.has(cid).await.unwrap());
}
