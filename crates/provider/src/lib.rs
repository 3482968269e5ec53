//! The provider's client, as a library: it registers, follows the chain and looks after its jobs.
//!
//! Built from ports ([`Ports`]); [`wire`] is the one place that picks the real ones. Progress comes out as
//! [`ProviderEvent`]s, and whoever calls decides what to draw.

mod announce;
mod daemon;
mod deploy;
mod desk;
mod endpoints;
mod event;
#[cfg(test)]
mod fixture;
mod holdings;
mod hosting;
mod keys;
mod ledger;
mod machine;
mod metering;
mod quantity;
mod registration;
mod reset;
mod status;
mod tasks;
mod wire;

pub use announce::{AnnounceError, check_announced};
pub use daemon::{Daemon, DaemonError};
pub use deploy::{DeployError, RemoveError};
pub use endpoints::LoopbackEndpoints;
pub use event::ProviderEvent;
pub use holdings::ReleaseError;
pub use keys::{KeyError, Keys};
pub use ledger::LedgerError;
pub use machine::measure;
pub use multiaddr::Multiaddr;
pub use quantity::{Bytes, Cores, Mebibytes, PriceList, PriceTooHigh, TokenPrice, UnknownQuantity};
pub use registration::{
    RegisterError, Registered, RegistrationProblem, RegistryChange, check_registered, register,
    register_entry, registration,
};
pub use reset::{
    Cleared, Clearing, RemoveFileError, clear_engine, clear_files, count_open, remove,
};
pub use status::{
    ChainStatus, HostedJob, HostedPhase, ProviderStatus, RegistryStatus, StatusError, StatusPorts,
    count_living, status,
};
pub use wire::{RegistryPorts, WireError, wire, wire_registry, wire_status};

use std::{sync::Arc, time::Duration};

use roadstead_core::ports::{
    ChainEvents, ChainReader, ChainWriter, ContentStore, Endpoints, Engine, Signer, Sources,
};
use roadstead_journal::Journal;

/// What a provider needs from the world.
#[derive(Clone)]
pub struct Ports {
    /// Follows jobs on chain.
    pub events: Arc<dyn ChainEvents>,
    /// Reads the chain's newest state.
    pub reader: Arc<dyn ChainReader>,
    /// Writes as the provider.
    pub writer: Arc<dyn ChainWriter>,
    /// Signs receipts: the key of the provider or of its operator.
    pub signer: Arc<dyn Signer>,
    /// Keeps what must outlive the process.
    pub journal: Journal,
    /// How often the chain is asked for news.
    pub poll_interval: Duration,
    /// Keeps the blocks of bundles and images.
    pub cache: Arc<dyn ContentStore>,
    /// Turns what publishers write into something that blocks can be fetched from.
    pub sources: Arc<dyn Sources>,
    /// Runs the containers.
    pub engine: Arc<dyn Engine>,
    /// Makes their ports callable.
    pub endpoints: Arc<dyn Endpoints>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ports").field("account", &self.writer.account()).finish()
    }
}
