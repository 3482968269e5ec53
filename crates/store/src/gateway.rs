//! A trustless gateway over a content store: raw blocks and CAR streams, which whoever gets them checks.
//!
//! `GET|HEAD /ipfs/{cid}` as <https://specs.ipfs.tech/http-gateways/trustless-gateway/> has it. A CAR is version 1, depth
//! first, without duplicates; a block that is missing in the middle ends the stream early, so that it is seen to be
//! incomplete. There are no deserialised answers, no paths below an id, and no names. The gateway keeps nothing.

mod request;
mod stream;

use std::{convert::Infallible, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError};
use roadstead_types::Cid;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    request::{Form, Refusal, Scope},
    stream::{NoStream, Plan},
};
use crate::server::{Peer, ServeError, Server, ServerLimits, Shares};

/// Bounds that a gateway for anybody needs.
const LIMITS: ServerLimits = ServerLimits {
    connections: 256,
    per_peer: 64,
    header: Duration::from_secs(10),
    stall: Duration::from_secs(60),
};

/// The most CAR streams at a time: each holds a walk.
const MAX_WALKS: usize = 16;

/// The most of them for one peer, so that one cannot have them all.
const MAX_WALKS_OF_ONE: usize = 4;

/// A gateway that is running. Dropped, it cuts every answer off; [`Gateway::shutdown`] finishes them.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
}

#[derive(Clone)]
struct Context {
    store: Arc<dyn BlockSource>,
    walks: Arc<Semaphore>,
    shares: Shares,
}

