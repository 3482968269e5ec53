//! A market on one machine: a chain, the contracts, funded accounts, the demonstration that plays on it, and the
//! service that it rents a container for.
//!
//! The demonstration calls the same library functions as separate processes would: its publisher and its provider
//! share nothing but the chain, the address of the publisher's blocks and the peer network. The local market is also the
//! fixture of the end-to-end tests, and as [`Devnet`] it is there for processes of their own.

mod anvil;
mod chain;
pub mod demo;
mod devnet;
mod engine;
mod kubo;
mod market;
mod port;
pub mod service;
mod store;

pub use anvil::AnvilError;
pub use chain::{Blocks, ChainChoice, ChainStartError, LocalChain, UnknownChain};
pub use devnet::{
    CHAIN_PORT, Devnet, DevnetAccounts, DevnetConfig, DevnetError, DevnetFiles, DevnetPorts,
    DevnetReport, DevnetUrls, GATEWAY_PORT, STORE_PORT,
};
pub use engine::{EngineChoice, EnginePlace, SHIM, UnknownEngine, UnknownPlace};
pub use kubo::KuboStartError;
pub use market::{LocalMarket, MarketContracts, MarketStartError};
pub use port::{PortHolder, PortTaken};
pub use store::{LocalStore, StoreChoice, StoreStartError, UnknownStore};
