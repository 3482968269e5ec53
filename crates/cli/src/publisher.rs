//! A publisher's folder, opened for one command.

use std::sync::Arc;

use anyhow::Context as _;
use roadstead_core::ports::ContentStore;
use roadstead_devnet::StoreChoice;
use roadstead_journal::StateFolder;
use roadstead_publisher::{Keys, Ports, Purse, wire};
use roadstead_store::{EmbeddedStore, KuboStore};
use roadstead_types::Market;

use crate::{agent::BLOCKS, context::Context, home::Role};

/// Where a Kubo daemon answers that its user has left as it is.
const KUBO: &str = "http://127.0.0.1:5001";

/// A publisher. Its folder is locked while this lives.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) ports: Ports,
    pub(crate) keys: Keys,
    /// Where a gateway gives the blocks to anybody, if it is not the agent's.
    pub(crate) source: Option<String>,
    _folder: StateFolder,
}

impl Publisher {
    pub(crate) async fn open(
        context: &Context,
        market: &Market,
        purse: Purse,
        store: &StoreChoice,
    ) -> anyhow::Result<Self> {
        let folder = context.home.lock(Role::Publisher)?;
        let keys = Keys::load_or_create(&folder)?;
        let source = gateway_of(store).await?;
        let store = open_store(&folder, store)?;
        let ports = wire(market.clone(), purse, store, &folder, &keys).await;
        let ports = ports.context("the publisher cannot work")?;
        Ok(Self { ports, keys, source, _folder: folder })
    }
}

/// The store that was chosen, for the publisher of this folder.
pub(crate) fn open_store(
    folder: &StateFolder,
    choice: &StoreChoice,
) -> anyhow::Result<Arc<dyn ContentStore>> {
    const UNUSABLE: &str = "the content store cannot be used";
    Ok(match kubo_address(choice) {
        Some(url) => Arc::new(KuboStore::new(url).context(UNUSABLE)?),
        None => Arc::new(EmbeddedStore::open(folder.path().join(BLOCKS)).context(UNUSABLE)?),
    })
}

/// The gateway that a store has besides the agent's.
async fn gateway_of(choice: &StoreChoice) -> anyhow::Result<Option<String>> {
    let Some(url) = kubo_address(choice) else { return Ok(None) };
    let gateway = KuboStore::new(url)?.gateway().await;
    Ok(Some(gateway.context("the gateway of the content store is not known")?))
}

fn kubo_address(choice: &StoreChoice) -> Option<&str> {
    match choice {
        StoreChoice::Embedded => None,
        StoreChoice::Kubo => Some(KUBO),
        StoreChoice::Url(url) => Some(url),
    }
}
