//! The provider's client, as a library: it registers, follows the chain and looks after its jobs.
//!
//! Built from ports ([`Ports`]); [`wire`] is the one place that picks the real ones. Progress comes out as
//! [`ProviderEvent`]s, and whoever calls decides what to draw.

mod daemon;
mod keys;
mod registration;
mod wire;

pub use daemon::{Daemon, DaemonError, ProviderEvent};
pub use keys::{KeyError, Keys};
pub use registration::{RegisterError, Registered, RegistryChange, register};
pub use wire::wire;

use std::{sync::Arc, time::Duration};

use roadstead_core::ports::{ChainEvents, ChainReader, ChainWriter};

/// What a provider needs from the world.
#[derive(Clone)]
pub struct Ports {
    /// Follows jobs on chain.
    pub events: Arc<dyn ChainEvents>,
    /// Reads the chain's newest state.
    pub reader: Arc<dyn ChainReader>,
    /// Writes as the provider.
    pub writer: Arc<dyn ChainWriter>,
    /// How often the chain is asked for news.
    pub poll_interval: Duration,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ports").field("account", &self.writer.account()).finish()
    }
}
