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
        let (store, source) = open_store(&folder, store).await?;
        let ports = wire(market.clone(), purse, store, &folder, &keys).await;
        let ports = ports.context("the publisher cannot work")?;
        Ok(Self { ports, keys, source, _folder: folder })
    }
}

/// The store, and the gateway that it has besides the agent's.
async fn open_store(
    folder: &StateFolder,
    choice: &StoreChoice,
) -> anyhow::Result<(Arc<dyn ContentStore>, Option<String>)> {
    let url = match choice {
        StoreChoice::Embedded => {
            let store = EmbeddedStore::open(folder.path().join(BLOCKS));
            return Ok((Arc::new(store.context("the content store cannot be used")?), None));
        }
        StoreChoice::Kubo => KUBO,
        StoreChoice::Url(url) => url,
    };
    let store = KuboStore::new(url).context("the content store cannot be used")?;
    let gateway = store.gateway().await.context("the gateway of the content store is not known")?;
    Ok((Arc::new(store), Some(gateway)))
}
