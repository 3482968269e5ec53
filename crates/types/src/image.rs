//! What names a sealed image, and what names it once it is opened.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, B256};
use cid::Cid;
use serde::{Deserialize, Serialize};

use crate::ChunkKey;

/// The id of an image as container engines have it: the SHA-256 digest of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageId(pub B256);

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{:x}", self.0)
    }
}

impl FromStr for ImageId {
    type Err = <B256 as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("sha256:").unwrap_or(text).parse().map(Self)
    }
}

/// An opened image as an engine keeps it. Decrypted content of one tenant is never named or used by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageKey {
    /// The publisher.
    pub tenant: Address,
    /// The image.
    pub image: ImageId,
}

/// Where a sealed chunk is and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    /// SHA-256 digest of the block: the chunk's ciphertext with its tag.
    pub digest: B256,
    /// Its key.
    pub key: ChunkKey,
    /// Bytes of the block.
    pub length: u32,
    /// Bytes of the chunk once opened and decompressed.
    pub raw_length: u32,
}

/// Everything that it takes to fetch and to open a sealed image. Whoever holds it can read the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageReference {
    /// The graph that holds all blocks. On its own it identifies nothing: one ciphertext can be made to open under two
    /// keys.
    #[serde(with = "crate::content::text")]
    pub root: Cid,
    /// The sealed root of the index.
    pub index: ChunkRef,
    /// SHA-256 digest of the index root's plaintext: with it the reference is bound to one content.
    pub index_digest: B256,
    /// The image that comes out.
    pub image: ImageId,
}
