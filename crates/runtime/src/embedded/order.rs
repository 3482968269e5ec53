//! What the engine and a shim say to each other while an instance starts.
//!
//! ```text
//! shim ─ "locked" ─> engine      the instance's folder is this shim's; nothing else was done yet
//! shim <── order ─── engine      everything it needs, secrets included; an engine that dies before starts nothing
//! shim ── report ──> engine      it runs, or why not; then the shim's standard output is closed
//! ```
//!
//! The order travels through a pipe and lies in memory alone. An order that ends early is none.

use std::path::PathBuf;

use roadstead_types::SecretText;
use serde::{Deserialize, Serialize};

/// The line that says that the folder is locked.
pub(crate) const LOCKED: &str = "locked\n";

/// The most bytes of an order.
pub(crate) const MAX_ORDER: u64 = 32 << 20;

/// The most bytes of a report.
pub(crate) const MAX_REPORT: u64 = 64 << 10;

/// What to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Names the container.
    pub(crate) id: String,
    pub(crate) hostname: String,
    /// From the root of the hierarchies.
    pub(crate) control_group: String,
    /// Folders of the layers, the lowest first.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, SecretText)>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) read_only: bool,
    /// TCP ports that are forwarded.
    pub(crate) ports: Vec<u16>,
    /// Thousandths of a core.
    pub(crate) cpu: u64,
    /// Bytes.
    pub(crate) memory: u64,
    /// Bytes.
    pub(crate) storage: u64,
    pub(crate) pids: u32,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It runs, or is what it should be.
    Done,
    /// The container does not start, and never will like this.
    CannotStart(String),
    /// Something of the machine failed.
    Failed(String),
}
