//! The ports: what the clients need from the world, as traits. The crates of floor 4 implement them.

mod chain;
mod content;
mod endpoints;
mod engine;
mod intents;
mod layers;
mod link;
mod signer;

pub use chain::{
    Call, ChainError, ChainEvents, ChainReader, ChainWriter, EventFilter, Head, Mined, Party,
    RegistryEntry, Resumed, WriteError,
};
pub use content::{BlockSource, ContentError, ContentStore, Sources};
pub use endpoints::{Endpoints, ExposeError};
pub use engine::{
    Capabilities, Engine, EngineError, FreezeReason, InstanceSpec, Limits, Network, Observation,
    Phase, Usage,
};
pub use intents::{Intent, IntentError, Intents};
pub use layers::{Layer, LayerReader, LayerSource, OpenError};
pub use link::{JobLink, JobService, LinkError};
pub use signer::{SignError, Signer};
