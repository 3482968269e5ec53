//! A Kubo daemon as a content store, over its RPC.
//!
//! Every call says `offline`: a block that the daemon does not have is absent, and not looked for in the whole network.
//! What is pinned by others in the same daemon stays invisible where its ids are none of ours, and stays pinned. How
//! durable a pin is, and that a collection may take what is being put while it runs, is the daemon's affair.

use std::{
    error::Error,
    fmt,
    future::Future,
    io::Cursor,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Collected, Empty, Limited};
use hyper::{Request, StatusCode, body::Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use ipfs_api_backend_hyper::{
    ApiError, BackendWithGlobalOptions, Error as ApiFailure, GlobalOptions, IpfsApi, IpfsClient,
    TryFromUri, request::BlockPut,
};
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_types::{Cid, content::MAX_BLOCK};
use serde_json::Value;
use url::Url;

use crate::block::{BlockId, unavailable, verify, verify_apart};

/// For a block.
const BLOCK_TIME: Duration = Duration::from_secs(60);

/// For a pin or a list of pins.
const PIN_TIME: Duration = Duration::from_secs(600);

/// For a collection.
const COLLECT_TIME: Duration = Duration::from_secs(3600);

/// The most bytes of one line of a collection's answer.
const MAX_LINE: usize = 4096;

/// The most characters of a daemon's error that are shown.
const MAX_WORDS: usize = 1024;

/// A Kubo daemon. Cheap to clone.
#[derive(Clone)]
pub struct KuboStore {
    url: String,
    api: Arc<BackendWithGlobalOptions<IpfsClient>>,
    /// For what the library above has no call for.
    plain: Client<HttpConnector, Empty<Bytes>>,
}

/// Why a daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum KuboError {
    #[error("it did not answer within {} seconds", .0.as_secs())]
    Late(Duration),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("it said: {0}")]
    Said(String),
    #[error("it sent more than the {MAX_BLOCK} bytes that a block may have")]
    TooLong,
    #[error("its answer makes no sense")]
    Senseless,
}

impl KuboError {
    /// The daemon's words, without what a terminal would take for commands.
    fn said(words: &str) -> Self {
        let is_shown = |letter: &char| !letter.is_control();
        let shown =
            |letter: char| Some(letter).filter(is_shown).unwrap_or(char::REPLACEMENT_CHARACTER);
        Self::Said(words.chars().take(MAX_WORDS).map(shown).collect())
    }
}

impl KuboStore {
    /// The daemon whose RPC is at `url`, such as `http://127.0.0.1:5001`. Nothing is asked yet.
    pub fn new(url: &str) -> Result<Self, ContentError> {
        let refuse = |address: &str, reason: &str| ContentError::Refused {
            address: address.escape_default().to_string(),
            reason: reason.to_owned(),
        };
        // Before it is parsed: what is no URL may hold a password as well.
        if url.contains('@') {
            return Err(refuse("(not shown)", "it holds credentials, and none are sent"));
        }
        let refuse = |reason| refuse(url, reason);
        let parsed: Url = url.parse().map_err(|_| refuse("it is no URL"))?;
        let has_more = parsed.query().is_some() || parsed.fragment().is_some();
        if parsed.scheme() != "http" || parsed.path() != "/" || has_more {
            return Err(refuse("it is not http:// with a host and a port alone"));
        }
        let url = parsed.as_str().trim_end_matches('/').to_owned();
        let api = IpfsClient::from_str(&url).map_err(|_| refuse("it names no host and port"))?;
        let options = GlobalOptions::builder().offline(true).timeout(PIN_TIME).build();
        let api = Arc::new(BackendWithGlobalOptions::new(api, options));
        let plain = Client::builder(TokioExecutor::new()).build_http();
        Ok(Self { url, api, plain })
    }

