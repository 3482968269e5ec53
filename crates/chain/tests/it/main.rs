//! Tests of the event reader against a node whose chain can be reorganised at will.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod events;
mod node;
