//! The part of Kubo's RPC that a content store needs, over an embedded store, for programs of this machine.
//!
//! `POST /api/v0/{version, config, block/put, block/get, block/stat, pin/add, pin/ls, pin/rm, repo/gc}`, as
//! <https://docs.ipfs.tech/reference/kubo/rpc/> has them. Whoever reaches it may do anything to the store, and it knows no
//! passwords. So it listens on loopback alone, and refuses what a browser sends for a web page: requests with an origin
//! or a referrer, requests of a browser, and requests that came here under a foreign name (DNS rebinding).

mod form;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use roadstead_core::{
    ports::{BlockSource, ContentError, ContentStore},
    with_causes,
};
use roadstead_types::{
    Cid,
    content::{DAG_PB, MAX_BLOCK, RAW, content_id},
};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use url::form_urlencoded;

use crate::{
    block::digest,
    embedded::EmbeddedStore,
    server::{ServeError, Server, ServerLimits},
};

/// Bounds for the programs of one user. Pinning a large graph moves no byte for a while.
const LIMITS: ServerLimits = ServerLimits {
    connections: 64,
    per_peer: 64,
    header: Duration::from_secs(10),
    stall: Duration::from_secs(600),
};

/// The most bytes of a request: a block, and the form around it.
const MAX_BODY: usize = MAX_BLOCK + (16 << 10);

/// Why the RPC does not start.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Others than this machine could reach it.
    #[error("{address} is not a loopback address: the RPC would be open to others")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// An RPC server that is running. Dropped, it cuts every answer off; [`LoopbackRpc::shutdown`] finishes them.
#[derive(Debug)]
pub struct LoopbackRpc {
    server: Server,
}

impl LoopbackRpc {
    /// Serves `store` at a loopback address until `stop` is cancelled; with port 0 the system chooses a free one.
    /// `gateway` is where a [`Gateway`](crate::Gateway) serves the same store, if one does: clients ask for it.
    ///
    /// Every account of this machine can use it, and so read, pin, unpin and remove whatever the store holds: it is for a
    /// development machine.
    pub async fn serve(
        store: EmbeddedStore,
        gateway: Option<SocketAddr>,
        address: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Self, RpcError> {
        if !address.ip().is_loopback() {
            return Err(RpcError::NotLoopback { address });
        }
        let router = Router::new()
            .route("/api/v0/version", post(version))
            .route("/api/v0/config", post(async move |RawQuery(query)| config(gateway, query)))
            .route("/api/v0/block/put", post(block_put))
            .route("/api/v0/block/get", post(block_get))
            .route("/api/v0/block/stat", post(block_stat))
            .route("/api/v0/pin/add", post(pin_add))
            .route("/api/v0/pin/ls", post(pin_ls))
            .route("/api/v0/pin/rm", post(pin_rm))
            .route("/api/v0/repo/gc", post(repo_gc))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(guard))
            .with_state(store);
        let server = Server::start(router, address, LIMITS, stop).await?;
        tracing::info!(address = %server.address(), "answering as a Kubo daemon");
        Ok(Self { server })
    }

    /// The URL for clients, without the path.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Takes no more requests, finishes answers under way for a few seconds, and ends.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}

/// An error in Kubo's form. Code 1 is the caller's mistake, 0 any other failure.
struct Failure {
    status: StatusCode,
    code: u8,
    message: String,
}

impl Failure {
    fn mistake(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: 1, message: message.into() }
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        let message = match &error {
            // The words by which clients tell this from other failures.
            ContentError::Absent { cid } => {
                format!("block was not found locally (offline): ipld: could not find {cid}")
            }
            ContentError::Unsupported { .. } | ContentError::TooLarge { .. } => {
                return Self::mistake(error.to_string());
            }
            other => with_causes(other),
        };
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: 0, message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({"Message": self.message, "Code": self.code, "Type": "error"});
        (self.status, as_json(&body)).into_response()
    }
}

type Answer = Result<Response, Failure>;

async fn version() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    as_json(&json!({"Version": version, "Commit": "", "Repo": "", "System": "", "Golang": ""}))
}

/// Only where the gateway is.
fn config(gateway: Option<SocketAddr>, query: Option<String>) -> Answer {
    const KEY: &str = "Addresses.Gateway";
    if Query::of(query).get("arg") != Some(KEY) {
        return Err(Failure::mistake(format!("only {KEY} is known")));
    }
    let address = gateway.map(|gateway| match gateway {
        SocketAddr::V4(v4) => format!("/ip4/{}/tcp/{}", v4.ip(), v4.port()),
        SocketAddr::V6(v6) => format!("/ip6/{}/tcp/{}", v6.ip(), v6.port()),
    });
    Ok(as_json(&json!({"Key": KEY, "Value": address.unwrap_or_default()})))
}

