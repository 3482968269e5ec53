//! One JSON-RPC connection, checked to be the chain that was asked for.

use std::{error::Error, net::IpAddr, time::Duration};

use alloy::{
    eips::BlockNumberOrTag,
    network::Ethereum,
    primitives::{B256, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::client::RpcClient,
    transports::{
        RpcError, TransportErrorKind,
        http::{Http, reqwest},
    },
};
use roadstead_core::{
    BlockRef,
    ports::{ChainError, Head},
};
use roadstead_types::{Market, Timestamp};

/// A connection to a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    provider: DynProvider<Ethereum>,
    poll_interval: Duration,
}

/// How often a chain of one-second blocks is asked for news.
const DEVNET_POLL: Duration = Duration::from_millis(200);
/// How often any other chain is asked for news.
const PUBLIC_POLL: Duration = Duration::from_secs(2);

/// How long a node may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

impl Connection {
    /// Wraps a client with any transport. `poll_interval` is how often the node is asked for news.
    pub fn new(client: RpcClient, poll_interval: Duration) -> Self {
        let provider = ProviderBuilder::default().connect_client(client);
        Self { provider: DynProvider::new(provider), poll_interval }
    }

    /// Connects to a development chain over HTTP.
    pub fn devnet(url: &str) -> Result<Self, ChainError> {
        Self::http(url, DEVNET_POLL)
    }

    /// Connects to the first of the market's addresses that answers and is the market's chain. The choice stands for
    /// the life of the connection.
    pub async fn to_market(market: &Market) -> Result<Self, ChainError> {
        let poll_interval = if market.devnet { DEVNET_POLL } else { PUBLIC_POLL };
        let mut failure = None;
        for url in &market.rpc {
            let connected = async {
                let connection = Self::http(url, poll_interval)?;
                connection.check(market).await.map(|()| connection)
            };
            match connected.await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let address = market.rpc.join(", ");
        Err(failure.unwrap_or(ChainError::BadAddress { address, reason: "it names no node" }))
    }

    fn http(address: &str, poll_interval: Duration) -> Result<Self, ChainError> {
        let bad = |reason| ChainError::BadAddress { address: address.to_owned(), reason };
        let url: reqwest::Url = address.parse().map_err(|_| bad("it is no URL"))?;
        if url.scheme() != "http" {
            return Err(bad("only http:// is supported so far"));
        }
        let mut client = reqwest::Client::builder().timeout(ANSWER_TIME);
        if is_loopback(&url) {
            // A proxy of the environment does not reach this machine's chains.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|_| bad("there is no HTTP client for it"))?;
        Ok(Self::new(RpcClient::new(Http::with_client(client, url), false), poll_interval))
    }

    /// The id of the chain that answers.
    pub async fn chain_id(&self) -> Result<u64, ChainError> {
        self.provider.get_chain_id().await.map_err(rpc("eth_chainId"))
    }

    /// The hash of block 0.
    pub async fn genesis(&self) -> Result<B256, ChainError> {
        match self.block(BlockNumberOrTag::Earliest).await? {
            Some(head) => Ok(head.block.hash),
            None => Err(malformed("eth_getBlockByNumber", "there is no block 0")),
        }
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Head, ChainError> {
        match self.block(BlockNumberOrTag::Latest).await? {
            Some(head) => Ok(head),
            None => Err(ChainError::Moved { operation: "eth_getBlockByNumber" }),
        }
    }

    /// Gives an account ether on a development chain: anvil's cheat, which ours answers as well.
    pub async fn set_balance(
        &self,
        account: alloy::primitives::Address,
        wei: U256,
    ) -> Result<(), ChainError> {
        let method = "anvil_setBalance";
        let done = self.provider.raw_request::<_, Option<bool>>(method.into(), (account, wei));
        done.await.map(drop).map_err(rpc(method))
    }

    pub(crate) async fn block(&self, tag: BlockNumberOrTag) -> Result<Option<Head>, ChainError> {
        let block = self.provider.get_block_by_number(tag);
        let block = block.await.map_err(rpc("eth_getBlockByNumber"))?;
        Ok(block.map(|block| Head {
            block: BlockRef { number: block.header.number, hash: block.header.hash },
            timestamp: Timestamp::from_block(block.header.timestamp),
        }))
    }

    pub(crate) const fn provider(&self) -> &DynProvider<Ethereum> {
        &self.provider
    }

    pub(crate) const fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// Makes sure that the market's chain answers, and not another one or another life of it.
    pub(crate) async fn check(&self, market: &Market) -> Result<(), ChainError> {
        let same = |what, found: String, expected: String| {
            if found == expected {
                Ok(())
            } else {
                Err(ChainError::AnotherChain { what, found, expected })
            }
        };
        same("id", self.chain_id().await?.to_string(), market.chain_id.to_string())?;
        same("genesis hash", self.genesis().await?.to_string(), market.genesis.to_string())
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Names the operation that a transport error belongs to. An address may hold a password, so it is left out.
pub(crate) fn rpc(operation: &'static str) -> impl Fn(RpcError<TransportErrorKind>) -> ChainError {
    move |error| {
        let source: Box<dyn Error + Send + Sync> = match error {
            RpcError::Transport(TransportErrorKind::Custom(error)) => {
                match error.downcast::<reqwest::Error>() {
                    Ok(error) => error.without_url().into(),
                    Err(error) => error,
                }
            }
            error => error.into(),
        };
        ChainError::Rpc { operation, source }
    }
}

pub(crate) fn malformed(operation: &'static str, reason: impl Into<String>) -> ChainError {
    ChainError::Malformed { operation, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for (url, expected) in [
            ("http://127.0.0.1:8545", true),
            ("http://127.8.8.8", true),
            ("http://localhost:1/", true),
            ("http://[::1]:8545", true),
            ("http://127.0.0.1.example.org", false),
            ("http://10.0.0.1:8545", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_says_why() {
        for (address, reason) in [
            ("http://", "it is no URL"),
            ("127.0.0.1:8545", "it is no URL"),
            ("https://example.org", "only http:// is supported so far"),
            ("file:///etc/passwd", "only http:// is supported so far"),
        ] {
            let refused = Connection::devnet(address).unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_never_answers_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let asked = Connection::devnet(&url).unwrap().chain_id().await;
        assert!(asked.unwrap_err().is_retryable());
    }

    #[tokio::test]
    async fn an_error_shows_no_password() {
        let connection = Connection::devnet("http://user:secret@127.0.0.1:1/key").unwrap();
        let error = connection.chain_id().await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        assert!(!format!("{error} {source} {source:?}").contains("secret"), "{source:?}");
    }
}
