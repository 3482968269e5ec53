//! The deployment bundle: all that a provider must know to run a job, sealed for it alone.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

use crate::{Container, ImageReference, Resources, Seconds, Tariff, Workload};

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

/// Why a text is not a bundle. It never quotes the text, which is full of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleFormatError {
    /// Written by a version with another format.
    #[error("version {found}; this build reads version {BUNDLE_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Not JSON, or a field is missing, unknown or of the wrong type.
    #[error("not understood at line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}

impl Bundle {
    /// Reads the JSON form.
    pub fn from_json(text: &[u8]) -> Result<Self, BundleFormatError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let malformed = |error: serde_json::Error| BundleFormatError::Malformed {
            line: error.line(),
            column: error.column(),
        };
        let Versioned { version } = serde_json::from_slice(text).map_err(malformed)?;
        if version != BUNDLE_VERSION {
            return Err(BundleFormatError::Version { found: version });
        }
        serde_json::from_slice(text).map_err(malformed)
    }

    /// What its job is metered by.
    pub const fn tariff(&self) -> Tariff {
        Tariff {
            interval: self.interval,
            reservation: self.workload.reservation,
            prices: self.prices,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_told_from_a_text_that_is_none() {
        let later = Bundle::from_json(br#"{"version":2,"something":"new"}"#);
        assert_eq!(later, Err(BundleFormatError::Version { found: 2 }));
        let other = Bundle::from_json(br#"{"version":1,"password":"hunter2"}"#).unwrap_err();
        assert_eq!(other, BundleFormatError::Malformed { line: 1, column: 23 });
        assert!(!other.to_string().contains("hunter2"));
    }
}
