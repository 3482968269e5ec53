//! The binary format once more, written from its description alone, so that a mistake on one side shows, and so that
//! tests can make what the crate never makes.

use alloy_primitives::B256;
use bytes::Bytes;
use roadstead_crypto::{ChunkKind, ChunkSealer, DedupeSecret, open_chunk, sha256};
use roadstead_types::{
    ChunkKey, ChunkRef, ImageReference,
    content::{RAW, content_id},
};

use crate::store::Memory;

/// The root of an index.
#[derive(Clone)]
pub(crate) struct Root {
    pub(crate) version: u8,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
    /// Bytes behind the end.
    pub(crate) rest: Vec<u8>,
}

/// What it says about a layer.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) size: u64,
    /// What whoever opens refuses.
    pub(crate) headers: Option<(u64, ChunkRef)>,
    pub(crate) content: Option<(u64, ChunkRef)>,
}

pub(crate) fn unseal(store: &Memory, kind: ChunkKind, reference: &ChunkRef) -> Vec<u8> {
    let block = store.blocks()[&content_id(RAW, reference.digest)].clone();
    let plaintext = open_chunk(kind, &reference.key, block.into()).unwrap();
    assert_eq!(plaintext[0], 0);
    plaintext[1..].to_vec()
}

/// Seals exactly these bytes, the codec before them, and says that `raw_length` bytes are in it.
pub(crate) fn reseal(
    store: &Memory,
    secret: &DedupeSecret,
    kind: ChunkKind,
    plaintext: &[u8],
    raw_length: usize,
) -> ChunkRef {
    let chunk = ChunkSealer::new(secret, kind).seal(plaintext.to_vec());
    let length = u32::try_from(chunk.block.len()).unwrap();
    store.blocks().insert(content_id(RAW, chunk.digest), Bytes::from(chunk.block));
    let raw_length = u32::try_from(raw_length).unwrap();
    ChunkRef { digest: chunk.digest, key: chunk.key, length, raw_length }
}

/// Seals a chunk as it is.
pub(crate) fn reseal_stored(
    store: &Memory,
    secret: &DedupeSecret,
    kind: ChunkKind,
    content: &[u8],
) -> ChunkRef {
    reseal(store, secret, kind, &[&[0], content].concat(), content.len())
}

pub(crate) fn list(bytes: &[u8]) -> Vec<ChunkRef> {
    assert_eq!(bytes.len() % 72, 0);
    bytes.chunks(72).map(|chunk| take_reference(&mut &*chunk)).collect()
}

pub(crate) fn list_bytes(references: &[ChunkRef]) -> Vec<u8> {
    references.iter().flat_map(reference_bytes).collect()
}

impl Root {
    pub(crate) fn of(store: &Memory, reference: &ImageReference) -> Self {
        let bytes = unseal(store, ChunkKind::Root, &reference.index);
        assert_eq!(sha256(&bytes), reference.index_digest);
        let mut rest = &*bytes;
        let [version] = take(&mut rest);
        let mut document = || {
            let length = u32::from_le_bytes(take(&mut rest));
            rest.split_off(..usize::try_from(length).unwrap()).unwrap().to_vec()
        };
        let (manifest, config) = (document(), document());
        let [count] = take(&mut rest);
        let layers = (0..count).map(|_| Layer::take(&mut rest)).collect();
        assert!(rest.is_empty());
        Self { version, manifest, config, layers, rest: Vec::new() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.version];
        for document in [&self.manifest, &self.config] {
            bytes.extend(u32::try_from(document.len()).unwrap().to_le_bytes());
            bytes.extend(document);
        }
        bytes.push(u8::try_from(self.layers.len()).unwrap());
        for layer in &self.layers {
            bytes.extend(layer.size.to_le_bytes());
            bytes.push(u8::from(layer.headers.is_some()));
            if let Some(headers) = &layer.headers {
                bytes.extend(stream_bytes(headers));
            }
            bytes.extend(layer.content.as_ref().map_or(vec![0; 8], stream_bytes));
        }
        [bytes, self.rest.clone()].concat()
    }

    /// Seals the root, whatever it says, and refers to it.
    pub(crate) fn seal(
        &self,
        store: &Memory,
        secret: &DedupeSecret,
        before: &ImageReference,
    ) -> ImageReference {
        let bytes = self.bytes();
        let index = reseal_stored(store, secret, ChunkKind::Root, &bytes);
        ImageReference { index, index_digest: sha256(&bytes), ..before.clone() }
    }
}

impl Layer {
    fn take(bytes: &mut &[u8]) -> Self {
        let size = u64::from_le_bytes(take(bytes));
        let headers = match take(bytes) {
            [0] => None,
            _ => take_stream(bytes),
        };
        Self { size, headers, content: take_stream(bytes) }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (taken, rest) = bytes.split_first_chunk().unwrap();
    *bytes = rest;
    *taken
}

fn take_stream(bytes: &mut &[u8]) -> Option<(u64, ChunkRef)> {
    let chunks = u64::from_le_bytes(take(bytes));
    (chunks > 0).then(|| (chunks, take_reference(bytes)))
}

fn take_reference(bytes: &mut &[u8]) -> ChunkRef {
    ChunkRef {
        digest: B256::new(take(bytes)),
        key: ChunkKey::new(take(bytes)),
        length: u32::from_le_bytes(take(bytes)),
        raw_length: u32::from_le_bytes(take(bytes)),
    }
}

fn stream_bytes((chunks, top): &(u64, ChunkRef)) -> Vec<u8> {
    [&chunks.to_le_bytes()[..], &reference_bytes(top)].concat()
}

fn reference_bytes(reference: &ChunkRef) -> Vec<u8> {
    [
        reference.digest.as_slice(),
        reference.key.as_bytes(),
        &reference.length.to_le_bytes(),
        &reference.raw_length.to_le_bytes(),
    ]
    .concat()
}
