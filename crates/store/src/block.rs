//! What a block of this market may be: its id in short, and the check of its bytes against it.

use std::error::Error;

use alloy_primitives::B256;
use bytes::Bytes;
use roadstead_core::ports::ContentError;
use roadstead_types::{
    Cid,
    content::{DAG_PB, MAX_BLOCK, RAW, content_id, digest_of},
};
use sha2::{Digest, Sha256};

/// An id that this market uses, in a third of the memory of a [`Cid`]: sets of them stand for whole graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlockId {
    /// Whether the block is a node of a graph (dag-pb); otherwise it is only bytes (raw).
    pub(crate) is_node: bool,
    /// SHA-256 digest of the block.
    pub(crate) digest: B256,
}

impl BlockId {
    /// An error where the id is not version 1, raw or dag-pb, with a whole SHA-256 digest.
    pub(crate) fn of(cid: &Cid) -> Result<Self, ContentError> {
        let is_node = match cid.codec() {
            RAW => Some(false),
            DAG_PB => Some(true),
            _ => None,
        };
        let id = is_node.zip(digest_of(cid)).map(|(is_node, digest)| Self { is_node, digest });
        // An id of version 0 is not the one that is made of its parts.
        id.filter(|id| id.cid() == *cid).ok_or(ContentError::Unsupported { cid: *cid })
    }

    pub(crate) fn cid(self) -> Cid {
        content_id(if self.is_node { DAG_PB } else { RAW }, self.digest)
    }

    pub(crate) fn matches(self, block: &[u8]) -> bool {
        block.len() <= MAX_BLOCK && digest(block) == self.digest
    }
}

/// Checks a block against its id; `place` is who gave it.
pub(crate) fn verify(cid: &Cid, block: &[u8], place: &str) -> Result<BlockId, ContentError> {
    let id = BlockId::of(cid)?;
    if block.len() > MAX_BLOCK {
        return Err(ContentError::TooLarge { cid: *cid });
    }
    if !id.matches(block) {
        return Err(ContentError::Mismatch { place: place.to_owned(), cid: *cid });
    }
    Ok(id)
}

/// Checks a block that came over the network, on a thread that may be kept busy.
pub(crate) async fn verify_apart(
    cid: &Cid,
    block: Bytes,
    place: &str,
) -> Result<Bytes, ContentError> {
    let (id, giver) = (*cid, place.to_owned());
    let checked =
        tokio::task::spawn_blocking(move || verify(&id, &block, &giver).map(|_| block)).await;
    checked.map_err(|error| unavailable(place, "the check of a block", error))?
}

/// The error for a place that cannot be used: what was tried there, and what came of it.
pub(crate) fn unavailable(
    place: &str,
    operation: &'static str,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> ContentError {
    ContentError::Unavailable { place: place.to_owned(), operation, source: source.into() }
}

pub(crate) fn digest(bytes: &[u8]) -> B256 {
    B256::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use roadstead_types::content::SHA2_256;

    use super::*;

    #[test]
    fn only_raw_and_dag_pb_with_sha_256_are_blocks_of_ours() {
        for cid in [content_id(RAW, digest(b"block")), content_id(DAG_PB, digest(b"block"))] {
            assert_eq!(BlockId::of(&cid).unwrap().cid(), cid);
        }
        for foreign in [
            // Version 0, dag-cbor, an identity hash, BLAKE3.
            "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
            "bafyreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq",
            "bafkqaaa",
            "bafkr4icaedovonxiinzjeb44uyqwwugmjlxpwfvvkbvdwsjvivfv6yvwhq",
        ] {
            let cid: Cid = foreign.parse().unwrap();
            assert!(matches!(BlockId::of(&cid), Err(ContentError::Unsupported { .. })), "{cid}");
        }
        let mut short = content_id(RAW, digest(b"block")).to_bytes();
        short.truncate(20);
        short[3] = 16;
        let short = Cid::try_from(short.as_slice()).unwrap();
        assert_eq!(short.hash().code(), SHA2_256);
        assert!(matches!(BlockId::of(&short), Err(ContentError::Unsupported { .. })));
    }

    #[test]
    fn other_bytes_and_too_many_are_told_apart() {
        let cid = content_id(RAW, digest(b"block"));
        verify(&cid, b"block", "here").unwrap();
        assert!(matches!(verify(&cid, b"blocK", "here"), Err(ContentError::Mismatch { .. })));
        let huge = vec![0; MAX_BLOCK + 1];
        let cid = content_id(RAW, digest(&huge));
        assert!(matches!(verify(&cid, &huge, "here"), Err(ContentError::TooLarge { .. })));
        let largest = &huge[..MAX_BLOCK];
        verify(&content_id(RAW, digest(largest)), largest, "here").unwrap();
    }
}
