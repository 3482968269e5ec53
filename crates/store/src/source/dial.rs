//! Connections to exactly the addresses that were judged.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use roadstead_core::ports::ContentError;
use tokio::{net::TcpStream, sync::OnceCell};
use tower::Service;
use url::Host;

use crate::address::{SourceAddress, SourcePolicy};

/// For a name to be resolved, and for a connection to each address.
const STEP_TIME: Duration = Duration::from_secs(10);

/// The most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 4;

/// A source's address, and what its host turned out to be.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) address: SourceAddress,
    policy: SourcePolicy,
    resolved: OnceCell<Vec<IpAddr>>,
}

impl Target {
    pub(super) const fn new(address: SourceAddress, policy: SourcePolicy) -> Self {
        Self { address, policy, resolved: OnceCell::const_new() }
    }

    /// The judged addresses of the host; the first call that succeeds decides for good.
    pub(super) async fn resolve(&self) -> Result<&[IpAddr], ContentError> {
        let resolved = self.resolved.get_or_try_init(|| async {
            let found = match &self.address.host {
                Host::Ipv4(host) => vec![IpAddr::V4(*host)],
                Host::Ipv6(host) => vec![IpAddr::V6(*host)],
                Host::Domain(host) => {
                    let failed = |error| {
                        super::unavailable(&self.address.base, "the look-up of its name", error)
                    };
                    look_up(host).await.map_err(failed)?
                }
            };
            self.address.judge(found, self.policy)
        });
        resolved.await.map(Vec::as_slice)
    }
}

async fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = tokio::time::timeout(STEP_TIME, tokio::net::lookup_host((host, 0))).await??;
    Ok(found.map(|address| address.ip()).collect())
}

/// Opens connections to its target, whatever a request's URL says.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    target: Arc<Target>,
}

impl Dialler {
    pub(super) const fn new(target: Arc<Target>) -> Self {
        Self { target }
    }
}

impl Service<Uri> for Dialler {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let target = Arc::clone(&self.target);
        Box::pin(async move {
            let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in target.resolve().await?.iter().take(MAX_ADDRESSES) {
                let address = SocketAddr::new(*address, target.address.port);
                let connected = tokio::time::timeout(STEP_TIME, TcpStream::connect(address)).await;
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
