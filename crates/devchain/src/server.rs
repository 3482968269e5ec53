//! The chain over HTTP: `POST /` with a JSON-RPC request or batch.
//!
//! Meant for programs on the same machine. A web page must not reach the chain through the browser
//! of somebody who runs one: a request from a page that does not come from the machine itself is
//! refused by its `Origin`, and one that reached the machine under a foreign name (DNS rebinding) by
//! its `Host`. A page from the machine itself may read the answers: the server speaks as much CORS as
//! that takes.

mod connection;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chain::Devchain;
use connection::CutListener;

/// The most bytes of a request.
const MAX_BODY: usize = 5 * 1024 * 1024;

/// How long open connections may keep a server from shutting down.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connections may take to notice that they are cut off.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
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

/// A running server. Dropping it stops it and cuts every connection off; [`Server::shutdown`] waits
/// for answers under way.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// No new requests.
    stop: CancellationToken,
    /// No connections either.
    cut: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

/// Serves `chain` at `address`; with port 0 the system chooses a free one.
pub async fn serve(chain: Devchain, address: SocketAddr) -> Result<Server, ServeError> {
    let bind = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    let router = Router::new()
        .route("/", post(respond))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(address.ip(), guard))
        .with_state(chain);
    let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
    let stopped = stop.clone().cancelled_owned();
    let listener = CutListener { listener, cut: cut.clone() };
    let task =
        tokio::spawn(
            async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await },
        );
    tracing::info!(%address, "serving the development chain");
    Ok(Server { address, stop, cut, task })
}

impl Server {
    /// The address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes no new requests, answers those under way and ends. A connection that does not finish
    /// in time is cut off; what it asked for may still execute to its end.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, self.end()).await.is_ok() {
            return;
        }
        tracing::warn!(address = %self.address, "cutting off connections that do not finish");
        self.cut.cancel();
        // Whatever remains now is cut off by dropping the server.
        let _ = tokio::time::timeout(CUT_TIMEOUT, self.end()).await;
    }

    async fn end(&mut self) {
        match (&mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended with an error"),
            Err(error) => tracing::error!(%error, "the server did not end well"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
        self.task.abort();
    }
}

async fn respond(State(chain): State<Devchain>, body: Bytes) -> Response {
    match chain.on_worker(move |chain| chain.respond(&body)).await {
        Ok(answer) => {
            let body = answer.map_or_else(Body::empty, Body::from);
            ([(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a request could not be answered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Lets only requests through that cannot come from a foreign web page.
async fn guard(State(bound): State<IpAddr>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) && !is_own_origin(headers) {
        return (StatusCode::FORBIDDEN, "requests from this origin are refused").into_response();
    }
    if !is_own_host(headers, bound) {
        return (StatusCode::FORBIDDEN, "requests for this host are refused").into_response();
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let mut response = match &origin {
        Some(_) if request.method() == Method::OPTIONS => preflight(),
        _ => next.run(request).await,
    };
    if let Some(origin) = origin {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// What a browser asks before it lets a page send JSON to another origin.
fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

fn is_own_origin(headers: &HeaderMap) -> bool {
    let origins = headers.get_all(header::ORIGIN).iter();
    origins
        .map(|origin| origin.to_str().ok()?.parse::<Uri>().ok())
        .all(|origin| origin.as_ref().and_then(Uri::host).is_some_and(is_loopback))
}

fn is_own_host(headers: &HeaderMap, bound: IpAddr) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = host.parse::<axum::http::uri::Authority>() else { return false };
    is_loopback(authority.host())
        || address(authority.host())
            .is_some_and(|address| bound.is_unspecified() || address == bound)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || address(host).is_some_and(|address| address.is_loopback())
}

/// The address, if the host is one and not a name.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
