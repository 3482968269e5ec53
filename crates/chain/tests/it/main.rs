//! Tests of the event reader against a node whose chain can be reorganised at will, and of an account against one that
//! mines, loses and refuses transactions at the test's word.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod account;
mod events;
mod node;
mod pool;
