//! A real Kubo daemon with a repository of its own, and what it makes of our graphs.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use roadstead_core::ports::{BlockSource, ContentError, ContentStore, Sources};
use roadstead_store::{FetchLimits, GatewaySources, KuboStore, LoopbackRpc, SourcePolicy, fetch};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ANY, Graph, embedded, gateway, raw};

/// A daemon without a network. Dropped, it is killed.
pub(crate) struct Daemon {
    process: Child,
    home: TempDir,
    url: String,
}

impl Daemon {
    /// Starts one where `KUBO_BINARY` names the program.
    pub(crate) fn start() -> Option<Self> {
        let binary = env::var_os("KUBO_BINARY")?;
        let home = tempfile::tempdir().unwrap();
        let init = command(&binary, home.path(), &["init", "--profile=test"]).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let mut daemon = command(&binary, home.path(), &["daemon", "--offline"]);
        let mut process = daemon.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Daemon is ready") {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the daemon ended");
        }
        // It must not stop on a full pipe.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        let url = address(&home.path().join("api"));
        Some(Self { process, home, url })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Changes its configuration, which it reads again for whoever asks for it.
    fn configure(&self, key: &str, value: &str) {
        let binary = env::var_os("KUBO_BINARY").unwrap();
        let set = command(&binary, self.home.path(), &["config", key, value]).status().unwrap();
        assert!(set.success());
    }

    fn gateway(&self) -> String {
        fs::read_to_string(self.home.path().join("gateway")).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(binary: &OsString, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).env("IPFS_PATH", home).stdin(Stdio::null());
    command
}

/// The URL of the multiaddress in a file.
fn address(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let parts: Vec<&str> = text.trim().split('/').collect();
    format!("http://{}:{}", parts[2], parts[4])
}

#[tokio::test]
async fn a_graph_in_kubo_is_fetched_from_its_gateway_and_kubo_fetches_no_other_ids() {
    let Some(daemon) = Daemon::start() else { return };
    let kubo = KuboStore::new(daemon.url()).unwrap();
    assert!(!kubo.version().await.unwrap().is_empty());
    let graph = Graph::sample();
    let limits = FetchLimits { bytes: 1 << 20, blocks: 100, depth: 8 };

    // What is missing is named, however deep.
    let missing = graph.blocks[6].0;
    for (cid, block) in &graph.blocks[..6] {
        kubo.put(cid, block.clone()).await.unwrap();
    }
    let error = kubo.pin(&graph.root()).await.unwrap_err();
    assert!(matches!(error, ContentError::Absent { cid } if cid == missing), "{error}");

    // From ours to Kubo, and from Kubo's own gateway back.
    let (from, _from_home) = embedded();
    graph.put(&from).await;
    let ours = gateway(&from).await;
    let sources = GatewaySources::new(SourcePolicy::Development);
    let source = sources.open(&ours.url()).unwrap();
    fetch(&graph.root(), &[source], &kubo, &limits, &|_| {}).await.unwrap();
    assert_eq!(kubo.pins().await.unwrap(), [graph.root()]);
    let (into, _into_home) = embedded();
    let source = sources.open(&daemon.gateway()).unwrap();
    fetch(&graph.root(), &[source], &into, &limits, &|_| {}).await.unwrap();
    assert!(graph.is_in(&into).await);
}

#[tokio::test]
async fn an_address_that_is_no_daemon_is_refused() {
    for url in [
        "",
        "127.0.0.1:5001",
        "https://127.0.0.1:5001",
        "http://127.0.0.1:5001#x",
        "http://127.0.0.1:5001/api/v0",
        "http://127.0.0.1:5001?x=y",
        "/ip4/127.0.0.1/tcp/5001",
    ] {
        assert!(matches!(KuboStore::new(url), Err(ContentError::Refused { .. })), "{url}");
    }
}

