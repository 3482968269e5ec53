//! A market on one machine: a chain, the contracts, funded accounts, and the demonstration that plays on it.
//!
//! The demonstration calls the same library functions as separate processes would: its publisher and its provider
//! share nothing but the chain. It is also the fixture of the end-to-end tests.

mod anvil;
mod chain;
pub mod demo;
mod market;

pub use anvil::AnvilError;
pub use chain::{Blocks, ChainChoice, ChainStartError, LocalChain, UnknownChain};
pub use market::{LocalMarket, MarketStartError};