impl Gateway {
    /// Serves `store` at `address` until `stop` is cancelled; with port 0 the system chooses a free one. Whoever can
    /// reach the address can read every block whose id it knows. Limits for one peer go by its address, so behind a proxy
    /// they are limits for all.
    pub async fn serve(
        store: Arc<dyn BlockSource>,
        address: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Self, ServeError> {
        let walks = Arc::new(Semaphore::new(MAX_WALKS));
        let shares = Shares::new(MAX_WALKS_OF_ONE);
        let router = Router::new()
            .route("/ipfs/{cid}", get(answer))
            .route("/ipfs/{cid}/{*path}", get(path_below))
            .with_state(Context { store, walks, shares });
        let server = Server::start(router, address, LIMITS, stop).await?;
        tracing::info!(address = %server.address(), "serving blocks");
        Ok(Self { server })
    }

    /// The address it listens on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL of the address it listens on: what a source is opened with.
    pub fn url(&self) -> String {
        format!("http://{}", self.local_addr())
    }

    /// Takes no more requests, finishes answers under way for a few seconds, and ends.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

async fn path_below() -> Refusal {
    (StatusCode::NOT_IMPLEMENTED, "paths below a content id are not resolved")
}

async fn answer(
    State(context): State<Context>,
    Extension(peer): Extension<Peer>,
    Path(cid): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match respond(&context, peer, &cid, query.as_deref(), &method, &headers).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn respond(
    context: &Context,
    peer: Peer,
    cid: &str,
    query: Option<&str>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let cid = request::content_id(cid)?;
    let form = request::form(query, headers)?;
    let etag = match form {
        Form::Raw => format!("\"{cid}.raw\""),
        Form::Car(scope) => format!("W/\"{cid}.car.{}.dfs.n\"", scope.name()),
    };
    let block = match root(context, &cid).await {
        Ok(Some(block)) => block,
        Ok(None) if has(headers, header::CACHE_CONTROL, "only-if-cached") => {
            return Err((StatusCode::PRECONDITION_FAILED, "the block is not here"));
        }
        Ok(None) => return Err((StatusCode::NOT_FOUND, "the block is not here")),
        Err(error) => {
            tracing::warn!(block = %cid, error = &error as &dyn Error, "a block cannot be served");
            return Err((StatusCode::INTERNAL_SERVER_ERROR, "the store failed"));
        }
    };
    // Before anything depends on the method: what a HEAD says is what a GET would say.
    let plan = match form {
        Form::Car(scope) if !is_probe(&cid) => Some(plan(&cid, &block, scope)?),
        _ => None,
    };
    let is_known = |etag: &str| has(headers, header::IF_NONE_MATCH, etag);
    let mut response = if is_known(&etag) || is_known("*") {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match form {
            Form::Raw => raw(block),
            // Nothing of it is sent, so nothing is walked; and nobody knows how long it would be.
            Form::Car(_) if method == Method::HEAD => {
                Body::from_stream(futures_util::stream::empty::<Result<Bytes, Infallible>>())
                    .into_response()
            }
            Form::Car(_) => car(context, peer, &cid, block, plan)?,
        }
    };
    describe(response.headers_mut(), &cid, form, &etag);
    Ok(response)
}

/// The block under the root. The empty identity id, which is known without a store, is how clients look for gateways.
async fn root(context: &Context, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
    if is_probe(cid) {
        return Ok(Some(Bytes::new()));
    }
    match context.store.get(cid).await {
        Err(ContentError::Unsupported { .. }) => Ok(None),
        other => other,
    }
}

fn is_probe(cid: &Cid) -> bool {
    cid.hash().code() == 0 && cid.hash().size() == 0
}

fn raw(block: Bytes) -> Response {
    Body::from(block).into_response()
}

/// What a stream of this scope holds.
fn plan(cid: &Cid, block: &Bytes, scope: Scope) -> Result<Plan, Refusal> {
    Plan::new(cid, block, scope).map_err(|refused| match refused {
        NoStream::ShardedFolder => {
            (StatusCode::NOT_IMPLEMENTED, "folders over several nodes have no entity here")
        }
        NoStream::BadGraph(error) => {
            tracing::debug!(root = %cid, error = &error as &dyn Error, "a graph cannot be served");
            (StatusCode::INTERNAL_SERVER_ERROR, "the graph makes no sense")
        }
    })
}

/// A CAR: its header alone for the probe, which has no plan.
fn car(
    context: &Context,
    peer: Peer,
    cid: &Cid,
    block: Bytes,
    plan: Option<Plan>,
) -> Result<Response, Refusal> {
    let Some(plan) = plan else {
        return Ok(Body::from(crate::car::header(cid)).into_response());
    };
    let share = context.shares.take(peer);
    let permit = Arc::clone(&context.walks).try_acquire_owned().ok();
    let Some(turn) = permit.zip(share) else {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many streams are under way"));
    };
    let stream = plan.stream(Arc::clone(&context.store), block, turn);
    Ok(Body::from_stream(stream).into_response())
}

/// The headers of every answer. What an id names never changes.
fn describe(headers: &mut HeaderMap, cid: &Cid, form: Form, etag: &str) {
    let (content_type, extension) = match form {
        Form::Raw => ("application/vnd.ipld.raw", "bin"),
        Form::Car(_) => ("application/vnd.ipld.car; version=1; order=dfs; dups=n", "car"),
    };
    let disposition = format!("attachment; filename=\"{cid}.{extension}\"");
    let path = format!("/ipfs/{cid}");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in [
        (header::CONTENT_DISPOSITION, disposition.as_str()),
        (header::ETAG, etag),
        (header::CACHE_CONTROL, "public, max-age=29030400, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "Accept"),
        (header::HeaderName::from_static("x-ipfs-path"), path.as_str()),
        (header::HeaderName::from_static("x-ipfs-roots"), &path["/ipfs/".len()..]),
    ] {
        let value = HeaderValue::from_str(value).expect("an id is written in visible ASCII");
        headers.insert(name, value);
    }
}

/// Whether a list in a header holds this entry.
fn has(headers: &HeaderMap, name: header::HeaderName, entry: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let weak = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    values.flat_map(|value| value.split(',')).any(|found| weak(found) == weak(entry))
}
