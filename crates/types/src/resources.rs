//! The six resources that are reserved, metered and priced.

use serde::{Deserialize, Serialize};

/// One value for each resource. What `T` counts is said where it is used: usage, a price, a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources<T> {
    /// Processor; usage in CPU milliseconds.
    pub cpu: T,
    /// Memory; usage in MiB seconds.
    pub memory: T,
    /// Storage; usage in MiB seconds.
    pub storage: T,
    /// Network, bytes received.
    pub network_in: T,
    /// Network, bytes sent.
    pub network_out: T,
    /// Accelerators; usage in milliseconds.
    pub accelerator: T,
}
