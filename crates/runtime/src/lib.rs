//! Container engines.
//!
//! [`EmbeddedEngine`] needs no program beside this one: each instance is watched by a shim, which is this program once
//! more, started with a hidden argument. So whoever links this crate into a program calls [`shim::answer`] first thing
//! in `main`.

mod embedded;

pub use embedded::{EmbeddedEngine, shim};
