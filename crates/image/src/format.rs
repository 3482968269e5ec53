//! The binary forms of references, lists and the index root, version 1. `docs/format-image.md` has them for others.
//!
//! Every value has one form: nothing may follow it, and no field can be written in two ways. What the manifest and the
//! configuration already say, such as digests of layers, is not said again, so it cannot be contradicted.

use std::fmt;

use alloy_primitives::B256;
use roadstead_types::{ChunkKey, ChunkRef};
use zeroize::Zeroizing;

/// The most bytes of a chunk before it is compressed and sealed. Even, as the chunker wants it, and so few that a block
/// stays below 1 MiB, which every IPFS implementation takes.
pub(crate) const MAX_RAW: usize = (1 << 20) - 64;

/// Bytes that a chunk grows by: the codec and the tag.
pub(crate) const OVERHEAD: u32 = 1 + 16;

/// The most layers of an image. Engines stack no more.
pub(crate) const MAX_LAYERS: usize = 127;

/// References in one list.
pub(crate) const LIST_WIDTH: usize = 8192;

/// Bytes of a reference: block digest, key, block length, raw length.
pub(crate) const REFERENCE: usize = 32 + 32 + 4 + 4;

const VERSION: u8 = 1;

/// The form of a layer that is one stream. Others are for later versions.
const CONTENT_ONLY: u8 = 0;

/// Why bytes are not what they should be. A sentence's end.
pub(crate) type Reason = &'static str;

/// The root of a sealed image's index.
#[derive(PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<LayerRecord>,
}

/// The configuration holds the environment of the image, which may be secret.
impl fmt::Debug for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Root").field("layers", &self.layers).finish_non_exhaustive()
    }
}

/// What the index says about one layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LayerRecord {
    /// Bytes of the plain tar.
    pub(crate) size: u64,
    /// The bytes of the tar, `None` where it has none.
    pub(crate) content: Option<Stream>,
}

/// A sequence of chunks.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    /// How many, not zero.
    pub(crate) chunks: u64,
    /// The chunk where there is one, else the list above all.
    pub(crate) top: ChunkRef,
}

impl Stream {
    /// How many lists are between the root of the index and a chunk: the least `depth` for which a list of that depth
    /// holds them all.
    pub(crate) fn depth(&self) -> u32 {
        let width = u64::try_from(LIST_WIDTH).expect("8192");
        let mut depth = 0;
        while width.checked_pow(depth).is_some_and(|capacity| capacity < self.chunks) {
            depth += 1;
        }
        depth
    }
}

/// The plaintext of a list.
pub(crate) fn encode_list(references: &[ChunkRef]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(references.len() * REFERENCE));
    for reference in references {
        put_reference(&mut bytes, reference);
    }
    bytes
}

/// Reads a list that must have `count` references.
pub(crate) fn decode_list(bytes: &[u8], count: usize) -> Result<Vec<ChunkRef>, Reason> {
    let mut reader = Reader(bytes);
    if count.checked_mul(REFERENCE) != Some(bytes.len()) {
        return Err("a list has another length than it must have");
    }
    (0..count).map(|_| reader.reference()).collect()
}

/// Bytes of the index root of an image with documents of this many bytes together, and with this many layers, of which
/// `empty` have no bytes.
pub(crate) const fn root_length(documents: usize, layers: usize, empty: usize) -> usize {
    1 + 2 * 4 + documents + 1 + layers * (8 + 1 + 8) + (layers - empty) * REFERENCE
}

