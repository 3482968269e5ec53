//! A market on one machine: a chain, the contracts, funded accounts, the demonstration that plays on it, and the
//! service that it rents a container for.
//!
//! The demonstration calls the same library functions as separate processes would: its publisher and its provider
//! share nothing but the chain. It is also the fixture of the end-to-end tests.

mod anvil;
mod chain;
pub mod demo;
mod market;
pub mod service;

pub use anvil::AnvilError;
pub use chain::{Blocks, ChainChoice, ChainStartError, LocalChain, UnknownChain};
pub use market::{LocalMarket, MarketStartError};
