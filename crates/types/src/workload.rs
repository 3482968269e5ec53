//! What is to run: containers with their limits, without where their images are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Resources, Seconds, SecretText};

/// Containers that run together and share one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload<C> {
    /// A DNS label.
    pub name: String,
    /// The containers; `C` adds to each what is known of its image.
    pub containers: Vec<C>,
    /// What is reserved: CPU in thousandths of a core, memory and storage in MiB, network in bytes a second,
    /// accelerators in thousandths.
    pub reservation: Resources<u64>,
    /// The most processes and threads at once.
    pub pids_limit: u32,
}

/// How one container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// A DNS label, unique in the workload.
    pub name: String,
    /// Replaces the image's entry point.
    pub command: Option<Vec<String>>,
    /// Replaces the image's arguments. With a `command` alone the image's arguments are dropped.
    pub args: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, SecretText>,
    /// Replaces the image's working folder; absolute.
    pub working_dir: Option<String>,
    /// Replaces the image's user: `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// Whether the root file system cannot be written.
    pub read_only: bool,
    /// TCP ports that can be called from outside.
    pub ports: Vec<u16>,
    /// Between the request to stop and the kill.
    pub stop_grace_period: Seconds,
}
