//! The six resources that are reserved, metered and priced.

use std::fmt;

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

/// The name of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Processor.
    Cpu,
    /// Memory.
    Memory,
    /// Storage.
    Storage,
    /// Network, received.
    NetworkIn,
    /// Network, sent.
    NetworkOut,
    /// Accelerators.
    Accelerator,
}

impl Resource {
    /// All of them, in the order of [`Resources`].
    pub const ALL: [Self; 6] = [
        Self::Cpu,
        Self::Memory,
        Self::Storage,
        Self::NetworkIn,
        Self::NetworkOut,
        Self::Accelerator,
    ];
}

impl fmt::Display for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::NetworkIn => "network_in",
            Self::NetworkOut => "network_out",
            Self::Accelerator => "accelerator",
        })
    }
}

impl<T: Copy> Resources<T> {
    /// The value of one resource.
    pub const fn get(&self, resource: Resource) -> T {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
            Resource::Storage => self.storage,
            Resource::NetworkIn => self.network_in,
            Resource::NetworkOut => self.network_out,
            Resource::Accelerator => self.accelerator,
        }
    }

    /// Makes a value for each resource.
    pub fn from_fn(mut value: impl FnMut(Resource) -> T) -> Self {
        Self {
            cpu: value(Resource::Cpu),
            memory: value(Resource::Memory),
            storage: value(Resource::Storage),
            network_in: value(Resource::NetworkIn),
            network_out: value(Resource::NetworkOut),
            accelerator: value(Resource::Accelerator),
        }
    }
}
