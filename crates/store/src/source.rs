//! Gateways of others as sources of blocks.
//!
//! Each answer is bounded in size and time and checked against its id; redirects are not followed, proxies of the
//! environment are not asked, nothing is decompressed. A host's name is resolved once in the life of a source.

mod dial;

use std::{
    error::Error,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Incoming, header};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use roadstead_core::ports::{BlockSource, ContentError, Sources};
use roadstead_types::{Cid, content::MAX_BLOCK};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use self::dial::{Dialler, Target};
use crate::{
    address::{SourceAddress, SourcePolicy},
    block::{BlockId, verify},
};

/// From the question for a block to its last byte.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long a connection stays open for the next question.
const IDLE_TIME: Duration = Duration::from_secs(20);

/// The most connections that stay open to one source.
const MAX_IDLE: usize = 8;

/// The most headers of an answer.
const MAX_HEADERS: usize = 64;

/// The most bytes that a connection keeps; header and trailers have to fit.
const MAX_BUFFER: usize = 64 << 10;

const OPERATION: &str = "the request for a block";

/// Opens gateways by their addresses, under one policy.
pub struct GatewaySources {
    policy: SourcePolicy,
    tls: OnceLock<Tls>,
}

/// A gateway that is asked for raw blocks.
#[derive(Clone)]
pub struct GatewaySource {
    target: Arc<Target>,
    client: Client<HttpsConnector<Dialler>, Empty<Bytes>>,
}

/// Why a gateway did not answer as it should.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("no whole answer came within {} seconds", ANSWER_TIME.as_secs())]
    Late,
}

impl GatewaySources {
    /// Sources that `policy` lets be asked.
    pub const fn new(policy: SourcePolicy) -> Self {
        Self { policy, tls: OnceLock::new() }
    }

    /// The gateway at `address`, see [`Sources::open`]. The first source by https reads the system's root certificates.
    pub fn gateway(&self, address: &str) -> Result<GatewaySource, ContentError> {
        let address = SourceAddress::parse(address, self.policy)?;
        let tls = if address.base.starts_with("https:") {
            self.tls.get_or_init(tls_with_system_roots).clone()
        } else {
            without_roots()
        };
        let tls = tls.map_err(|error| unavailable(&address.base, "loading certificates", error))?;
        Ok(GatewaySource::new(Target::new(address, self.policy), tls))
    }
}

impl Sources for GatewaySources {
    fn open(&self, address: &str) -> Result<Arc<dyn BlockSource>, ContentError> {
        Ok(Arc::new(self.gateway(address)?))
    }
}

impl GatewaySource {
    fn new(target: Target, tls: Arc<ClientConfig>) -> Self {
        let target = Arc::new(target);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(MAX_IDLE)
            .http1_max_headers(MAX_HEADERS)
            .http1_max_buf_size(MAX_BUFFER)
            .build(HttpsConnector::from((Dialler::new(Arc::clone(&target)), tls)));
        Self { target, client }
    }

    async fn ask(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        self.target.resolve().await?;
        let place = &self.target.address.base;
        let request = Request::get(format!("{place}/ipfs/{cid}?format=raw"))
            .header(header::ACCEPT, "application/vnd.ipld.raw")
            .header(header::USER_AGENT, concat!("roadstead/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| unavailable(place, OPERATION, error))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| unavailable(place, OPERATION, error))?;
        match answer.status() {
            StatusCode::OK => self.read(cid, answer.into_body()).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(unavailable(place, OPERATION, AnswerError::Status(other))),
        }
    }

    async fn read(&self, cid: &Cid, mut body: Incoming) -> Result<Bytes, ContentError> {
        let mut block = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| unavailable(&self.target.address.base, OPERATION, error))?;
            let Ok(data) = frame.into_data() else { break };
            if block.len() + data.len() > MAX_BLOCK {
                return Err(ContentError::TooLarge { cid: *cid });
            }
            block.extend_from_slice(&data);
        }
        verify(cid, &block, &self.target.address.base)?;
        Ok(block.freeze())
    }
}

#[async_trait]
impl BlockSource for GatewaySource {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        BlockId::of(cid)?;
        let late = |_| unavailable(&self.target.address.base, OPERATION, AnswerError::Late);
        tokio::time::timeout(ANSWER_TIME, self.ask(cid)).await.map_err(late)?
    }
}

impl fmt::Debug for GatewaySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("GatewaySource").field(&self.target.address.base).finish()
    }
}

impl fmt::Debug for GatewaySources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GatewaySources")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

type CertificateError = Arc<dyn Error + Send + Sync>;

type Tls = Result<Arc<ClientConfig>, CertificateError>;

fn tls_with_system_roots() -> Tls {
    let config = tls()?.with_native_roots();
    let config = config.map_err(|error| -> CertificateError { Arc::new(error) })?;
    Ok(Arc::new(config.with_no_client_auth()))
}

/// For sources by http, which trust nobody.
fn without_roots() -> Tls {
    let config = tls()?.with_root_certificates(RootCertStore::empty());
    Ok(Arc::new(config.with_no_client_auth()))
}

fn tls() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, CertificateError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.map_err(|error| -> CertificateError { Arc::new(error) })
}

fn unavailable(
    place: &str,
    operation: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> ContentError {
    ContentError::Unavailable { place: place.to_owned(), operation, source: source.into() }
}

#[cfg(test)]
mod tests;