async fn block_put(
    State(store): State<EmbeddedStore>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let query = Query::of(query);
    let codec = match query.get("format").or_else(|| query.get("cid-codec")) {
        None | Some("raw") => RAW,
        Some("protobuf" | "dag-pb") => DAG_PB,
        Some(other) => return Err(Failure::mistake(format!("no blocks of format {other}"))),
    };
    if query.get("mhtype").is_some_and(|name| name != "sha2-256") {
        return Err(Failure::mistake("no blocks with another hash than sha2-256"));
    }
    if query.get("pin") == Some("true") {
        return Err(Failure::mistake("a block is pinned by pin/add"));
    }
    let block = form::single_part(&headers, &body).map_err(Failure::mistake)?;
    let cid = content_id(codec, digest(&block));
    let size = block.len();
    store.put(&cid, block).await?;
    Ok(as_json(&json!({"Key": cid.to_string(), "Size": size})))
}

async fn block_get(State(store): State<EmbeddedStore>, RawQuery(query): RawQuery) -> Answer {
    let cid = Query::of(query).cid()?;
    let block = store.get(&cid).await?.ok_or(ContentError::Absent { cid })?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], block).into_response())
}

async fn block_stat(State(store): State<EmbeddedStore>, RawQuery(query): RawQuery) -> Answer {
    let cid = Query::of(query).cid()?;
    let block = store.get(&cid).await?.ok_or(ContentError::Absent { cid })?;
    Ok(as_json(&json!({"Key": cid.to_string(), "Size": block.len()})))
}

async fn pin_add(State(store): State<EmbeddedStore>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::of(query);
    let cid = query.cid()?;
    if query.get("recursive") == Some("false") {
        return Err(Failure::mistake("only whole graphs are pinned"));
    }
    store.pin(&cid).await?;
    Ok(as_json(&json!({"Pins": [cid.to_string()]})))
}

async fn pin_ls(State(store): State<EmbeddedStore>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::of(query);
    if !matches!(query.get("type"), None | Some("recursive" | "all")) {
        return Err(Failure::mistake("only whole graphs are pinned"));
    }
    let wanted = query.get("arg").map(|_| query.cid()).transpose()?;
    let mut keys = Map::new();
    for cid in store.pins().await? {
        if wanted.is_none_or(|wanted| wanted == cid) {
            keys.insert(cid.to_string(), json!({"Type": "recursive", "Name": ""}));
        }
    }
    match wanted {
        Some(cid) if keys.is_empty() => Err(not_pinned(&cid)),
        _ => Ok(as_json(&json!({"Keys": keys}))),
    }
}

async fn pin_rm(State(store): State<EmbeddedStore>, RawQuery(query): RawQuery) -> Answer {
    let cid = Query::of(query).cid()?;
    if !store.pins().await?.contains(&cid) {
        return Err(not_pinned(&cid));
    }
    store.unpin(&cid).await?;
    Ok(as_json(&json!({"Pins": [cid.to_string()]})))
}

async fn repo_gc(State(store): State<EmbeddedStore>) -> Answer {
    let removed = store.collect_listing().await?;
    let line =
        |id: crate::block::BlockId| format!("{}\n", json!({"Key": {"/": id.cid().to_string()}}));
    let lines: String = removed.into_iter().map(line).collect();
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(lines)).into_response())
}

fn not_pinned(cid: &Cid) -> Failure {
    let message = format!("{cid} is not pinned or pinned indirectly");
    Failure { status: StatusCode::INTERNAL_SERVER_ERROR, code: 0, message }
}

fn as_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// The arguments in a URL. Those that are not known are Kubo's options for all calls, and mean nothing here.
struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    fn of(query: Option<String>) -> Self {
        let query = query.unwrap_or_default();
        Self { pairs: form_urlencoded::parse(query.as_bytes()).into_owned().collect() }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn cid(&self) -> Result<Cid, Failure> {
        let text =
            self.get("arg").ok_or_else(|| Failure::mistake("argument \"arg\" is required"))?;
        let text = text.strip_prefix("/ipfs/").unwrap_or(text);
        Cid::try_from(text).map_err(|error| Failure::mistake(format!("invalid path: {error}")))
    }
}

/// Lets only requests through that no web page can have caused.
async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let is_of_a_page =
        [header::ORIGIN, header::REFERER].iter().any(|name| headers.contains_key(name));
    let is_of_a_browser =
        text(header::USER_AGENT).is_some_and(|agent| agent.starts_with("Mozilla"));
    if is_of_a_page || is_of_a_browser || !text(header::HOST).is_some_and(is_loopback) {
        return (StatusCode::FORBIDDEN, "403 - Forbidden").into_response();
    }
    next.run(request).await
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
