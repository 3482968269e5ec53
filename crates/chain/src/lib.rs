//! The chain as the clients see it: reading, following and writing, over any Ethereum JSON-RPC node.
//!
//! This is the one crate that knows a chain client. It implements the ports of `roadstead_core::ports`:
//! [`MarketClient`] reads and follows, [`MarketAccount`] writes. The cursor of the events
//! belongs to whoever acts on them. A transaction is written down by whoever implements the port `Intents`, before it is
//! sent; without one, a process that ends forgets what it sent.

mod account;
mod calls;
mod connection;
mod decode;
mod deploy;
mod events;
mod fees;
mod market;
mod wallet;

pub use account::{Account, MarketAccount};
pub use connection::Connection;
pub use deploy::DeployError;
pub use market::MarketClient;
pub use wallet::{InvalidWalletKey, KeystoreError, Wallet};
