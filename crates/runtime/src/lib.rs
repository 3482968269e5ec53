//! Container engines.
//!
//! [`EmbeddedEngine`] needs no program beside this one: each instance is watched by a shim, which is this program once
//! more, started with a hidden argument. So whoever links this crate into a program calls [`shim::answer`] first thing
//! in `main`. [`DockerEngine`] asks the Docker daemon of this machine instead.

mod confinement;
mod docker;
mod embedded;
mod files;
mod image;
mod locks;
mod name;
mod pieces;
mod reasons;
mod spec;
mod work;

pub use docker::DockerEngine;
pub use embedded::{EmbeddedEngine, shim};
