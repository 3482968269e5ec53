//! Content-addressed blocks: where they are kept, and where they come from.

use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_types::Cid;

/// Why a store or a source did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It cannot be reached, or it answered with an error. Asking again, or elsewhere, may help.
    #[error("{place} cannot be used: {operation} failed")]
    Unavailable {
        /// What was asked: a folder or an address.
        place: String,
        /// What was tried.
        operation: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bytes are not the block that the id names.
    #[error("{place} gave other bytes for {cid}")]
    Mismatch {
        /// What was asked.
        place: String,
        /// The block.
        cid: Cid,
    },
    /// No source has it.
    #[error("block {cid} was found nowhere")]
    Absent {
        /// The block.
        cid: Cid,
    },
    /// More bytes than a block may have.
    #[error("block {cid} is larger than {max} bytes", max = roadstead_types::content::MAX_BLOCK)]
    TooLarge {
        /// The block.
        cid: Cid,
    },
    /// An id whose hash or codec this market does not use.
    #[error("{cid} is not a version 1 id of a raw or dag-pb block with SHA-256")]
    Unsupported {
        /// The id.
        cid: Cid,
    },
    /// An address that must not be asked, or cannot be.
    #[error("`{address}` is refused as a source: {reason}")]
    Refused {
        /// What was given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// A graph that no sealed image has: too deep, too wide, or not UnixFS.
    #[error("the graph under {root} makes no sense: {reason}")]
    BadGraph {
        /// Its root.
        root: Cid,
        /// What is wrong with it.
        reason: String,
    },
}

impl ContentError {
    /// Whether asking again later may help.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Absent { .. } | Self::Mismatch { .. })
    }
}

/// Whoever can be asked for blocks.
#[async_trait]
pub trait BlockSource: Send + Sync {
    /// The block, checked against its id; `None` where this source does not have it.
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError>;
}

/// A place that keeps blocks.
///
/// A block that was put is durable, and safe from collection, once a pin whose graph holds it has returned.
#[async_trait]
pub trait ContentStore: BlockSource {
    /// Keeps a block after checking it against its id. Returns whether it was new.
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError>;

    /// Whether the block is here.
    async fn has(&self, cid: &Cid) -> Result<bool, ContentError>;

    /// Makes everything that was put durable and keeps the whole graph under `root`. An error where a block of it is
    /// missing. May be repeated.
    async fn pin(&self, root: &Cid) -> Result<(), ContentError>;

    /// Lets the graph under `root` go. Not an error where it was not pinned.
    async fn unpin(&self, root: &Cid) -> Result<(), ContentError>;

    /// The roots that are pinned.
    async fn pins(&self) -> Result<Vec<Cid>, ContentError>;

    /// Removes the blocks that belong to no pinned graph and were not put since the call began. Returns how many.
    async fn collect(&self) -> Result<u64, ContentError>;
}

/// Turns the written form of a source into something that can be asked.
pub trait Sources: Send + Sync {
    /// The source at `address`: the base URL of an IPFS trustless gateway. Strangers write these addresses.
    fn open(&self, address: &str) -> Result<std::sync::Arc<dyn BlockSource>, ContentError>;
}
