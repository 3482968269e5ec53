//! Keys that never show themselves, and what they seal.
//!
//! - X25519 pairs, which bundles are sealed to: one of a provider, one of a publisher for its own bundles.
//! - A publisher's dedupe secret, and the keys of chunks of images that are made from it.
//! - The Ed25519 pair that is a provider's identity on the peer network.
//!
//! Secret bytes leave only as [`zeroize::Zeroizing`], and keys of chunks as [`roadstead_types::ChunkKey`], which wipes
//! itself as well. `Debug` prints no secret. Wallet keys are not here: they belong to the chain client.

mod bundle;
mod chunk;
mod encryption;
mod identity;

use alloy_primitives::B256;
use sha2::{Digest, Sha256};

pub use bundle::{BundleError, BundleRecipient, MAX_BUNDLE, seal_bundle};
pub use chunk::{ChunkKind, ChunkSealer, DamagedChunk, DedupeSecret, SealedChunk, open_chunk};
pub use encryption::EncryptionSecret;
pub use identity::NodeIdentity;

/// Bytes that are not a key of the kind asked for.
#[derive(Debug, thiserror::Error)]
#[error("not {what}")]
pub struct InvalidKey {
    /// The kind asked for.
    pub what: &'static str,
}

/// The SHA-256 digest of some bytes.
pub fn sha256(bytes: &[u8]) -> B256 {
    B256::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}