/// The plaintext of the index root, whose documents and layers are few enough for one chunk.
pub(crate) fn encode_root(root: &Root) -> Zeroizing<Vec<u8>> {
    let empty = root.layers.iter().filter(|layer| layer.content.is_none()).count();
    let documents = root.manifest.len() + root.config.len();
    // All of it at once, because what a vector leaves behind when it grows is not wiped.
    let length = root_length(documents, root.layers.len(), empty);
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.push(VERSION);
    for document in [&root.manifest, &root.config] {
        let length = u32::try_from(document.len()).expect("below 1 MiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(document);
    }
    bytes.push(u8::try_from(root.layers.len()).expect("at most 127"));
    for layer in &root.layers {
        bytes.extend_from_slice(&layer.size.to_le_bytes());
        bytes.push(CONTENT_ONLY);
        match &layer.content {
            None => bytes.extend_from_slice(&0_u64.to_le_bytes()),
            Some(content) => {
                bytes.extend_from_slice(&content.chunks.to_le_bytes());
                put_reference(&mut bytes, &content.top);
            }
        }
    }
    bytes
}

/// Reads an index root. `bytes` are at most one chunk, which bounds everything that is allocated.
pub(crate) fn decode_root(bytes: &[u8]) -> Result<Root, Reason> {
    let mut reader = Reader(bytes);
    if reader.byte()? != VERSION {
        return Err("its index has a version that is not known here");
    }
    let manifest = reader.document()?;
    let config = reader.document()?;
    let count = usize::from(reader.byte()?);
    if count > MAX_LAYERS {
        return Err("its index has more layers than an image may have");
    }
    let layers = (0..count).map(|_| reader.layer()).collect::<Result<_, _>>()?;
    if !reader.0.is_empty() {
        return Err("something follows its index");
    }
    Ok(Root { manifest, config, layers })
}

fn put_reference(bytes: &mut Vec<u8>, reference: &ChunkRef) {
    bytes.extend_from_slice(reference.digest.as_slice());
    bytes.extend_from_slice(reference.key.as_bytes());
    bytes.extend_from_slice(&reference.length.to_le_bytes());
    bytes.extend_from_slice(&reference.raw_length.to_le_bytes());
}

/// Whether a block of this length can hold a chunk of this length: it holds something, and compression never makes it
/// larger.
pub(crate) fn check_reference(reference: &ChunkRef) -> Result<(), Reason> {
    let raw_fits =
        usize::try_from(reference.raw_length).is_ok_and(|raw| (1..=MAX_RAW).contains(&raw));
    let block_fits = reference
        .length
        .checked_sub(OVERHEAD)
        .is_some_and(|payload| (1..=reference.raw_length).contains(&payload));
    if raw_fits && block_fits { Ok(()) } else { Err("a chunk has lengths that no chunk has") }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("its index ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("its index ends too early")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Reason> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn document(&mut self) -> Result<Vec<u8>, Reason> {
        let length = u32::from_le_bytes(self.array()?);
        let length = usize::try_from(length).map_err(|_| "its index ends too early")?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn reference(&mut self) -> Result<ChunkRef, Reason> {
        let reference = ChunkRef {
            digest: B256::new(self.array()?),
            key: ChunkKey::new(self.array()?),
            length: u32::from_le_bytes(self.array()?),
            raw_length: u32::from_le_bytes(self.array()?),
        };
        check_reference(&reference).map(|()| reference)
    }

    fn stream(&mut self) -> Result<Option<Stream>, Reason> {
        match u64::from_le_bytes(self.array()?) {
            0 => Ok(None),
            chunks => Ok(Some(Stream { chunks, top: self.reference()? })),
        }
    }

    fn layer(&mut self) -> Result<LayerRecord, Reason> {
        let size = u64::from_le_bytes(self.array()?);
        if self.byte()? != CONTENT_ONLY {
            return Err("a layer has a form that is not known here");
        }
        Ok(LayerRecord { size, content: self.stream()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn reference() -> impl Strategy<Value = ChunkRef> {
        let lengths = (1..=u32::try_from(MAX_RAW).unwrap())
            .prop_flat_map(|raw| (Just(raw), 1 + OVERHEAD..=raw + OVERHEAD));
        (any::<[u8; 32]>(), any::<[u8; 32]>(), lengths).prop_map(
            |(digest, key, (raw_length, length))| ChunkRef {
                digest: B256::new(digest),
                key: ChunkKey::new(key),
                length,
                raw_length,
            },
        )
    }

    fn root() -> impl Strategy<Value = Root> {
        let stream = (1_u64.., reference()).prop_map(|(chunks, top)| Stream { chunks, top });
        let layer = (any::<u64>(), option::of(stream))
            .prop_map(|(size, content)| LayerRecord { size, content });
        (vec(any::<u8>(), 0..50), vec(any::<u8>(), 0..50), vec(layer, 0..4))
            .prop_map(|(manifest, config, layers)| Root { manifest, config, layers })
    }

    fn small() -> ChunkRef {
        ChunkRef {
            digest: B256::repeat_byte(1),
            key: ChunkKey::new([2; 32]),
            length: 5 + OVERHEAD,
            raw_length: 5,
        }
    }

    #[test]
    fn the_form_of_a_root_never_changes() {
        let content = Some(Stream { chunks: 1, top: small() });
        let layers = vec![LayerRecord { size: 5, content }, LayerRecord { size: 0, content: None }];
        let root = Root { manifest: b"{}".to_vec(), config: b"[]".to_vec(), layers };
        let expected = [
            &[1, 2, 0, 0, 0, b'{', b'}', 2, 0, 0, 0, b'[', b']', 2][..],
            &[5, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[1; 32],
            &[2; 32],
            &[22, 0, 0, 0, 5, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(**encode_root(&root), expected.concat());
    }

    #[test]
    fn a_root_does_not_show_its_documents() {
        let root = Root { manifest: Vec::new(), config: b"PASSWORD".to_vec(), layers: Vec::new() };
        assert_eq!(format!("{root:?}"), "Root { layers: [], .. }");
    }

    #[test]
    fn depth_follows_from_the_count() {
        let depth = |chunks| Stream { chunks, top: small() }.depth();
        let depths: Vec<_> =
            [1, 2, 8192, 8193, 8192 * 8192, 8192 * 8192 + 1, u64::MAX].map(depth).into();
        assert_eq!(depths, [0, 1, 1, 2, 2, 3, 5]);
    }

    #[test]
    fn unknown_versions_and_forms_are_refused() {
        let layers = vec![LayerRecord { size: 0, content: None }];
        let root = Root { manifest: Vec::new(), config: Vec::new(), layers };
        let good = encode_root(&root);
        let with = |index: usize, value| {
            let mut bytes = good.to_vec();
            bytes[index] = value;
            decode_root(&bytes)
        };
        assert!(decode_root(&good).is_ok());
        assert!(with(0, 2).unwrap_err().contains("version"));
        assert!(with(9, 128).unwrap_err().contains("more layers"));
        assert!(with(18, 1).unwrap_err().contains("form"));
        assert!(with(18, 2).unwrap_err().contains("form"));
        assert!(decode_root(&[&**good, &[0]].concat()).unwrap_err().contains("follows"));
    }

    #[test]
    fn lengths_that_no_chunk_has_are_refused() {
        let max = u32::try_from(MAX_RAW).unwrap();
        assert_eq!(max + OVERHEAD, (1 << 20) - 47);
        for (length, raw_length, fits) in [
            (1 + OVERHEAD, 1, true),
            (max + OVERHEAD, max, true),
            (1 + OVERHEAD, max, true),
            (OVERHEAD, 1, false),
            (0, 1, false),
            (2 + OVERHEAD, 1, false),
            (1 + OVERHEAD, 0, false),
            (1 + OVERHEAD, max + 1, false),
            (1 << 20, max, false),
            (u32::MAX, u32::MAX, false),
        ] {
            let reference = ChunkRef { length, raw_length, ..small() };
            assert_eq!(check_reference(&reference).is_ok(), fits, "{length} {raw_length}");
        }
    }

    proptest! {
        #[test]
        fn a_root_survives_and_has_one_form(root in root(), cut in any::<prop::sample::Index>()) {
            let bytes = encode_root(&root);
            prop_assert_eq!(bytes.len(), bytes.capacity());
            prop_assert_eq!(&decode_root(&bytes).unwrap(), &root);
            prop_assert!(decode_root(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_changed_root_means_something_else_or_nothing(
            root in root(),
            place in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let mut bytes = encode_root(&root).to_vec();
            let place = place.index(bytes.len());
            bytes[place] ^= change;
            if let Ok(changed) = decode_root(&bytes) {
                prop_assert_ne!(&changed, &root);
                prop_assert_eq!(&**encode_root(&changed), &bytes);
            }
        }

        #[test]
        fn a_list_survives(references in vec(reference(), 0..5), wrong in 0_usize..7) {
            let bytes = encode_list(&references);
            let count = references.len();
            prop_assert_eq!(&decode_list(&bytes, count).unwrap(), &references);
            prop_assert_eq!(decode_list(&bytes, wrong).is_ok(), wrong == count);
            prop_assert!(decode_list(&[&**bytes, &[0]].concat(), count).is_err());
        }
    }
}
