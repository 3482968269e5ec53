//! Gateways of others as sources of blocks.
//!
//! Each answer is bounded in size and time and checked against its id; redirects are not followed, proxies of the
//! environment are not asked, nothing is decompressed. A host's name is resolved once in the life of a source.

mod dial;

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Incoming, header};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use roadstead_core::ports::{BlockSource, ContentError, Sources};
use roadstead_types::{Cid, content::MAX_BLOCK};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use self::dial::{Connector, Target, system_look_up};
use crate::{
    address::{SourceAddress, SourcePolicy},
    block::{BlockId, unavailable, verify_apart},
};

/// From the question for a block to the head of its answer, and then from one piece of the block to the next.
const STALL: Duration = Duration::from_secs(30);

/// From the question for a block to its last byte, however steadily it comes: a slow line takes a while for a block, but
/// a source that gives a byte now and then must not hold a fetch for ever.
const ANSWER_TIME: Duration = Duration::from_secs(600);

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
    roots: SystemRoots,
}

/// A gateway that is asked for raw blocks.
#[derive(Clone)]
pub struct GatewaySource {
    target: Arc<Target>,
    client: Client<Connector, Empty<Bytes>>,
}

/// Why a gateway did not answer as it should.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("it sent more than the {MAX_BLOCK} bytes that a block may have")]
    TooLong,
    #[error("nothing of the answer came for {} seconds", STALL.as_secs())]
    Stalled,
    #[error("no whole answer came within {} seconds", ANSWER_TIME.as_secs())]
    Late,
}

impl GatewaySources {
    /// Sources that `policy` lets be asked.
    pub const fn new(policy: SourcePolicy) -> Self {
        Self { policy, roots: SystemRoots::new(read_system_roots) }
    }

    /// The gateway at `address`, see [`Sources::open`]. The first source by https reads the system's root certificates,
    /// and so does the next where not all could be read.
    pub fn gateway(&self, address: &str) -> Result<GatewaySource, ContentError> {
        let address = SourceAddress::parse(address, self.policy)?;
        let tls = if address.base.starts_with("https:") {
            self.roots.config()
        } else {
            trusting(RootCertStore::empty())
        };
        let tls = tls.map_err(|error| unavailable(&address.base, "loading certificates", error))?;
        Ok(GatewaySource::new(Target::new(address, self.policy, system_look_up()), tls))
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
            .build(Connector::new(Arc::clone(&target), tls));
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
        let answer = self.patiently(self.client.request(request)).await?;
        let answer = answer.map_err(|error| unavailable(place, OPERATION, error))?;
        match answer.status() {
            StatusCode::OK => self.read(cid, answer.into_body()).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(unavailable(place, OPERATION, AnswerError::Status(other))),
        }
    }

    async fn read(&self, cid: &Cid, mut body: Incoming) -> Result<Bytes, ContentError> {
        let place = &self.target.address.base;
        let mut block = BytesMut::new();
        while let Some(frame) = self.patiently(body.frame()).await? {
            let frame = frame.map_err(|error| unavailable(place, OPERATION, error))?;
            let Ok(data) = frame.into_data() else { break };
            if block.len() + data.len() > MAX_BLOCK {
                // It says nothing about the block: another source may have it as it is.
                return Err(unavailable(place, OPERATION, AnswerError::TooLong));
            }
            block.extend_from_slice(&data);
        }
        verify_apart(cid, block.freeze(), place).await
    }

    /// Waits for a step of an answer as long as a step may take.
    async fn patiently<T>(&self, step: impl Future<Output = T>) -> Result<T, ContentError> {
        let stalled = |_| unavailable(&self.target.address.base, OPERATION, AnswerError::Stalled);
        tokio::time::timeout(STALL, step).await.map_err(stalled)
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

type CertificateError = Box<dyn Error + Send + Sync>;

/// The system's root certificates, read when the first source needs them.
struct SystemRoots {
    read: fn() -> ReadRoots,
    kept: Mutex<Option<Arc<ClientConfig>>>,
}

/// What could be read, and why that is not all.
struct ReadRoots {
    roots: RootCertStore,
    failure: Option<CertificateError>,
}

impl SystemRoots {
    const fn new(read: fn() -> ReadRoots) -> Self {
        Self { read, kept: Mutex::new(None) }
    }

    /// The configuration that trusts them. Only a whole reading is kept.
    fn config(&self) -> Result<Arc<ClientConfig>, CertificateError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*kept {
            return Ok(Arc::clone(config));
        }
        let ReadRoots { roots, failure } = (self.read)();
        if roots.is_empty() {
            return Err(failure.unwrap_or_else(|| "the system has none".into()));
        }
        let config = trusting(roots)?;
        match failure {
            Some(error) => tracing::warn!(%error, "some root certificates cannot be read"),
            None => *kept = Some(Arc::clone(&config)),
        }
        Ok(config)
    }
}

fn read_system_roots() -> ReadRoots {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems hold some that no client understands; reading them again would change nothing.
    roots.add_parsable_certificates(found.certs);
    let failure = found.errors.into_iter().next();
    ReadRoots { roots, failure: failure.map(Into::into) }
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, CertificateError> {
    Ok(Arc::new(tls()?.with_root_certificates(roots).with_no_client_auth()))
}

fn tls() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

#[cfg(test)]
mod tests;
