//! What a provider offers: the document whose digest stands in the registry.

use serde::{Deserialize, Serialize};

use crate::Resources;

/// The version that this build writes.
pub const PROFILE_VERSION: u32 = 1;

/// A provider's offer. Its SHA-256 digest over the JSON bytes is in the registry; the bytes come from the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Version of the document.
    pub version: u32,
    /// Where the machines stand, as the provider says; nobody checks it.
    pub region: String,
    /// Token base units per 10^12 units of usage.
    pub prices: Resources<u128>,
}
