//! The real ports of a publisher and of its agent.

use std::sync::Arc;

use roadstead_chain::MarketClient;
use roadstead_core::ports::{ChainError, ChainWriter, ContentStore, Signer, WriteError};
use roadstead_journal::{Journal, JournalBinding, JournalError, StateFolder};
use roadstead_net::{ClientError, JobClient};
use roadstead_types::Market;

use crate::{AgentKeys, AgentPorts, Keys, Ports, Purse, purse::ClosedPurse};

/// Why a publisher or its agent cannot reach the world.
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

/// Connects a publisher, whose blocks `store` keeps and whose money is in `purse`, to its market, and brings to an end
/// what an earlier process has signed. There must be one set of ports per wallet, because the wallet's transactions take
/// turns.
pub async fn wire(
    market: Market,
    purse: impl Into<Purse>,
    store: Arc<dyn ContentStore>,
    folder: &StateFolder,
    keys: &Keys,
) -> Result<Ports, WireError> {
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let link = JobClient::start(&keys.identity)?;
    let (domain, from_block) = (market.domain(), market.from_block);
    let client = MarketClient::connect(market).await?;
    let (writer, signer): (Arc<dyn ChainWriter>, Arc<dyn Signer>) = match purse.into() {
        Purse::Open(wallet) => {
            let account = client.account(wallet.clone()).with_intents(Arc::new(journal.clone()));
            (Arc::new(account), Arc::new(wallet))
        }
        Purse::Closed(address) => (Arc::new(ClosedPurse(address)), Arc::new(ClosedPurse(address))),
    };
    let resumed = writer.resume().await?;
    let poll_interval = client.poll_interval();
    let client = Arc::new(client);
    Ok(Ports {
        events: client.clone(),
        reader: client,
        writer,
        poll_interval,
        store,
        link: Arc::new(link),
        journal,
        wallet: signer,
        domain,
        from_block,
        opening: Arc::default(),
        resumed: Arc::new(resumed.into()),
    })
}

/// Connects an agent with a journal and an identity of its own to its market.
pub async fn wire_agent(
    market: Market,
    folder: &StateFolder,
    keys: &AgentKeys,
) -> Result<AgentPorts, WireError> {
    let journal = Journal::open(folder, &JournalBinding::from(&market))?;
    let link = JobClient::start(&keys.identity)?;
    let (domain, from_block) = (market.domain(), market.from_block);
    let client = MarketClient::connect(market).await?;
    let poll_interval = client.poll_interval();
    let client = Arc::new(client);
    Ok(AgentPorts {
        events: client.clone(),
        reader: client,
        poll_interval,
        link: Arc::new(link),
        journal,
        signer: Arc::new(keys.signer.clone()),
        domain,
        from_block,
    })
}
