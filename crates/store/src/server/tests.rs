use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

use super::*;

const LIMITS: ServerLimits = ServerLimits {
    connections: 2,
    per_peer: 2,
    header: Duration::from_secs(10),
    stall: Duration::from_secs(60),
};

async fn server() -> (Server, CancellationToken) {
    server_with(LIMITS).await
}

async fn server_with(limits: ServerLimits) -> (Server, CancellationToken) {
    let stop = CancellationToken::new();
    let endless = || async {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, io::Error>(vec![0; 1 << 16]));
        axum::body::Body::from_stream(chunks)
    };
    let router =
        Router::new().route("/", get(|| async { "hello" })).route("/endless", get(endless));
    let router = router.route("/panic", get(|| async { panic!("a test panics") as () }));
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    (Server::start(router, address, limits, &stop).await.unwrap(), stop)
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// What comes until the end; a connection that is cut off counts as an end. There has to be one: more than the system's
/// buffers hold does not come.
async fn rest(stream: TcpStream) -> String {
    const MOST: usize = 64 << 20;
    let mut all = Vec::new();
    let _ = stream.take(u64::try_from(MOST).unwrap()).read_to_end(&mut all).await;
    assert!(all.len() < MOST, "the connection was not cut off");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn it_answers_and_ends_when_told() {
    let (server, stop) = server().await;
    let mut idle = connect(&server).await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let address = server.address();
    stop.cancel();
    assert!(rest(idle).await.ends_with("hello"));
    server.shutdown().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropped_it_cuts_off() {
    let (server, _stop) = server().await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 100_000]).await.unwrap();
    drop(server);
    rest(stream).await;
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let (server, stop) = server().await;
    let error = Server::start(Router::new(), server.address(), LIMITS, &stop).await.unwrap_err();
    let ServeError::Bind { address, .. } = error;
    assert_eq!(address, server.address());
}

#[tokio::test(start_paused = true)]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let (server, _stop) = server().await;
    let mut stream = connect(&server).await;
    let begun = tokio::time::Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    rest(stream).await;
    assert!(begun.elapsed() < LIMITS.stall, "only the stall ended it");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let (server, _stop) = server().await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The system's buffers fill up, then nothing moves.
    tokio::time::sleep(LIMITS.stall * 10).await;
    rest(stream).await;
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let (server, _stop) = server().await;
    for header in
        [format!("X: {}\r\n", "x".repeat(MAX_HEADER_BYTES)), "X: x\r\n".repeat(MAX_HEADERS)]
    {
        let mut stream = connect(&server).await;
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        assert!(rest(stream).await.starts_with("HTTP/1.1 431 "));
    }
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let (server, _stop) = server().await;
    let mut held = vec![connect(&server).await, connect(&server).await];
    for stream in &mut held {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
    }
    let mut late = connect(&server).await;
    late.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let early = tokio::select! {
        biased;
        _ = late.read_exact(&mut byte) => true,
        () = async { for _ in 0..100 { tokio::task::yield_now().await } } => false,
    };
    assert!(!early, "it was served at once");
    held.pop();
    assert!(rest(late).await.ends_with("hello"));
}

#[tokio::test]
async fn one_connection_too_many_of_one_peer_is_closed() {
    let (server, _stop) = server_with(ServerLimits { connections: 8, ..LIMITS }).await;
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut held = vec![connect(&server).await, connect(&server).await];
    for stream in &mut held {
        stream.write_all(request).await.unwrap();
        stream.read_exact(&mut [0; 15]).await.unwrap();
    }
    assert_eq!(rest(connect(&server).await).await, "");
    // Another address of this machine is another peer.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(server.address()).await.unwrap();
    other.write_all(request).await.unwrap();
    other.read_exact(&mut [0; 15]).await.unwrap();

    held.pop();
    loop {
        // The server learns that the connection ended in its own time.
        let mut again = connect(&server).await;
        let _ = again.write_all(request).await;
        if again.read_exact(&mut [0; 15]).await.is_ok() {
            break;
        }
    }
}

/// Counts the errors that are told on this thread.
#[derive(Clone, Default)]
struct Errors(Arc<AtomicUsize>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_panic_is_told_and_ends_its_connection_alone() {
    let errors = Errors::default();
    let _listening = tracing::subscriber::set_default(errors.clone());
    let (server, stop) = server().await;
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /panic HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(rest(stream).await, "");
    let mut stream = connect(&server).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(stream).await.ends_with("hello"));
    stop.cancel();
    server.shutdown().await;
    assert_eq!(errors.0.load(Ordering::SeqCst), 1);
}
