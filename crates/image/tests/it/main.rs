//! Images from disk to blocks and back, whole and tampered with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod format;
mod layout;
mod open;
mod read;
mod seal;
mod store;
mod tools;
