//! Content stores: the embedded one, its gateway, and others over the network.
//!
//! A block is named by its hash, so it does not matter who gives it. [`EmbeddedStore`] keeps blocks in a folder,
//! [`Gateway`] gives them to anybody who speaks the protocol of IPFS trustless gateways, [`GatewaySources`] asks such
//! gateways, and [`fetch`] brings whole graphs from there into a store. [`KuboStore`] keeps blocks in a Kubo daemon, and
//! [`LoopbackRpc`] lets an embedded store answer as such a daemon. Every block that comes in is
//! checked against its id, and bounded before that. A Kubo daemon is its user's own: what it says besides blocks is
//! bounded in time, and not in size.

mod address;
mod block;
mod car;
mod embedded;
mod fetch;
mod gateway;
mod graph;
mod kubo;
mod rpc;
mod server;
mod source;

pub use address::SourcePolicy;
pub use embedded::{EmbeddedStore, StoreReader};
pub use fetch::{FetchLimits, FetchProgress, fetch, fetch_block};
pub use gateway::Gateway;
pub use kubo::KuboStore;
pub use rpc::{LoopbackRpc, RpcError};
pub use server::ServeError;
pub use source::{GatewaySource, GatewaySources};