    /// The version of the daemon: whether one is there.
    pub async fn version(&self) -> Result<String, ContentError> {
        let version = self.ask("version", BLOCK_TIME, self.api.version()).await;
        version.map(|answer| answer.version).map_err(Failed::into_error)
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        time: Duration,
        call: impl Future<Output = Result<T, ApiFailure>>,
    ) -> Result<T, Failed<'_>> {
        let failed = |failure| Failed { url: &self.url, operation, failure };
        match tokio::time::timeout(time, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(failed(Failure::Api(failure))),
            Err(_) => Err(failed(Failure::Other(KuboError::Late(time)))),
        }
    }

    /// Reads a block, at most one piece more than a block may have.
    async fn read(&self, cid: &Cid) -> Result<Bytes, ApiFailure> {
        let text = cid.to_string();
        let mut stream = self.api.block_get(&text);
        let mut block = BytesMut::new();
        while let Some(piece) = stream.next().await {
            block.extend_from_slice(&piece?);
            if block.len() > MAX_BLOCK {
                break;
            }
        }
        Ok(block.freeze())
    }

    /// The URL of the gateway that the daemon serves its blocks at, as its configuration has it: what a source is opened
    /// with. An error where there is none, or one at a port that only its start decides.
    pub async fn gateway(&self) -> Result<String, ContentError> {
        const OPERATION: &str = "config";
        let late = |_| unavailable(&self.url, OPERATION, KuboError::Late(BLOCK_TIME));
        let asked = self.ask_plainly(OPERATION, "config?arg=Addresses.Gateway");
        let answer = async {
            let body = Limited::new(asked.await?, MAX_LINE).collect().await;
            body.map(Collected::to_bytes).map_err(|error| unavailable(&self.url, OPERATION, error))
        };
        let answer = tokio::time::timeout(BLOCK_TIME, answer).await.map_err(late)??;
        let senseless = |_| unavailable(&self.url, OPERATION, KuboError::Senseless);
        let answer: Value = serde_json::from_slice(&answer).map_err(senseless)?;
        // One address, or a list of them.
        let value = &answer["Value"];
        let texts = value
            .as_str()
            .into_iter()
            .chain(value.as_array().into_iter().flatten().filter_map(Value::as_str));
        let host = self.url.parse::<Url>().ok().and_then(|url| Some(url.host_str()?.to_owned()));
        let mut urls = texts.filter_map(|text| gateway_url(text, host.as_deref()?));
        urls.next().ok_or_else(|| ContentError::Refused {
            address: self.url.clone(),
            reason:
                "the Kubo daemon there serves no gateway at a fixed TCP port; give it one with \
                `ipfs config Addresses.Gateway /ip4/127.0.0.1/tcp/8080`, and start it again"
                    .into(),
        })
    }

    /// A call that the library has not. The answer has begun, and is not an error.
    async fn ask_plainly(
        &self,
        operation: &'static str,
        call: &str,
    ) -> Result<Incoming, ContentError> {
        let failed = |error: Box<dyn Error + Send + Sync>| unavailable(&self.url, operation, error);
        let request = Request::post(format!("{}/api/v0/{call}", self.url)).body(Empty::new());
        let request = request.map_err(|error| failed(error.into()))?;
        let answer = self.plain.request(request).await.map_err(|error| failed(error.into()))?;
        if answer.status() != StatusCode::OK {
            return Err(failed(KuboError::Status(answer.status()).into()));
        }
        Ok(answer.into_body())
    }

    /// Counts the blocks that a collection names, a line each.
    async fn count_collected(&self) -> Result<u64, ContentError> {
        const OPERATION: &str = "repo/gc";
        let failed = |error: Box<dyn Error + Send + Sync>| unavailable(&self.url, OPERATION, error);
        let mut body = self.ask_plainly(OPERATION, OPERATION).await?;
        let (mut line, mut removed) = (BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| failed(error.into()))?;
            let Ok(data) = frame.into_data() else { break };
            line.extend_from_slice(&data);
            while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let whole = line.split_to(end + 1);
                removed += removed_by(&whole).map_err(|error| failed(error.into()))?;
            }
            if line.len() > MAX_LINE {
                return Err(failed(KuboError::Senseless.into()));
            }
        }
        if !line.is_empty() {
            removed += removed_by(&line).map_err(|error| failed(error.into()))?;
        }
        Ok(removed)
    }
}

