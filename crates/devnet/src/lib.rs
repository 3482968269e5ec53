//! A market on one machine: a chain, the contracts, funded accounts, the demonstration that plays on it, and the
//! service that it rents a container for.
//!
//! The demonstration calls the same library functions as separate processes would: its publisher and its provider
//! share nothing but the chain and the address of the publisher's blocks. Two things go from one to the other in memory
//! so far, because the job protocol is still to come: the provider's prices, and where the service can be called. The
//! local market is also the fixture of the end-to-end tests.

mod anvil;
mod chain;
pub mod demo;
mod market;
pub mod service;

pub use anvil::AnvilError;
pub use chain::{Blocks, ChainChoice, ChainStartError, LocalChain, UnknownChain};
pub use market::{LocalMarket, MarketStartError};
