//! An embedded Ethereum development chain.
//!
//! A whole chain inside the process: hardfork Osaka on revm, real headers, receipts and roots,
//! accounts funded by the caller, and the Ethereum JSON-RPC methods that alloy, `cast` and JavaScript
//! clients need, over HTTP ([`serve`]) and without a socket ([`Devchain::transport`]).
//!
//! ```
//! # use alloy::primitives::{Address, U256};
//! # use alloy::rpc::client::RpcClient;
//! # use roadstead_devchain::{Config, Devchain};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let rich = Address::repeat_byte(7);
//! let chain = Devchain::new(Config {
//!     accounts: vec![(rich, U256::from(1_000))],
//!     ..Config::default()
//! })?;
//! let client = RpcClient::new(chain.transport(), true);
//! let balance: U256 = client.request("eth_getBalance", (rich, "latest")).await?;
//! assert_eq!(balance, U256::from(1_000));
//! # Ok(())
//! # }
//! ```
//!
//! # What it is not
//!
//! There is no network, no consensus and no storage: **a crash, or dropping the last handle, loses
//! the whole chain.** Blocks and receipts grow for as long as the chain lives; the state is kept for
//! the latest 1,024 blocks unless the [`Config`] says otherwise, and a question about an older state
//! is an error. Blocks are final at once, so `safe` and `finalized` mean the latest block. Blob
//! transactions are refused. Subscriptions, filters, snapshots, reorganisations and impersonation
//! are not there yet.
//!
//! # Design
//!
//! The state is a persistent trie (`trie`, `state`): each block has its own version of it, versions
//! share what did not change, and reading one needs no lock. `evm` is the only module that names
//! revm. `block` turns transactions from the `pool` into a sealed block; `chain` holds blocks, states
//! and indexes behind one lock; `rpc` answers requests and is shared by `transport` and `server`, a
//! few at a time. Everything a client sends is checked and bounded before it costs anything; `meter`
//! counts what a batch has cost so far.

mod block;
mod chain;
mod config;
mod evm;
mod meter;
mod miner;
mod pool;
mod rpc;
mod server;
mod state;
mod transaction;
mod transport;
mod trie;

pub use chain::{ConfigError, Devchain, TimeError};
pub use config::{Clock, Config, ManualClock, Mining, SystemClock};
pub use miner::Miner;
pub use server::{ServeError, Server, serve};
pub use transport::DevchainTransport;
