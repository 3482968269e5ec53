//! The deployment bundle: all that a provider must know to run a job, sealed for it alone.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::{Container, ImageReference, Resources, Seconds, Workload};

/// The version that this build writes and reads.
pub const BUNDLE_VERSION: u32 = 1;

/// The plaintext of a bundle. Its JSON form is what is sealed; the digest of the sealed block stands in the terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of the document.
    pub version: u32,
    /// What to run.
    pub workload: Workload<BundledContainer>,
    /// Where the blocks of the images can be fetched, tried in order.
    pub sources: Vec<String>,
    /// The length of one metering interval.
    pub interval: Seconds,
    /// Token base units per 10^12 units of usage.
    pub prices: Resources<u128>,
    /// When the provider may start it.
    pub start: Start,
}

/// A container with its sealed image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledContainer {
    /// How to fetch and open the image.
    pub image: ImageReference,
    /// How to run it.
    pub container: Container,
}

/// When a job's workload starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// As soon as the provider has it.
    AtOnce,
}

/// What a sealed bundle is bound to: it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BundleBinding {
    /// EIP-155 id of the chain.
    pub chain: u64,
    /// The payment contract.
    pub contract: Address,
    /// Who sealed it.
    pub publisher: Address,
    /// Whom it is for.
    pub provider: Address,
}