#[async_trait]
impl BlockSource for KuboStore {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        BlockId::of(cid)?;
        match self.ask("block/get", BLOCK_TIME, self.read(cid)).await {
            Ok(block) if block.len() > MAX_BLOCK => {
                Err(unavailable(&self.url, "block/get", KuboError::TooLong))
            }
            Ok(block) => verify_apart(cid, block, &self.url).await.map(Some),
            Err(failed) if failed.absent().is_some() => Ok(None),
            Err(failed) => Err(failed.into_error()),
        }
    }
}

#[async_trait]
impl ContentStore for KuboStore {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        let id = verify(cid, &block, "the caller")?;
        if self.has(cid).await? {
            return Ok(false);
        }
        // The names by which every version knows them; both give ids of version 1.
        let format = if id.is_node { "protobuf" } else { "raw" };
        let options = BlockPut::builder().format(format).build();
        let call = self.api.block_put_with_options(Cursor::new(block), options);
        let answer = self.ask("block/put", BLOCK_TIME, call).await.map_err(Failed::into_error)?;
        if Cid::try_from(answer.key.as_str()).ok() != Some(*cid) {
            return Err(ContentError::Mismatch { place: self.url.clone(), cid: *cid });
        }
        Ok(true)
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        BlockId::of(cid)?;
        let text = cid.to_string();
        match self.ask("block/stat", BLOCK_TIME, self.api.block_stat(&text)).await {
            Ok(_) => Ok(true),
            Err(failed) if failed.absent().is_some() => Ok(false),
            Err(failed) => Err(failed.into_error()),
        }
    }

    async fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        BlockId::of(root)?;
        let text = root.to_string();
        match self.ask("pin/add", PIN_TIME, self.api.pin_add(&text, true)).await {
            Ok(_) => Ok(()),
            Err(failed) => match failed.absent() {
                Some(cid) => Err(ContentError::Absent { cid }),
                None => Err(failed.into_error()),
            },
        }
    }

    async fn unpin(&self, root: &Cid) -> Result<(), ContentError> {
        BlockId::of(root)?;
        let text = root.to_string();
        match self.ask("pin/rm", PIN_TIME, self.api.pin_rm(&text, true)).await {
            Ok(_) => Ok(()),
            Err(failed) if failed.says("not pinned") => Ok(()),
            Err(failed) => Err(failed.into_error()),
        }
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        let call = self.api.pin_ls(None, Some("recursive"));
        let answer = self.ask("pin/ls", PIN_TIME, call).await.map_err(Failed::into_error)?;
        let cids = answer.keys.keys().filter_map(|key| Cid::try_from(key.as_str()).ok());
        Ok(cids.filter(|cid| BlockId::of(cid).is_ok()).collect())
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        let late = |_| unavailable(&self.url, "repo/gc", KuboError::Late(COLLECT_TIME));
        tokio::time::timeout(COLLECT_TIME, self.count_collected()).await.map_err(late)?
    }
}

impl fmt::Debug for KuboStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("KuboStore").field(&self.url).finish()
    }
}

/// A call that failed, before it is known what that means.
struct Failed<'a> {
    url: &'a str,
    operation: &'static str,
    failure: Failure,
}

enum Failure {
    Api(ApiFailure),
    Other(KuboError),
}