#[tokio::test]
async fn a_password_in_an_address_is_not_shown() {
    for url in [
        "http://user:secret@127.0.0.1:5001",
        "http://secret@127.0.0.1:5001",
        "http://user:secret@127.0.0.1:99999",
        "user:secret@127.0.0.1",
    ] {
        let error = KuboStore::new(url).unwrap_err();
        assert!(matches!(error, ContentError::Refused { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("credentials") && !text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn the_embedded_store_says_where_its_gateway_is() {
    let (store, _home) = embedded();
    let gateway = "127.0.0.1:8123".parse().unwrap();
    let stop = CancellationToken::new();
    let rpc = LoopbackRpc::serve(store.clone(), Some(gateway), ANY, &stop).await.unwrap();
    let told = KuboStore::new(&rpc.url()).unwrap().gateway().await.unwrap();
    assert_eq!(told, "http://127.0.0.1:8123");
    let without = LoopbackRpc::serve(store, None, ANY, &stop).await.unwrap();
    let refused = KuboStore::new(&without.url()).unwrap().gateway().await;
    assert!(matches!(refused, Err(ContentError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_daemon_that_is_not_there_is_an_error_and_not_an_absent_block() {
    let (store, _home) = embedded();
    let rpc = LoopbackRpc::serve(store, None, ANY, &CancellationToken::new()).await.unwrap();
    let kubo = KuboStore::new(&rpc.url()).unwrap();
    assert!(!kubo.version().await.unwrap().is_empty());
    rpc.shutdown().await;
    let (cid, block) = raw("block");
    let errors = [
        kubo.version().await.unwrap_err(),
        kubo.get(&cid).await.unwrap_err(),
        kubo.has(&cid).await.unwrap_err(),
        kubo.put(&cid, block).await.unwrap_err(),
        kubo.pin(&cid).await.unwrap_err(),
        kubo.unpin(&cid).await.unwrap_err(),
        kubo.pins().await.unwrap_err(),
        kubo.collect().await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }
}

/// A daemon that gives every call this answer.
async fn answering(status: &str, body: Vec<u8>) -> KuboStore {
    let listener = tokio::net::TcpListener::bind(ANY).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let answer = Arc::new([head.as_bytes(), &body].concat());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 65536]).await;
                let _ = stream.write_all(&answer).await;
            });
        }
    });
    KuboStore::new(&url).unwrap()
}

#[tokio::test]
async fn a_daemon_that_lies_is_not_believed() {
    let (cid, _) = raw("block");
    let liar = answering("200 OK", b"other bytes".to_vec()).await;
    let error = liar.get(&cid).await.unwrap_err();
    assert!(matches!(error, ContentError::Mismatch { .. }), "{error}");
    assert!(liar.collect().await.unwrap_err().is_retryable());

    let huge = answering("200 OK", vec![b'x'; 3 << 20]).await;
    let error = huge.get(&cid).await.unwrap_err();
    assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    assert!(matches!(huge.collect().await.unwrap_err(), ContentError::Unavailable { .. }));
}

/// A daemon that fails every call with these words.
async fn saying(words: &str) -> KuboStore {
    let body = serde_json::json!({"Message": words, "Code": 0, "Type": "error"});
    answering("500 Internal Server Error", body.to_string().into_bytes()).await
}

#[tokio::test]
async fn only_a_block_that_is_named_as_missing_is_absent() {
    let (asked, below) = (raw("asked").0, raw("below").0);
    let missing =
        |cid| format!("pin: block was not found locally (offline): ipld: could not find {cid}");
    let daemon = saying(&missing(below)).await;
    let error = daemon.pin(&asked).await.unwrap_err();
    assert!(matches!(error, ContentError::Absent { cid } if cid == below), "{error}");
    assert_eq!(saying(&missing(asked)).await.get(&asked).await.unwrap(), None);
    assert!(!saying(&missing(asked)).await.has(&asked).await.unwrap());

    for words in ["command not found", "could not find the lock", "ipld: could not find it"] {
        let daemon = saying(words).await;
        for error in [
            daemon.get(&asked).await.unwrap_err(),
            daemon.has(&asked).await.unwrap_err(),
            daemon.pin(&asked).await.unwrap_err(),
        ] {
            assert!(matches!(error, ContentError::Unavailable { .. }), "{words}: {error}");
        }
    }
}

#[tokio::test]
async fn the_words_of_a_daemon_command_no_terminal() {
    let error = saying("no \u{1b}[2Jspace\nleft").await.get(&raw("block").0).await.unwrap_err();
    let words = std::error::Error::source(&error).unwrap().to_string();
    assert!(words.contains("space") && !words.contains(char::is_control), "{words:?}");
}

#[tokio::test]
async fn an_error_in_a_collection_is_not_counted_as_a_block() {
    let lines = b"{\"Key\":{\"/\":\"bafkqaaa\"}}\n{\"Error\":\"the disk is full\"}\n".to_vec();
    let error = answering("200 OK", lines).await.collect().await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("the disk is full"));
    let two = b"{\"Key\":{\"/\":\"bafkqaaa\"}}\n{\"Key\":{\"/\":\"bafkqaaa\"}}\n".to_vec();
    assert_eq!(answering("200 OK", two).await.collect().await.unwrap(), 2);
    let busy = answering("503 Service Unavailable", Vec::new()).await;
    assert!(matches!(busy.collect().await.unwrap_err(), ContentError::Unavailable { .. }));
}

#[tokio::test]
async fn the_gateway_of_a_daemon_is_the_first_that_can_be_reached() {
    let of = async |value: &str| {
        let body = format!("{{\"Key\":\"Addresses.Gateway\",\"Value\":{value}}}");
        answering("200 OK", body.into_bytes()).await.gateway().await
    };
    let url = of("\"/ip4/127.0.0.1/tcp/8080\"").await.unwrap();
    assert_eq!(url, "http://127.0.0.1:8080");
    let url = of("[\"/unix/gateway\", \"/ip4/0.0.0.0/tcp/8081\"]").await.unwrap();
    assert_eq!(url, "http://127.0.0.1:8081");
    for none in ["\"\"", "[]", "null", "7", "\"/ip4/127.0.0.1/tcp/0\""] {
        let error = of(none).await.unwrap_err();
        assert!(matches!(error, ContentError::Refused { .. }), "{none}: {error}");
        assert!(error.to_string().contains("ipfs config Addresses.Gateway"), "{none}: {error}");
    }
    for (status, body) in [
        ("403 Forbidden", b"403 - Forbidden".to_vec()),
        ("200 OK", b"no JSON".to_vec()),
        ("200 OK", vec![b' '; 1 << 20]),
    ] {
        let error = answering(status, body).await.gateway().await.unwrap_err();
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_real_daemon_says_where_its_gateway_is() {
    let Some(daemon) = Daemon::start() else { return };
    let kubo = KuboStore::new(daemon.url()).unwrap();
    // The profile of tests leaves the port to the system, and only the daemon's own file says which it took.
    let error = kubo.gateway().await.unwrap_err();
    assert!(matches!(error, ContentError::Refused { .. }), "{error}");
    daemon.configure("Addresses.Gateway", "/ip4/127.0.0.1/tcp/47999");
    assert_eq!(kubo.gateway().await.unwrap(), "http://127.0.0.1:47999");
}
