//! Connections to exactly the addresses that were judged.

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use roadstead_core::ports::ContentError;
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    sync::{OnceCell, Semaphore},
};
use tower::Service;
use url::Host;

use crate::{
    address::{SourceAddress, SourcePolicy},
    block::unavailable,
};

/// For a name to be resolved.
const LOOK_UP_TIME: Duration = Duration::from_secs(10);

/// For a connection to one address.
const ADDRESS_TIME: Duration = Duration::from_secs(3);

/// For a connection in whole: its turn, each address, and TLS.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(20);

/// The most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 4;

/// The most connections to one source that are being made at a time.
pub(super) const MAX_CONNECTING: usize = 8;

/// Threads that wait for names, in the whole process: nothing ends one but the resolver.
static LOOK_UPS: Semaphore = Semaphore::const_new(8);

/// The addresses of a name. It may block.
pub(super) type LookUp = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// A source's address, and what its host turned out to be.
pub(super) struct Target {
    pub(super) address: SourceAddress,
    policy: SourcePolicy,
    look_up: LookUp,
    resolved: OnceCell<Vec<IpAddr>>,
}

impl Target {
    pub(super) fn new(address: SourceAddress, policy: SourcePolicy, look_up: LookUp) -> Self {
        Self { address, policy, look_up, resolved: OnceCell::new() }
    }

    /// The judged addresses of the host; the first call that succeeds decides for good.
    pub(super) async fn resolve(&self) -> Result<&[IpAddr], ContentError> {
        let resolved = self.resolved.get_or_try_init(|| async {
            let found = match &self.address.host {
                Host::Ipv4(host) => vec![IpAddr::V4(*host)],
                Host::Ipv6(host) => vec![IpAddr::V6(*host)],
                Host::Domain(host) => {
                    let found = tokio::time::timeout(LOOK_UP_TIME, self.look_up(host)).await;
                    found.map_err(io::Error::from).flatten().map_err(|error| {
                        unavailable(&self.address.base, "the look-up of its name", error)
                    })?
                }
            };
            self.address.judge(found, self.policy)
        });
        resolved.await.map(Vec::as_slice)
    }

    async fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let turn = LOOK_UPS.acquire().await.map_err(io::Error::other)?;
        let (look_up, host) = (Arc::clone(&self.look_up), host.to_owned());
        // The thread keeps the turn where nobody waits for it any more.
        let found = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            look_up(&host)
        });
        found.await?
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Target").field(&self.address.base).finish()
    }
}

/// Asks the system for the addresses of a name.
pub(super) fn system_look_up() -> LookUp {
    Arc::new(|host| Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
}

/// Opens connections to one source, with TLS where its address says so. The pool above lets a connection that it began
/// go on in the background, where no limit of a question reaches it; so the limits are in here.
#[derive(Clone)]
pub(super) struct Connector {
    dialler: HttpsConnector<Dialler>,
    turns: Arc<Semaphore>,
}

impl Connector {
    pub(super) fn new(target: Arc<Target>, tls: Arc<ClientConfig>) -> Self {
        let dialler = HttpsConnector::from((Dialler { target }, tls));
        Self { dialler, turns: Arc::new(Semaphore::new(MAX_CONNECTING)) }
    }
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.dialler.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.dialler.call(uri);
        let turns = Arc::clone(&self.turns);
        Box::pin(async move {
            // The wait for a turn counts: otherwise a source that never connects would be waited for without end.
            let connected = tokio::time::timeout(CONNECT_TIME, async {
                let _turn = turns.acquire().await?;
                connecting.await
            });
            connected.await?
        })
    }
}

/// Opens connections to its target, whatever a request's URL says.
#[derive(Clone, Debug)]
struct Dialler {
    target: Arc<Target>,
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let target = Arc::clone(&self.target);
        Box::pin(async move {
            let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in target.resolve().await?.iter().take(MAX_ADDRESSES) {
                let address = SocketAddr::new(*address, target.address.port);
                let connected =
                    tokio::time::timeout(ADDRESS_TIME, TcpStream::connect(address)).await;
                match connected.map_err(io::Error::from).flatten() {
                    Ok(stream) => {
                        // Questions are small; a failure costs only time.
                        let _ = stream.set_nodelay(true);
                        return Ok(TokioIo::new(stream));
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure.into())
        })
    }
}
