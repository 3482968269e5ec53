//! Opening: a reference and blocks become an image again.
//!
//! Nothing is believed. The index root must have the digest that the reference states; every list and chunk must have
//! the digest, the key and the lengths that the one above it states, and be exactly as many; the two documents must fit
//! each other; and a layer's last piece is followed by an end only if all of it has the digest that the configuration
//! names. The graph around the blocks is not looked at: it is for those who carry them.

mod chunk;
mod cursor;
mod reader;

use std::sync::Arc;

use alloy_primitives::B256;
use async_trait::async_trait;
use roadstead_core::ports::{BlockSource, Layer, LayerReader, LayerSource, OpenError};
use roadstead_crypto::{ChunkKind, sha256};
use roadstead_types::{ImageId, ImageReference};

use crate::{
    Platform,
    chunker::SHORTEST,
    document::{Description, parse_manifest},
    format::{LayerRecord, MAX_LAYERS, MAX_RAW, Root, check_reference, decode_root},
};
pub(crate) use cursor::Cursor;
use reader::Reader;

/// What an image may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenLimits {
    /// Bytes of the plain tars of all layers.
    pub bytes: u64,
    /// Layers.
    pub layers: usize,
    /// Chunks of all layers.
    pub chunks: u64,
}

impl OpenLimits {
    /// Bounds for at most `bytes` of plain tars, with as many chunks as this crate ever makes of them.
    pub const fn for_bytes(bytes: u64) -> Self {
        let chunks = bytes / SHORTEST as u64 + MAX_LAYERS as u64;
        Self { bytes, layers: MAX_LAYERS, chunks }
    }
}

/// An image whose index was opened and checked.
pub struct OpenedImage {
    blocks: Arc<dyn BlockSource>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    description: Description,
    records: Vec<LayerRecord>,
    layers: Vec<Layer>,
}

/// Opens the index of an image: its root and all of its lists, but no layer.
pub async fn open(
    reference: &ImageReference,
    blocks: Arc<dyn BlockSource>,
    limits: &OpenLimits,
) -> Result<OpenedImage, OpenError> {
    check_reference(&reference.index).map_err(damaged)?;
    let digest = reference.index_digest;
    let read = move |plain: &[u8]| read_root(plain, digest);
    let (root, description) =
        chunk::open_index(&*blocks, ChunkKind::Root, &reference.index, read).await?;
    let Root { manifest, config, layers: records } = root;
    if description.image != reference.image {
        return Err(damaged("it is another image than the reference names"));
    }
    check_records(&records, &description, limits)?;
    for record in &records {
        let mut cursor = Cursor::new(record);
        while cursor.next(&*blocks).await?.is_some() {}
    }
    let layers = records.iter().zip(&description.layers);
    let layers = layers
        .map(|(record, described)| Layer { diff_id: described.diff_id, size: record.size })
        .collect();
    Ok(OpenedImage { blocks, manifest, config, description, records, layers })
}

/// Reads the root of the index, which must have this digest, and the documents in it.
fn read_root(plain: &[u8], digest: B256) -> Result<(Root, Description), OpenError> {
    if sha256(plain) != digest {
        return Err(damaged("its index is another one than the reference names"));
    }
    let root = decode_root(plain).map_err(damaged)?;
    let description = parse_manifest(&root.manifest)
        .and_then(|manifest| Description::new(&manifest, &root.config))
        .map_err(|error| OpenError::Damaged { reason: error.to_string() })?;
    Ok((root, description))
}

/// Whether the layers are as many as the documents say, within the limits, and possible at all. No list was read yet.
fn check_records(
    records: &[LayerRecord],
    description: &Description,
    limits: &OpenLimits,
) -> Result<(), OpenError> {
    if records.len() != description.layers.len() {
        return Err(damaged("its index has another number of layers than its manifest"));
    }
    if records.len() > limits.layers {
        return Err(too_large(format!("{} layers; allowed are {}", records.len(), limits.layers)));
    }
    let largest = u64::try_from(MAX_RAW).expect("below 1 MiB");
    let (mut bytes, mut chunks) = (0_u64, 0_u64);
    for record in records {
        let count = record.content.as_ref().map_or(0, |content| content.chunks);
        if count > record.size || record.size.div_ceil(largest) > count {
            return Err(damaged("a layer cannot have as many chunks as its index says"));
        }
        bytes = bytes.saturating_add(record.size);
        chunks = chunks.saturating_add(count);
    }
    if bytes > limits.bytes {
        return Err(too_large(format!("{bytes} bytes; allowed are {}", limits.bytes)));
    }
    if chunks > limits.chunks {
        return Err(too_large(format!("{chunks} chunks; allowed are {}", limits.chunks)));
    }
    Ok(())
}

impl OpenedImage {
    /// The manifest as it was where the image came from.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// SHA-256 digest of the manifest: what the image was pinned by where it came from. Not the image's id.
    pub fn pinned(&self) -> B256 {
        sha256(&self.manifest)
    }

    /// What the image runs on, by its configuration.
    pub const fn platform(&self) -> &Platform {
        &self.description.platform
    }
}

#[async_trait]
impl LayerSource for OpenedImage {
    fn image(&self) -> ImageId {
        self.description.image
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    async fn read(&self, index: usize) -> Result<Box<dyn LayerReader>, OpenError> {
        let (Some(record), Some(layer)) = (self.records.get(index), self.layers.get(index)) else {
            return Err(OpenError::Failed(format!("there is no layer {index}").into()));
        };
        Ok(Box::new(Reader::new(Arc::clone(&self.blocks), Cursor::new(record), layer.diff_id)))
    }
}

impl std::fmt::Debug for OpenedImage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OpenedImage").field("image", &self.image()).finish_non_exhaustive()
    }
}

fn damaged(reason: &str) -> OpenError {
    OpenError::Damaged { reason: reason.into() }
}

const fn too_large(reason: String) -> OpenError {
    OpenError::TooLarge { reason }
}
