//! An opened image, as an engine sees it: a configuration and plain layers.

use std::error::Error;

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use roadstead_types::ImageId;

use super::ContentError;

/// Why an image cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its blocks cannot be had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// A block does not open with its key, or does not hold what it should.
    #[error("the sealed image is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// It is larger than whoever opens it allows.
    #[error("the image is too large: {reason}")]
    TooLarge {
        /// Which bound.
        reason: String,
    },
    /// A part of the machine failed.
    #[error("the image could not be opened")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

impl OpenError {
    /// Whether trying again later may help.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Content(error) => error.is_retryable(),
            Self::Damaged { .. } | Self::TooLarge { .. } => false,
            Self::Failed(_) => true,
        }
    }
}

/// One layer of an opened image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layer {
    /// SHA-256 digest of the plain tar.
    pub diff_id: B256,
    /// Bytes of the plain tar.
    pub size: u64,
}

/// An image whose index was opened and checked; its layers are read on demand.
#[async_trait]
pub trait LayerSource: Send + Sync {
    /// The digest of [`Self::config`].
    fn image(&self) -> ImageId;

    /// The image's configuration as it was published: the JSON of the OCI image specification.
    fn config(&self) -> &[u8];

    /// The layers, the lowest first.
    fn layers(&self) -> &[Layer];

    /// Begins to read the layer with this index, which must be one of [`Self::layers`].
    async fn read(&self, index: usize) -> Result<Box<dyn LayerReader>, OpenError>;
}

/// The plain tar of one layer, in pieces.
#[async_trait]
pub trait LayerReader: Send {
    /// The next piece, at most 1 MiB; `None` once the whole layer was read and matched its digest. A layer that does
    /// not match ends in an error instead, so what came before counts for nothing until the end was seen.
    async fn next(&mut self) -> Result<Option<Bytes>, OpenError>;
}
