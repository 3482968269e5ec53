//! The real ports of a publisher.

use std::sync::Arc;

use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::ports::{ChainError, ChainWriter, ContentStore, WriteError};
use roadstead_journal::{Journal, JournalBinding, JournalError, StateFolder};
use roadstead_net::{ClientError, JobClient};
use roadstead_types::Market;

use crate::{Keys, Ports};

/// Why a publisher cannot reach the world.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The chain does not answer, or is another one.
    #[error("the market's chain cannot be used")]
    Chain(#[from] ChainError),
    /// What is durable cannot be kept, or belongs to another market.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
    /// Providers cannot be asked.
    #[error("the peer network cannot be used")]
    Network(#[from] ClientError),
    /// What an earlier process had begun to send is not at its end.
    #[error("a transaction of an earlier process could not be brought to its end")]
    Resume(#[from] WriteError),
}

/// Connects a publisher, whose blocks `store` keeps, to its market, and brings to an end what an earlier process has
/// signed. There must be one set of ports per wallet, because the wallet's transactions take turns.
pub async fn wire(
    market: Market,
    wallet: Wallet,
    store: Arc<dyn ContentStore>,
    folder: &StateFolder,
    keys: &Keys,
) -> Result<Ports, WireError> {
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let link = JobClient::start(&keys.identity)?;
    let (domain, from_block) = (market.domain(), market.from_block);
    let client = MarketClient::connect(market).await?;
    let account = client.account(wallet.clone()).with_intents(Arc::new(journal.clone()));
    account.resume().await?;
    let poll_interval = client.poll_interval();
    let client = Arc::new(client);
    Ok(Ports {
        events: client.clone(),
        reader: client,
        writer: Arc::new(account),
        poll_interval,
        store,
        link: Arc::new(link),
        journal,
        wallet: Arc::new(wallet),
        domain,
        from_block,
        opening: Arc::default(),
    })
}
