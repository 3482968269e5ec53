//! The real ports of a provider.

use std::sync::Arc;

use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::ports::{ChainError, ContentError, Engine};
use roadstead_journal::{Journal, JournalBinding, JournalError, StateFolder};
use roadstead_store::{EmbeddedStore, GatewaySources, SourcePolicy};
use roadstead_types::Market;

use crate::{LoopbackEndpoints, Ports};

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
}

/// Connects a provider to its market, with a cache for blocks in its state folder. There must be one set of ports per
/// wallet, because the wallet's transactions take turns.
pub async fn wire(
    market: Market,
    wallet: Wallet,
    folder: &StateFolder,
    engine: Arc<dyn Engine>,
) -> Result<Ports, WireError> {
    let cache = EmbeddedStore::open(folder.path().join("blocks"))?;
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
