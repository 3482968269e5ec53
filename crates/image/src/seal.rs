//! Sealing: an image becomes blocks in a store, and one reference to them.
//!
//! ```text
//!  thread of the layer                      threads for chunks                             this task
//!  disk ─> unpack ─> hash ─> cut ─(queue)─> compress, encrypt, hash ─> list, graph ─(each)─> put
//! ```
//!
//! Queues are a few chunks long, so memory does not grow with the image. The same image gives the same blocks on any
//! day and from any folder. Nothing points to the blocks before the root is put last: a call that fails or is dropped
//! leaves blocks that the store may collect, and its threads end at their next read.

mod layer;

use std::sync::Arc;

use alloy_primitives::B256;
use bytes::Bytes;
use roadstead_core::ports::{ContentError, ContentStore};
use roadstead_crypto::{ChunkKind, ChunkSealer, DedupeSecret, SealedChunk, sha256};
use roadstead_types::{
    ChunkRef, Cid, ImageReference,
    content::{RAW, content_id},
};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    Compression, OciImage, Platform, ReadError,
    codec::{Encoder, STORED},
    format::{MAX_RAW, Root, encode_root, root_length},
    graph::{self, Entry, Node},
};

/// Why an image was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The image itself.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store.
    #[error("a block cannot be kept")]
    Store(#[from] ContentError),
    /// All layers together.
    #[error("the layers of the image have more than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// What describes the image has to fit into one block.
    #[error(
        "the manifest, the configuration and the list of layers give an index of {size} bytes; at most {max} fit",
        max = MAX_RAW
    )]
    TooMuchDescription {
        /// Bytes of the index root that they would give.
        size: usize,
    },
    /// A thread did not come back.
    #[error("sealing was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// How an image is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealOptions {
    /// Whether chunks are compressed.
    pub compression: Compression,
    /// The most bytes of the plain tar of one layer.
    pub max_layer: u64,
    /// The most bytes of the plain tars of all layers.
    pub max_image: u64,
}

/// Compressed chunks; 256 GiB a layer and an image, which no image has that is meant to be moved.
impl Default for SealOptions {
    fn default() -> Self {
        Self { compression: Compression::Zstd, max_layer: 256 << 30, max_image: 256 << 30 }
    }
}

/// How far sealing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealProgress {
    /// The layer that is read, counted from 0.
    pub layer: usize,
    /// How many there are.
    pub layers: usize,
    /// Bytes of the blobs of all layers that were read.
    pub read: u64,
    /// Bytes of the blobs of all layers.
    pub size: u64,
}

/// What sealing an image came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SealCounts {
    /// Blocks of the image, with each repetition.
    pub blocks: u64,
    /// Blocks that the store did not have.
    pub new_blocks: u64,
    /// Bytes of the plain tars.
    pub raw_bytes: u64,
    /// Bytes of the blocks, with each repetition.
    pub sealed_bytes: u64,
    /// Bytes of the blocks that the store did not have.
    pub new_bytes: u64,
}

/// A sealed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// All that it takes to fetch and open it, with the key of its index.
    pub reference: ImageReference,
    /// Digest of the manifest that was sealed: what the image was pinned by where it came from.
    pub pinned: B256,
    /// What the image runs on.
    pub platform: Platform,
    /// How many layers it has.
    pub layers: usize,
    /// How much of it is new.
    pub counts: SealCounts,
}

/// Puts the image into the store as blocks of its own. Nothing is pinned: that is for the caller, by the root of the
/// reference. `progress` is called after every chunk and must be quick.
pub async fn seal(
    image: &Arc<OciImage>,
    secret: &DedupeSecret,
    store: &dyn ContentStore,
    options: &SealOptions,
    progress: &mut (dyn FnMut(SealProgress) + Send),
) -> Result<Sealed, SealError> {
    check_root(image)?;
    let layers = image.layers().len();
    let size = image.layers().iter().fold(0, |sum, layer| layer.size.saturating_add(sum));
    let mut put = Put { store, counts: SealCounts::default() };
    let sealers = Arc::new(Sealers {
        encoder: Encoder::new(options.compression),
        data: ChunkSealer::new(secret, ChunkKind::Data),
        list: ChunkSealer::new(secret, ChunkKind::List),
    });
    let (mut records, mut entries, mut lists) = (Vec::new(), Vec::new(), Vec::new());
    let mut read = 0_u64;
    for index in 0..layers {
        let left = options.max_image - put.counts.raw_bytes;
        let source = layer::Source {
            image: Arc::clone(image),
            index,
            limit: left.min(options.max_layer),
            gear: secret.gear(),
        };
        let mut report = |consumed| {
            progress(SealProgress { layer: index, layers, read: read + consumed, size });
        };
        let sealed = layer::seal(source, &sealers, &mut put, &mut report).await;
        let sealed = sealed.map_err(|error| whole_image(error, left, options))?;
        read = read.saturating_add(image.layers()[index].size);
        put.counts.raw_bytes += sealed.record.size;
        records.push(sealed.record);
        entries.push(sealed.entry);
        lists.extend(sealed.lists);
    }
    let root = Root {
        manifest: image.manifest().to_vec(),
        config: image.config().to_vec(),
        layers: records,
    };
    let sealer = ChunkSealer::new(secret, ChunkKind::Root);
    let top = spawn_blocking(move || Top::new(&root, &sealer, lists, &entries)).await;
    let mut top = top.map_err(SealError::Interrupted)?;
    put.raw(&top.index, top.block).await?;
    put.nodes(&mut top.nodes).await?;
    let Top { index, index_digest, pinned, root, .. } = top;
    Ok(Sealed {
        reference: ImageReference { root, index, index_digest, image: image.image() },
        pinned,
        platform: image.platform().clone(),
        layers,
        counts: put.counts,
    })
}

