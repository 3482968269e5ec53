//! The real ports of a provider.

use std::{fmt, sync::Arc};

use alloy_primitives::Address;
use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::{
    ports::{ChainError, ChainReader, ChainWriter, ContentError, Engine, WriteError},
    with_causes,
};
use roadstead_journal::{Journal, JournalBinding, JournalError, StateFolder};
use roadstead_store::{EmbeddedStore, GatewaySources, SourcePolicy};
use roadstead_types::Market;

use crate::{LoopbackEndpoints, Ports, StatusPorts};

/// The cache's folder in the state folder.
pub(crate) const BLOCKS: &str = "blocks";

/// Why a provider cannot reach the world.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The chain does not answer, or is another one.
    #[error("the market's chain cannot be used")]
    Chain(#[from] ChainError),
    /// What must outlive the process cannot be kept, or belongs to another chain.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
    /// Blocks cannot be kept, or not be fetched.
    #[error("the content store cannot be used")]
    Content(#[from] ContentError),
    /// What an earlier process had begun to send is not at its end.
    #[error("a transaction of an earlier process could not be brought to its end")]
    Resume(#[from] WriteError),
}

/// Connects a provider to its market, with a cache for blocks in its state folder. There must be one set of ports per
/// wallet, because the wallet's transactions take turns.
pub async fn wire(
    market: Market,
    wallet: Wallet,
    folder: &StateFolder,
    engine: Arc<dyn Engine>,
) -> Result<Ports, WireError> {
    let cache = EmbeddedStore::open(folder.path().join(BLOCKS))?;
    let policy = if market.devnet { SourcePolicy::Development } else { SourcePolicy::Public };
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let client = MarketClient::connect(market).await?;
    let signer = Arc::new(wallet.clone());
    let account = client.account(wallet).with_intents(Arc::new(journal.clone()));
    let poll_interval = client.poll_interval();
    let client = Arc::new(client);
    Ok(Ports {
        events: client.clone(),
        reader: client,
        writer: Arc::new(account),
        signer,
        journal,
        poll_interval,
        cache: Arc::new(cache),
        sources: Arc::new(GatewaySources::new(policy)),
        engine,
        endpoints: Arc::new(LoopbackEndpoints),
    })
}

/// What it takes to register.
#[derive(Clone)]
pub struct RegistryPorts {
    /// Reads the registry.
    pub reader: Arc<dyn ChainReader>,
    /// Writes as the provider.
    pub writer: Arc<dyn ChainWriter>,
}

impl fmt::Debug for RegistryPorts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RegistryPorts").field("account", &self.writer.account()).finish()
    }
}

/// Connects a provider that only registers, and brings to an end what an earlier process has signed.
pub async fn wire_registry(
    market: Market,
    wallet: Wallet,
    folder: &StateFolder,
) -> Result<RegistryPorts, WireError> {
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let client = MarketClient::connect(market).await?;
    let account = client.account(wallet).with_intents(Arc::new(journal));
    account.resume().await?;
    Ok(RegistryPorts { reader: Arc::new(client), writer: Arc::new(account) })
}

/// Connects whoever wants to know how the provider `account` stands, while no daemon of it runs. `engine` is what ran its
/// containers, if anything ever did. A chain that cannot be used is no error: the rest is known without it.
pub async fn wire_status(
    market: Market,
    account: Address,
    folder: &StateFolder,
    engine: Option<Arc<dyn Engine>>,
) -> Result<StatusPorts, WireError> {
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let reader = match MarketClient::connect(market).await {
        Ok(client) => Ok(Arc::new(client) as Arc<dyn ChainReader>),
        Err(error) => Err(with_causes(&error)),
    };
    Ok(StatusPorts { account, reader, journal, engine, endpoints: Arc::new(LoopbackEndpoints) })
}
