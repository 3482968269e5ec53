//! One JSON-RPC connection, checked to be the chain that was asked for.

use std::time::Duration;

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

    /// Connects to the first of the market's addresses that answers, and makes sure that it is the market's chain.
    pub async fn to_market(market: &Market) -> Result<Self, ChainError> {
        let poll_interval = if market.devnet { DEVNET_POLL } else { PUBLIC_POLL };
        let mut failure = None;
        for url in &market.rpc {
            let connection = Self::http(url, poll_interval)?;
            match connection.check(market.chain_id, market.genesis).await {
                Err(error) if error.is_retryable() => failure = failure.or(Some(error)),
                checked => return checked.map(|()| connection),
            }
        }
        Err(failure.unwrap_or_else(|| malformed("market file", "names no RPC address")))
    }

    fn http(url: &str, poll_interval: Duration) -> Result<Self, ChainError> {
        let no_url = |_| malformed("market file", format!("`{url}` is no URL"));
        let url: reqwest::Url = url.parse().map_err(no_url)?;
        let mut client = reqwest::Client::builder().timeout(ANSWER_TIME);
        if url.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.")) {
            // A proxy of the environment does not reach this machine's chains.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|error| malformed("HTTP client", error.to_string()))?;
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
            None => Err(malformed("eth_getBlockByNumber", "there is no latest block")),
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

    async fn check(&self, chain_id: u64, genesis: B256) -> Result<(), ChainError> {
        let differs = |what, found: String, expected: String| {
            if found == expected {
                Ok(())
            } else {
                Err(ChainError::AnotherChain { what, found, expected })
            }
        };
        differs("id", self.chain_id().await?.to_string(), chain_id.to_string())?;
        differs("genesis hash", self.genesis().await?.to_string(), genesis.to_string())
    }
}

/// Names the operation that a transport error belongs to.
pub(crate) fn rpc(operation: &'static str) -> impl Fn(RpcError<TransportErrorKind>) -> ChainError {
    move |error| ChainError::Rpc { operation, source: error.into() }
}

pub(crate) fn malformed(operation: &'static str, reason: impl Into<String>) -> ChainError {
    ChainError::Malformed { operation, reason: reason.into() }
}
