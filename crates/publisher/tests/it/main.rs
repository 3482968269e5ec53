//! The publisher's side of the job protocol against a chain and providers in memory, in virtual time.
//!
//! Every receipt is made and every voucher is checked here, apart from the code under test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod chain;
mod closing;
mod faults;
mod host;
mod late;
mod link;
mod money;
mod paying_in;
mod profile;
mod publication;
mod registry;
mod summary;
mod verify;
mod world;
