//! Container engines. Their unit is an instance: one running copy of a job's workload.
//!
//! ```text
//!            prepare            apply                 it ends
//!  (nothing) ───────> image ──────────> running ───────────────> exited
//!                                       ^     │ freeze              │ apply: starts again
//!                                 thaw  │     v                     v
//!                                       frozen            remove from everywhere: (nothing)
//! ```
//!
//! Every call may be repeated, and is right after a crash of whoever calls: an instance goes on without its caller,
//! and a new one finds it by its id.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::SocketAddr,
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_types::{Container, ImageId, ImageKey, InstanceId};

use super::{LayerSource, OpenError};

/// Why an engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot work on this machine, or not for this user.
    #[error("the engine cannot be used here: {reason}")]
    Unusable {
        /// Why not, and what to do.
        reason: String,
    },
    /// It works for root alone, and this is another user.
    #[error("this engine needs root to run containers")]
    NeedsRoot,
    /// The image cannot be read, or its layers cannot be laid out.
    #[error("the image cannot be prepared")]
    Image(#[from] OpenError),
    /// An image that this engine cannot run: another architecture, a layer that is no tar, nothing to start.
    #[error("the image cannot be run: {reason}")]
    BadImage {
        /// What is wrong with it.
        reason: String,
    },
    /// The image was not prepared for this tenant.
    #[error("image {image} was not prepared")]
    NotPrepared {
        /// The image.
        image: ImageId,
    },
    /// Something is asked for that this engine cannot do.
    #[error("this engine cannot {what}")]
    Unsupported {
        /// What.
        what: String,
    },
    /// The container did not start, and never will like this: its program is missing, for example.
    #[error("the container cannot be started: {reason}")]
    CannotStart {
        /// What the engine said.
        reason: String,
    },
    /// There is no such instance.
    #[error("there is no instance {id}")]
    Absent {
        /// The id.
        id: InstanceId,
    },
    /// Anything else that the machine or the engine says. Trying again may help.
    #[error("{operation} failed")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl EngineError {
    /// Whether trying again later may help.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Image(error) => error.is_retryable(),
            Self::NotPrepared { .. } | Self::Failed { .. } => true,
            Self::Unusable { .. }
            | Self::NeedsRoot
            | Self::BadImage { .. }
            | Self::Unsupported { .. }
            | Self::CannotStart { .. }
            | Self::Absent { .. } => false,
        }
    }
}

/// What an engine can do. A job that needs more is refused before anything of it is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Containers in one instance, at most.
    pub containers: usize,
    /// Whether a running instance can be frozen and thawed.
    pub freezes: bool,
    /// Whether it holds an instance to its CPU, memory and process limits.
    pub limits_compute: bool,
    /// Whether it holds an instance to its storage limit.
    pub limits_storage: bool,
    /// Whether it meters CPU time.
    pub meters_cpu: bool,
    /// Whether it meters the bytes that go in and out.
    pub meters_network: bool,
}

/// What an instance should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSpec {
    /// Which.
    pub id: InstanceId,
    /// Its containers, with their prepared images.
    pub containers: Vec<(ImageKey, Container)>,
    /// What it may use at most.
    pub limits: Limits,
    /// What it can reach.
    pub network: Network,
}

/// What an instance may use at most. None of them is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu: u64,
    /// MiB. Exceeding it kills a process of the instance.
    pub memory: u64,
    /// MiB that it can write to its root file system. Exceeding it is "no space left" to the instance, or its end: an
    /// engine whose storage knows no bounds kills an instance that is seen to have written more. Such an engine counts
    /// what files hold, not folders nor the number of files.
    pub storage: u64,
    /// Processes and threads.
    pub pids: u32,
}

/// What an instance can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Nothing but itself, and with some engines what listens on all addresses of this machine. Its ports are called
    /// from this machine.
    Isolated,
}

/// Why an instance is frozen. It runs only while there is no reason left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FreezeReason {
    /// Accepted work is unpaid up to the provider's bound.
    Debt,
    /// Nobody calls it.
    Idle,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its processes run.
    Running,
    /// Its processes are there and do nothing.
    Frozen,
    /// Its first process ended; its files and its last readings are still there.
    Exited {
        /// Exit status as a shell has it: 128 + signal where a signal ended it; `None` where it cannot be known.
        status: Option<i32>,
        /// Whether it was killed for using more memory than it may; `None` where it cannot be known.
        out_of_memory: Option<bool>,
    },
}

/// What an engine sees of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Where it stands.
    pub phase: Phase,
    /// For each port of its containers, an address of this machine alone on which it is called. Nobody need listen
    /// there yet.
    pub ports: BTreeMap<u16, SocketAddr>,
}

/// Readings since the instance was started, which never fall while it lives, not even over a crash of the engine. Of an
/// instance that has ended they are the last that the engine has: those of its end, or those that were last asked for.
/// A resource that this engine does not meter, or whose counter it cannot read now, is `None`, never zero.
///
/// Bytes are payload, or those of the interface where the engine counts there, with all headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU milliseconds.
    pub cpu: Option<u64>,
    /// Bytes towards the instance.
    pub network_in: Option<u64>,
    /// Bytes from it.
    pub network_out: Option<u64>,
}

/// Runs instances.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Keeps an image for a tenant: reads, checks and lays out the layers that are not here for this tenant yet.
    async fn prepare(&self, key: &ImageKey, image: &dyn LayerSource) -> Result<(), EngineError>;

    /// The images that are kept.
    async fn images(&self) -> Result<Vec<ImageKey>, EngineError>;

    /// Lets an image and the layers go that no other image of the tenant needs. Not an error where it is not kept; an
    /// error where an instance still uses it.
    async fn remove_image(&self, key: &ImageKey) -> Result<(), EngineError>;

    /// Makes the instance run as specified: starts it where it is not there, starts it anew where it has ended, leaves
    /// it alone where it runs or is frozen. Its counters begin at zero with each start.
    async fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError>;

    /// The instances that are here, whatever became of them.
    async fn instances(&self) -> Result<Vec<InstanceId>, EngineError>;

    /// Where an instance stands; `None` where it is not here.
    async fn observe(&self, id: &InstanceId) -> Result<Option<Observation>, EngineError>;

    /// What the instance has used.
    async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError>;

    /// The newest bytes, at most `max`, that its containers wrote to standard output and standard error.
    async fn logs(&self, id: &InstanceId, max: usize) -> Result<Bytes, EngineError>;

    /// Freezes the instance while `reasons` holds any, thaws it when it is empty. The reasons replace those before.
    async fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError>;

    /// Ends the instance: asks it to stop, kills what is left after the grace period, removes everything of it but the
    /// images. Returns its last readings, or `None` where there was no such instance.
    async fn remove(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError>;
}
