//! Bindings of the market's contracts, made from the committed artefacts in `abi/`.
//!
//! Everything that is encoded for the chain or decoded from it passes through here: calls, events, job ids, EIP-712
//! hashes, and the contracts' reasons to refuse as typed errors. No chain client: what is made here are bytes.

mod bindings;
mod convert;
mod digest;
mod revert;
mod top_up;

pub use bindings::{Payment, Registry, TestToken};
pub use digest::{job_id, receipt_digest, receipt_root, recover, session_digest, voucher_digest};
pub use revert::Revert;
pub use top_up::top_up_of;
