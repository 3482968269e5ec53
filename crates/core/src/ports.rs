//! The ports: what the clients need from the world, as traits. The crates of floor 4 implement them.

mod chain;

pub use chain::{
    Call, ChainError, ChainEvents, ChainReader, ChainWriter, EventFilter, Head, Mined, Party,
    RegistryEntry, WriteError,
};