/// A layer that went over what was left for the whole image did not go over its own bound.
fn whole_image(error: SealError, left: u64, options: &SealOptions) -> SealError {
    match error {
        SealError::Read(ReadError::TooLarge { max, .. })
            if max == left && left < options.max_layer =>
        {
            SealError::TooLarge { max: options.max_image }
        }
        other => other,
    }
}

/// Whether the root of the index will fit into a chunk. Its length is known before any layer is read: a layer has a
/// reference there unless it is empty, which its digest tells.
fn check_root(image: &OciImage) -> Result<(), SealError> {
    let nothing = sha256(b"");
    let empty = image.layers().iter().filter(|layer| layer.diff_id == nothing).count();
    let documents = image.manifest().len() + image.config().len();
    let size = root_length(documents, image.layers().len(), empty);
    if size > MAX_RAW { Err(SealError::TooMuchDescription { size }) } else { Ok(()) }
}

/// What stands above the layers.
struct Top {
    index: ChunkRef,
    index_digest: B256,
    /// The block of the index.
    block: Bytes,
    /// Digest of the manifest.
    pinned: B256,
    /// The rest of the graph, its root last.
    nodes: Vec<Node>,
    root: Cid,
}

impl Top {
    /// Seals up to 1 MiB and hashes as much again, so it has a thread of its own.
    fn new(root: &Root, sealer: &ChunkSealer, lists: Vec<Entry>, layers: &[Entry]) -> Self {
        let plain = encode_root(root);
        let (index, block) = seal_index(sealer, &plain);
        let mut nodes = Vec::new();
        let mut file = graph::File::new();
        file.push(Entry::leaf(index.digest, index.length), &mut nodes);
        for list in lists {
            file.push(list, &mut nodes);
        }
        let folder = graph::folder(&file.finish(&mut nodes), layers);
        let cid = folder.cid;
        nodes.push(folder);
        let (index_digest, pinned) = (sha256(&plain), sha256(&root.manifest));
        Self { index, index_digest, block, pinned, nodes, root: cid }
    }
}

/// Seals a part of the index. It is never compressed: it consists of digests and keys.
fn seal_index(sealer: &ChunkSealer, plain: &[u8]) -> (ChunkRef, Bytes) {
    let mut plaintext = Vec::with_capacity(plain.len() + 17);
    plaintext.push(STORED);
    plaintext.extend_from_slice(plain);
    reference(sealer.seal(plaintext), plain.len())
}

fn reference(chunk: SealedChunk, raw_length: usize) -> (ChunkRef, Bytes) {
    let length = |length: usize| u32::try_from(length).expect("a chunk is below 1 MiB");
    let SealedChunk { key, block, digest } = chunk;
    let reference =
        ChunkRef { digest, key, length: length(block.len()), raw_length: length(raw_length) };
    (reference, block.into())
}

/// What the threads share.
struct Sealers {
    encoder: Encoder,
    data: ChunkSealer,
    list: ChunkSealer,
}

/// The way into the store, and what went there.
struct Put<'a> {
    store: &'a dyn ContentStore,
    counts: SealCounts,
}

impl Put<'_> {
    async fn raw(&mut self, reference: &ChunkRef, block: Bytes) -> Result<(), ContentError> {
        self.block(content_id(RAW, reference.digest), block).await
    }

    async fn nodes(&mut self, nodes: &mut Vec<Node>) -> Result<(), ContentError> {
        for node in nodes.drain(..) {
            self.block(node.cid, node.bytes).await?;
        }
        Ok(())
    }

    async fn block(&mut self, cid: Cid, block: Bytes) -> Result<(), ContentError> {
        let length = u64::try_from(block.len()).expect("a block is below 1 MiB");
        let new = self.store.put(&cid, block).await?;
        self.counts.blocks += 1;
        self.counts.sealed_bytes += length;
        if new {
            self.counts.new_blocks += 1;
            self.counts.new_bytes += length;
        }
        Ok(())
    }
}
