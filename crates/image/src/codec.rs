//! What enters the encryption of a chunk: one byte that names the codec, and the bytes in it.
//!
//! The key of a chunk is made from the result, never from what was compressed: another version of the compressor gives
//! other bytes, and they must have another key.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use zstd::bulk::{Compressor, Decompressor};

/// The codec byte of bytes as they are.
pub(crate) const STORED: u8 = 0;

/// The codec byte of one Zstandard frame.
pub(crate) const ZSTD: u8 = 1;

/// The fastest level: sealing is meant to keep up with a disk.
const LEVEL: i32 = 1;

/// Room that encryption needs behind the plaintext.
const TAG: usize = 16;

/// Whether chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Zstandard, where it saves a sixteenth at least.
    #[default]
    Zstd,
    /// Never: for a network that is faster than compressing.
    Stored,
}

/// Encodes chunks. Several threads share one.
pub(crate) struct Encoder {
    level: Option<i32>,
    /// Compressors that nobody uses at the moment; making one costs more than a small chunk does.
    idle: Mutex<Vec<Compressor<'static>>>,
}

impl Encoder {
    pub(crate) fn new(compression: Compression) -> Self {
        let level = match compression {
            Compression::Zstd => Some(LEVEL),
            Compression::Stored => None,
        };
        Self { level, idle: Mutex::default() }
    }

    /// The plaintext of a chunk.
    pub(crate) fn encode(&self, raw: &[u8]) -> Vec<u8> {
        self.level.and_then(|level| self.compress(level, raw)).unwrap_or_else(|| {
            let mut plaintext = Vec::with_capacity(1 + raw.len() + TAG);
            plaintext.push(STORED);
            plaintext.extend_from_slice(raw);
            plaintext
        })
    }

    /// `None` where compressing is not worth it.
    fn compress(&self, level: i32, raw: &[u8]) -> Option<Vec<u8>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = match idle {
            Some(compressor) => compressor,
            None => Compressor::new(level).ok()?,
        };
        let worth = raw.len() - raw.len().div_ceil(16);
        let mut plaintext = Vec::with_capacity(1 + worth + TAG);
        plaintext.resize(1 + worth, ZSTD);
        let length = compressor.compress_to_buffer(raw, &mut plaintext[1..]);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        // The only thing that can go wrong is that the result is larger than what is worth it.
        plaintext.truncate(1 + length.ok()?);
        Some(plaintext)
    }
}

/// The bytes in a plaintext, which must be exactly `raw_length`; nothing larger is ever allocated. `None` where they
/// are not, or where the codec is unknown.
pub(crate) fn decode(plaintext: Vec<u8>, raw_length: usize) -> Option<Bytes> {
    match plaintext.split_first()? {
        (&STORED, stored) => {
            (stored.len() == raw_length).then(|| Bytes::from(plaintext).slice(1..))
        }
        (&ZSTD, frame) => {
            let mut raw = vec![0; raw_length];
            let length = Decompressor::new().ok()?.decompress_to_buffer(frame, &mut raw[..]);
            (length.ok()? == raw_length).then(|| raw.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;
    use roadstead_crypto::{ChunkKind, ChunkSealer, DedupeSecret};

    use super::*;

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|number| (number / 3).to_le_bytes()).collect()
    }

    #[test]
    fn what_compresses_is_compressed_and_what_does_not_is_stored() {
        let text = text();
        let encoder = Encoder::new(Compression::Zstd);
        let plaintext = encoder.encode(&text);
        assert_eq!(plaintext[0], ZSTD);
        assert!(plaintext.len() < text.len() / 2);
        assert_eq!(decode(plaintext, text.len()).unwrap(), text);

        let stored = Encoder::new(Compression::Stored).encode(&text);
        assert_eq!((stored[0], &stored[1..]), (STORED, &*text));
        let noise = DedupeSecret::from_bytes(&[7; 32]).unwrap().gear();
        let noise: Vec<u8> = noise.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(encoder.encode(&noise)[0], STORED);
        assert_eq!(encoder.encode(b""), [STORED]);
    }

    #[test]
    fn compressing_must_save_a_sixteenth() {
        let noise = DedupeSecret::from_bytes(&[7; 32]).unwrap().gear();
        let noise: Vec<u8> = noise.iter().flat_map(|number| number.to_le_bytes()).collect();
        let codec = |zeros: usize| {
            let raw = [&*noise, &*vec![0; zeros]].concat();
            Encoder::new(Compression::Zstd).encode(&raw)[0]
        };
        assert_eq!((codec(100), codec(200)), (STORED, ZSTD));
    }

    #[test]
    fn a_key_belongs_to_what_is_encrypted_and_not_to_what_was_compressed() {
        let text = text();
        let sealer =
            ChunkSealer::new(&DedupeSecret::from_bytes(&[7; 32]).unwrap(), ChunkKind::Data);
        let at_level = |level| {
            let plaintext = Encoder { level: Some(level), idle: Mutex::default() }.encode(&text);
            (sealer.seal(plaintext.clone()).key, plaintext)
        };
        let ((fast, fast_plaintext), (slow, slow_plaintext)) = (at_level(1), at_level(19));
        assert_ne!(fast_plaintext, slow_plaintext);
        assert_ne!(fast, slow);
        assert_eq!(at_level(1).0, fast);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let text = text();
        for compression in [Compression::Zstd, Compression::Stored] {
            let plaintext = Encoder::new(compression).encode(&text);
            for wrong in [0, text.len() - 1, text.len() + 1] {
                assert!(decode(plaintext.clone(), wrong).is_none());
            }
        }
    }

    #[test]
    fn a_bomb_does_not_go_off() {
        let bomb = zstd::encode_all(std::io::repeat(0).take(64 << 20), 1).unwrap();
        assert!(bomb.len() < 8 << 10);
        let plaintext = [&[ZSTD], &*bomb].concat();
        assert!(decode(plaintext, 4096).is_none());
    }

    #[test]
    fn other_codecs_are_refused() {
        assert!(decode(Vec::new(), 0).is_none());
        assert!(decode(vec![2, 0], 1).is_none());
        assert!(decode(vec![ZSTD, 1, 2, 3], 3).is_none());
    }

    /// A frame that was made once must open for ever, whatever version of the compressor is at work.
    #[test]
    fn an_old_frame_still_opens() {
        let frame = alloy_primitives::hex!("01 28b52ffd00484500001072720100930016");
        assert_eq!(decode(frame.to_vec(), 64).unwrap(), vec![b'r'; 64]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(
            codec in 0_u8..3,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            length in 0_usize..300,
        ) {
            let plaintext = [&[codec], &*bytes].concat();
            if let Some(raw) = decode(plaintext, length) {
                prop_assert_eq!(raw.len(), length);
            }
        }
    }
}
