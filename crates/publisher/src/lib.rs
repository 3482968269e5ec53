//! The publisher's client, as a library: it seals images and bundles, opens jobs, accepts their bills, closes them and
//! takes the rest of its money back.
//!
//! Built from ports ([`Ports`], [`AgentPorts`]); [`wire`] is the one place that picks the real ones. Every command is
//! one function with a serialisable result, and may be repeated after any interruption: a job is never opened twice.
//! The [`Agent`] is the one part that runs for long.

mod agent;
mod cast;
mod close;
mod history;
mod keys;
mod line;
mod manifest;
mod open;
mod order;
mod profile;
mod providers;
mod publication;
mod publish;
mod purse;
mod records;
mod registry;
mod seal;
mod summary;
mod top_up;
mod verify;
mod wire;
mod withdraw;

pub use agent::{
    AdoptError, Agent, AgentError, AgentEvent, AgentLimits, AgentPorts, FollowError, adopt,
};
pub use cast::{CastError, CastKey, cast_lines};
pub use close::{CloseError, CloseEvent, Closed, Ending, close};
pub use keys::{AgentKeys, KeyError, Keys};
pub use line::TalkError;
pub use manifest::{ManifestFileError, read_manifest};
pub use open::{OpenError, OpenRequest, Opened, open};
pub use order::{NoticeReason, ORDER_PATIENCE};
pub use profile::{ProfileError, provider_profile};
pub use providers::{ListedProvider, providers};
pub use publication::{Publication, Wish, find_live, find_publication};
pub use publish::{Deal, Prepared, PublishError, provider_key, publish};
pub use purse::Purse;
pub use records::Records;
pub use seal::{SealWorkloadError, SealedImage, SealedWorkload, seal};
pub use summary::{JobSummary, SummaryError, job_summaries};
pub use top_up::{TopUpError, ToppedUp, top_up};
pub use verify::{VerifiedBill, VerifyError, verify_job};
pub use wire::{WireError, wire, wire_agent};
pub use withdraw::{WithdrawError, Withdrawn, withdraw};

use std::{sync::Arc, time::Duration};

use roadstead_core::ports::{
    ChainEvents, ChainReader, ChainWriter, ContentStore, JobLink, Resumed, Signer,
};
use roadstead_journal::Journal;
use roadstead_types::Domain;
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
    /// Asks providers.
    pub link: Arc<dyn JobLink>,
    /// Keeps plans, receipts and vouchers.
    pub journal: Journal,
    /// Signs as the publisher what is not a transaction: orders.
    pub wallet: Arc<dyn Signer>,
    /// Where signatures count.
    pub domain: Domain,
    /// The first block that can hold an event of the market.
    pub from_block: u64,
    /// Jobs are opened one after the other.
    pub opening: Arc<Mutex<()>>,
    /// What came to its end of what an earlier process had signed. Who repeats one of these calls takes it out, and sends
    /// nothing.
    pub resumed: Arc<std::sync::Mutex<Vec<Resumed>>>,
}

impl Ports {
    /// The ports of an agent that shares this publisher's journal and its identity.
    pub fn agent(&self, keys: &AgentKeys) -> AgentPorts {
        AgentPorts {
            events: self.events.clone(),
            reader: self.reader.clone(),
            poll_interval: self.poll_interval,
            link: self.link.clone(),
            journal: self.journal.clone(),
            signer: Arc::new(keys.signer.clone()),
            domain: self.domain,
            from_block: self.from_block,
        }
    }
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ports").field("account", &self.writer.account()).finish()
    }
}
