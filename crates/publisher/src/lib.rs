//! The publisher's client, as a library: it seals images and bundles, opens jobs, closes them and takes the rest of its
//! money back.
//!
//! Built from ports ([`Ports`]); [`wire`] is the one place that picks the real ones. Every command is one function
//! with a serialisable result, and may be repeated after any interruption: a job is never opened twice.

mod close;
mod keys;
mod open;
mod publish;
mod seal;
mod wire;
mod withdraw;

pub use close::{CloseError, Closed, close};
pub use keys::{KeyError, Keys};
pub use open::{OpenError, OpenRequest, Opened, open};
pub use publish::{Deal, Prepared, PublishError, provider_key, publish};
pub use seal::{SealWorkloadError, SealedImage, SealedWorkload, seal};
pub use wire::wire;
pub use withdraw::{WithdrawError, Withdrawn, withdraw};

use std::{sync::Arc, time::Duration};

use roadstead_core::ports::{ChainEvents, ChainReader, ChainWriter, ContentStore};
use tokio::sync::Mutex;

/// What a publisher needs from the world.
#[derive(Clone)]
pub struct Ports {
    /// Follows jobs on chain.
    pub events: Arc<dyn ChainEvents>,
    /// Reads the chain's newest state.
    pub reader: Arc<dyn ChainReader>,
    /// Writes as the publisher.
    pub writer: Arc<dyn ChainWriter>,
    /// How often the chain is asked for news.
    pub poll_interval: Duration,
    /// Keeps the blocks of images and bundles.
    pub store: Arc<dyn ContentStore>,
    /// Jobs are opened one after the other.
    pub opening: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ports").field("account", &self.writer.account()).finish()
    }
}
