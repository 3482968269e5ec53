//! The stores as their users see them: the promises of a content store, graphs that come over the network, gateways
//! that lie, and the protocols of gateways and of Kubo word by word. What needs a Kubo daemon runs where the environment
//! variable `KUBO_BINARY` names one.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it has to be")]

mod conformance;
mod fetching;
mod fixture;
mod gateway;
mod hostile;
mod kubo;
mod rpc;
