//! An image on disk: an OCI layout, as a folder or as an uncompressed tar of one.
//!
//! Whoever made the file is not trusted. Documents are bounded in size and match their digests, the blobs of layers are
//! checked while they are read, and nothing outside of a folder is read for it. Nothing is unpacked to disk.

mod archive;
mod blobs;
mod choose;
mod layer;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use roadstead_crypto::sha256;
use roadstead_types::ImageId;

use crate::{DocumentError, Platform, SourceLayer, document::Description};
use blobs::Blobs;
pub(crate) use layer::LayerStream;

/// Why an image on disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something else than an OCI image.
    #[error("`{}` is no OCI image: {found}", path.display())]
    NotAnImage {
        /// What was given.
        path: PathBuf,
        /// What it is instead, as far as it can be told.
        found: &'static str,
    },
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A part of the image is not there.
    #[error("the image has no {name}")]
    Missing {
        /// Its name in the layout.
        name: String,
    },
    /// A link that leads out of the folder, or a part that is no file.
    #[error("{name} of the image is not a file in its folder")]
    Outside {
        /// Its name in the layout.
        name: String,
    },
    /// An archive that breaks the rules of tar.
    #[error("the archive is damaged: {reason}")]
    DamagedArchive {
        /// Which rule.
        reason: &'static str,
    },
    /// A document says what cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Bytes that are not what their digest names.
    #[error("{name} of the image has another {property} than the image says")]
    Mismatch {
        /// The part.
        name: String,
        /// Size or digest.
        property: &'static str,
    },
    /// The blob of a layer that cannot be read or decompressed.
    #[error("{name} of the image cannot be read")]
    Corrupt {
        /// The part.
        name: String,
        /// What the disk or the decompressor says.
        #[source]
        source: io::Error,
    },
    /// More than is allowed.
    #[error("{name} of the image has more than {max} bytes")]
    TooLarge {
        /// The part.
        name: String,
        /// The bound.
        max: u64,
    },
    /// The image, or each of several, is for something else.
    #[error("no image for {wanted}, only for {candidates}")]
    NoneFits {
        /// What is looked for.
        wanted: Platform,
        /// What is there.
        candidates: String,
    },
    /// Several images fit.
    #[error("more than one image for {wanted}: {candidates}. Copy one of them on its own")]
    Ambiguous {
        /// What is looked for.
        wanted: Platform,
        /// What is there.
        candidates: String,
    },
    /// There is no image at all in it.
    #[error("the layout holds no image")]
    Empty,
    /// Whoever wanted the bytes has gone.
    #[error("reading was stopped")]
    Stopped,
}

/// An image on disk whose manifest and configuration were read and checked.
pub struct OciImage {
    blobs: Blobs,
    manifest: Vec<u8>,
    config: Vec<u8>,
    description: Description,
}

impl OciImage {
    /// Reads the index, the manifest and the configuration of the image for `wanted` at `path`. An image for anything
    /// else is an error, also where it is the only one: it would be found out only where it was paid for. Reads files,
    /// so it blocks.
    pub fn read(path: &Path, wanted: &Platform) -> Result<Self, ReadError> {
        let blobs = Blobs::open(path)?;
        let choose::Chosen { manifest, config, description } = choose::choose(&blobs, wanted)?;
        Ok(Self { blobs, manifest, config, description })
    }

    /// The manifest as it stands in the layout.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// SHA-256 digest of the manifest: what the image is pinned by where it came from.
    pub fn manifest_digest(&self) -> B256 {
        sha256(&self.manifest)
    }

    /// The configuration as it stands in the layout.
    pub fn config(&self) -> &[u8] {
        &self.config
    }

    /// The digest of the configuration.
    pub const fn image(&self) -> ImageId {
        self.description.image
    }

    /// What the image runs on, by its configuration.
    pub const fn platform(&self) -> &Platform {
        &self.description.platform
    }

    /// The layers, the lowest first. Their blobs were not read yet.
    pub fn layers(&self) -> &[SourceLayer] {
        &self.description.layers
    }

    /// Begins to read a layer. `limit` bounds its plain tar in bytes; `stop` is asked before each read from disk.
    pub(crate) fn layer(
        &self,
        layer: &SourceLayer,
        limit: u64,
        stop: tokio_util::sync::CancellationToken,
    ) -> Result<LayerStream, ReadError> {
        let name = blobs::blob_name(layer.digest);
        LayerStream::new(self.blobs.find(&name)?, name, layer, limit, stop)
    }
}

/// The configuration holds the environment of the image, which may be secret.
impl fmt::Debug for OciImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OciImage").field("image", &self.image()).finish_non_exhaustive()
    }
}