impl Failed<'_> {
    /// The daemon's words: Kubo tells its errors apart by nothing else.
    fn words(&self) -> Option<&str> {
        match &self.failure {
            Failure::Api(ApiFailure::Api(ApiError { message, .. })) => Some(message),
            _ => None,
        }
    }

    fn says(&self, words: &str) -> bool {
        self.words().is_some_and(|said| said.contains(words))
    }

    /// The block that the daemon does not have, which need not be the one it was asked for. Its blockstore names it
    /// behind these words; other things can be "not found" as well.
    fn absent(&self) -> Option<Cid> {
        let (_, named) = self.words()?.split_once("ipld: could not find ")?;
        Cid::try_from(named.split_whitespace().next()?).ok()
    }

    fn into_error(self) -> ContentError {
        let source: Box<dyn Error + Send + Sync> = match self.failure {
            Failure::Api(ApiFailure::Api(ApiError { message, .. })) => {
                KuboError::said(&message).into()
            }
            Failure::Api(other) => other.into(),
            Failure::Other(error) => error.into(),
        };
        unavailable(self.url, self.operation, source)
    }
}

/// How many blocks a line of a collection's answer names.
fn removed_by(line: &[u8]) -> Result<u64, KuboError> {
    let line: Value = serde_json::from_slice(line).map_err(|_| KuboError::Senseless)?;
    match line.get("Error").and_then(Value::as_str) {
        Some(error) if !error.is_empty() => Err(KuboError::said(error)),
        _ => Ok(u64::from(line.pointer("/Key/~1").is_some_and(Value::is_string))),
    }
}

/// The URL of a multiaddress of TCP, such as `/ip4/127.0.0.1/tcp/8080`. One that stands for all addresses of the daemon's
/// machine is reached as its RPC is, at `host`.
fn gateway_url(multiaddress: &str, host: &str) -> Option<String> {
    let parts: Vec<&str> = multiaddress.split('/').collect();
    let (kind, name, port) = match parts[..] {
        ["", kind, name, "tcp", port] | ["", kind, name, "tcp", port, "http"] => (kind, name, port),
        _ => return None,
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    let name = match kind {
        "ip4" => match name.parse::<Ipv4Addr>().ok()? {
            Ipv4Addr::UNSPECIFIED => host.to_owned(),
            address => address.to_string(),
        },
        "ip6" => match name.parse::<Ipv6Addr>().ok()? {
            Ipv6Addr::UNSPECIFIED => host.to_owned(),
            address => format!("[{address}]"),
        },
        "dns" | "dns4" | "dns6" => name.to_owned(),
        _ => return None,
    };
    let url: Url = format!("http://{name}:{port}").parse().ok()?;
    // What is more than a host and a port came from a name that is none.
    (url.path() == "/" && url.query().is_none() && url.username().is_empty())
        .then(|| url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiaddress_of_tcp_is_a_url() {
        for (multiaddress, url) in [
            ("/ip4/127.0.0.1/tcp/8080", Some("http://127.0.0.1:8080")),
            ("/ip4/127.0.0.1/tcp/8080/http", Some("http://127.0.0.1:8080")),
            ("/ip6/::1/tcp/8080", Some("http://[::1]:8080")),
            ("/dns4/gateway.example/tcp/81", Some("http://gateway.example:81")),
            ("/ip4/0.0.0.0/tcp/8080", Some("http://daemon.example:8080")),
            ("/ip6/::/tcp/8080", Some("http://daemon.example:8080")),
            ("/ip4/127.0.0.1/tcp/0", None),
            ("/ip4/127.0.0.1/tcp/65536", None),
            ("/ip4/127.0.0.1/udp/8080", None),
            ("/ip4/gateway.example/tcp/8080", None),
            ("/dns4/user@gateway.example/tcp/81", None),
            ("/dns4/gateway.example?x/tcp/81", None),
            ("/unix/run/gateway", None),
            ("127.0.0.1:8080", None),
            ("", None),
        ] {
            assert_eq!(
                gateway_url(multiaddress, "daemon.example").as_deref(),
                url,
                "{multiaddress}"
            );
        }
    }
}
