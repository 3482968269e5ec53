//! What names a sealed image, and what names it once it is opened.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, B256};
use cid::Cid;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::ChunkKey;

/// The id of an image as container engines have it: the SHA-256 digest of its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(pub B256);

/// `sha256:` and 64 lower-case hexadecimal digits, in files as well.
impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{:x}", self.0)
    }
}

/// Not the written form of an image's id.
#[derive(Debug, thiserror::Error)]
#[error("not sha256:<64 lower-case hexadecimal digits>")]
pub struct InvalidImageId;

impl FromStr for ImageId {
    type Err = InvalidImageId;

    fn from_str(text: &str) -> Result<Self, InvalidImageId> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidImageId)?;
        let parsed = Self(digits.parse().map_err(|_| InvalidImageId)?);
        // One image has one name: no upper case, no second prefix.
        if parsed.to_string() == text { Ok(parsed) } else { Err(InvalidImageId) }
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_written_form() {
        let id = ImageId(B256::repeat_byte(0xab));
        let digits = "ab".repeat(32);
        let text = id.to_string();
        assert_eq!(text, format!("sha256:{digits}"));
        assert_eq!(text.parse::<ImageId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<ImageId>(&json).unwrap(), id);
        for other in [
            digits.clone(),
            format!("0x{digits}"),
            format!("sha256:0x{digits}"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("SHA256:{digits}"),
            format!("sha256:sha256:{digits}"),
            format!("sha256:{}", &digits[2..]),
            format!("sha512:{digits}"),
            format!("{text} "),
        ] {
            assert!(other.parse::<ImageId>().is_err(), "{other}");
            assert!(serde_json::from_str::<ImageId>(&format!("\"{other}\"")).is_err(), "{other}");
        }
    }
}
