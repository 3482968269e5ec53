//! A small HTTP/1.1 server with bounds: on connections, on the time a request's header takes, and on the time that
//! passes without a byte moving.

mod patient;
mod peers;

use std::{io, mem, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use self::patient::Patient;
pub(crate) use self::peers::{Peer, Share, Shares};

/// How long answers under way may keep a server from ending.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait where the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The most headers of a request.
const MAX_HEADERS: usize = 64;

/// The most bytes of a request's header.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// The most bytes that a connection keeps for either direction.
const MAX_BUFFER: usize = 64 << 10;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on, most often because another program does.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a server allows its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerLimits {
    /// Connections at a time; more wait in the system's queue.
    pub(crate) connections: usize,
    /// Connections at a time of one peer; more are closed.
    pub(crate) per_peer: usize,
    /// From the connection, or the last answer, to the end of a request's header.
    pub(crate) header: Duration,
    /// The longest time in which no byte moves in either direction.
    pub(crate) stall: Duration,
}

/// A running server. Dropped, it cuts everything off.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves until `stop` is cancelled; with port 0 the system chooses a free one. Each request has its [`Peer`] as an
    /// extension.
    pub(crate) async fn start(
        router: Router,
        address: SocketAddr,
        limits: ServerLimits,
        stop: &CancellationToken,
    ) -> Result<Self, ServeError> {
        let bind = |source| ServeError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let stop = stop.child_token();
        let task = tokio::spawn(run(listener, router, limits, stop.clone()));
        Ok(Self { address, stop, task })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, finishes answers under way for a few seconds, and ends.
    pub(crate) async fn shutdown(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "a server did not end well");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

async fn run(listener: TcpListener, router: Router, limits: ServerLimits, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let shares = Shares::new(limits.per_peer);
    let mut connections = JoinSet::new();
    let mut is_failing = false;
    loop {
        // Cancel-safe: a permit or a connection that was not handed over is dropped as nothing.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                is_failing = false;
                let Some(share) = shares.take(peer) else {
                    tracing::debug!(?peer, "a connection too many of one peer is closed");
                    continue;
                };
                let serving = serve(stream, peer, router.clone(), limits, stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop((share, permit));
                });
            }
            Err(error) => {
                // Where files run out, this comes ten times a second, and whoever connects can make it so.
                if !mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "no connection can be accepted for now");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::debug!("cutting off connections that do not finish");
    }
}

/// A panic ends only its connection, but not without a word.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection did not end well");
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer::at(address.ip()), permit))
}

async fn serve(
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    // Without it small answers wait for the acknowledgement of others; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let stream = TokioIo::new(Patient::new(stream, limits.stall));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    // Cancel-safe: the connection is only borrowed, and goes on below.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests;
