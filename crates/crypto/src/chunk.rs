//! Chunks of an image: sealed so that equal content of one publisher gives equal blocks, and of two publishers never.
//!
//! A chunk's key is made from the exact bytes that are encrypted, by a hash that only the holder of a [`DedupeSecret`]
//! can compute. So a key belongs to one message for ever, which is what makes a nonce of zero and repeatable
//! ciphertext safe. The associated data is one constant for each [`ChunkKind`]: anything variable there would give two
//! tags under one key and nonce, and with them the key of the authentication.
//!
//! ```text
//! key   = BLAKE3 keyed_hash(BLAKE3 derive_key("roadstead image/1 <kind>", secret), plaintext)
//! block = AES-256-GCM(key, nonce = 0, associated data = "roadstead image/1 <kind>", plaintext) || tag of 16 bytes
//! ```
//!
//! AES-GCM does not commit to its key: who chooses both can make one block that opens under two keys. A block's digest
//! alone therefore identifies no content; digest and key together do.

use std::fmt;

use aes_gcm::{Aes256Gcm, Nonce, aead::AeadInOut, aead::KeyInit};
use alloy_primitives::B256;
use hkdf::Hkdf;
use roadstead_types::ChunkKey;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::{InvalidKey, sha256};

/// What [`DedupeSecret::domain`] puts before the label.
const DOMAIN_INFO: &[u8] = b"roadstead dedupe/1 domain ";

const GEAR_CONTEXT: &str = "roadstead image/1 gear";

/// What a publisher's chunks have in common: where their keys come from. It never leaves the publisher. Its holder can
/// tell whether a guess is among the chunks; nobody else can, not even who was given keys.
pub struct DedupeSecret(Zeroizing<[u8; Self::LENGTH]>);

impl DedupeSecret {
    /// Bytes of a secret.
    pub const LENGTH: usize = 32;

    /// Makes a new secret from the system's randomness.
    ///
    /// # Panics
    ///
    /// If the system has no source of randomness.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        getrandom::fill(&mut *bytes).expect("the system has a source of randomness");
        Self(bytes)
    }

    /// Reads the 32 bytes that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let bytes = bytes.try_into().map_err(|_| InvalidKey { what: "a dedupe secret" })?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// The secret, for the file that keeps it: 32 bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_vec())
    }

    /// The secret of one domain, such as a customer: chunks of different domains are never equal, so nobody whose
    /// content enters one of them learns about another. HKDF-SHA256 (RFC 5869) without salt; the info is
    /// `"roadstead dedupe/1 domain "` and the label.
    pub fn domain(&self, label: &str) -> Self {
        let mut bytes = Zeroizing::new([0; Self::LENGTH]);
        Hkdf::<Sha256>::new(None, &*self.0)
            .expand_multi_info(&[DOMAIN_INFO, label.as_bytes()], &mut *bytes)
            .expect("32 bytes are fewer than HKDF can give");
        Self(bytes)
    }

    /// The table by which content-defined cutting tells one byte from another: 256 little-endian numbers from the
    /// extended output of BLAKE3 `derive_key("roadstead image/1 gear", secret)`. It makes sizes of chunks harder to
    /// foresee, no more: it does not hide which public files an image holds.
    pub fn gear(&self) -> Zeroizing<[u64; 256]> {
        let mut bytes = Zeroizing::new([0; 256 * size_of::<u64>()]);
        let mut hasher = blake3::Hasher::new_derive_key(GEAR_CONTEXT);
        let mut output = hasher.update(&*self.0).finalize_xof();
        output.fill(&mut *bytes);
        // Neither is wiped when it is dropped.
        output.zeroize();
        hasher.zeroize();
        let mut table = Zeroizing::new([0; 256]);
        let (numbers, _) = bytes.as_chunks();
        for (entry, number) in table.iter_mut().zip(numbers) {
            *entry = u64::from_le_bytes(*number);
        }
        table
    }
}

impl fmt::Debug for DedupeSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DedupeSecret(…)")
    }
}

/// What a chunk holds. Each kind has keys and associated data of its own, so that none passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkKind {
    /// A part of a layer.
    Data,
    /// References to chunks.
    List,
    /// The root of an image's index.
    Root,
}

impl ChunkKind {
    /// The name that enters keys and associated data, with the version of the format.
    const fn name(self) -> &'static str {
        match self {
            Self::Data => "roadstead image/1 data",
            Self::List => "roadstead image/1 list",
            Self::Root => "roadstead image/1 root",
        }
    }
}

/// Seals the chunks of one publisher and kind.
pub struct ChunkSealer {
    kind: ChunkKind,
    key: Zeroizing<[u8; 32]>,
}

/// A sealed chunk.
pub struct SealedChunk {
    /// What opens it.
    pub key: ChunkKey,
    /// The ciphertext with its tag.
    pub block: Vec<u8>,
    /// SHA-256 digest of the block.
    pub digest: B256,
}

impl ChunkSealer {
    /// The sealer for one kind.
    pub fn new(secret: &DedupeSecret, kind: ChunkKind) -> Self {
        let hasher = blake3::Hasher::new_derive_key(kind.name());
        Self { kind, key: hash(hasher, &*secret.0) }
    }

    /// Seals a plaintext, exactly as it is: whatever was done to it, such as compression, was done before. Equal
    /// plaintexts give equal chunks.
    ///
    /// # Panics
    ///
    /// If the plaintext has 64 GiB or more.
    pub fn seal(&self, mut plaintext: Vec<u8>) -> SealedChunk {
        let key = ChunkKey::new(*hash(blake3::Hasher::new_keyed(&self.key), &plaintext));
        Aes256Gcm::new(key.as_bytes().into())
            .encrypt_in_place(&Nonce::default(), self.kind.name().as_bytes(), &mut plaintext)
            .expect("less than 64 GiB");
        SealedChunk { key, digest: sha256(&plaintext), block: plaintext }
    }
}

impl fmt::Debug for ChunkSealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChunkSealer").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Debug for SealedChunk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SealedChunk").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// What the hasher gives for these bytes. It holds a secret, and neither it nor a hash is wiped when it is dropped.
fn hash(mut hasher: blake3::Hasher, bytes: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hash = hasher.update(bytes).finalize();
    let key = Zeroizing::new(*hash.as_bytes());
    hash.zeroize();
    hasher.zeroize();
    key
}

/// A block that was not sealed with this key as a chunk of this kind, or was changed since.
#[derive(Debug, thiserror::Error)]
#[error("the chunk does not open with its key")]
pub struct DamagedChunk;

/// Opens a block. The plaintext stands where the block stood.
pub fn open_chunk(
    kind: ChunkKind,
    key: &ChunkKey,
    mut block: Vec<u8>,
) -> Result<Vec<u8>, DamagedChunk> {
    Aes256Gcm::new(key.as_bytes().into())
        .decrypt_in_place(&Nonce::default(), kind.name().as_bytes(), &mut block)
        .map_err(|_| DamagedChunk)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [ChunkKind; 3] = [ChunkKind::Data, ChunkKind::List, ChunkKind::Root];

    fn secret(byte: u8) -> DedupeSecret {
        DedupeSecret::from_bytes(&[byte; 32]).unwrap()
    }

    fn seal(byte: u8, kind: ChunkKind, plaintext: &[u8]) -> SealedChunk {
        ChunkSealer::new(&secret(byte), kind).seal(plaintext.to_vec())
    }

    #[test]
    fn the_format_never_changes() {
        let text = |bytes: &[u8]| alloy_primitives::hex::encode(bytes);
        let data = seal(7, ChunkKind::Data, b"\x00roadstead");
        assert_eq!(
            text(data.key.as_bytes()),
            "021e1c67adebc8f0dd9863d05de54ea08e625960c128252f22546f9a293e86c4"
        );
        assert_eq!(text(&data.block), "6920ae8b1d972a524f5a7f84cd2444b9210bd3859947fe9999bd");
        assert_eq!(text(data.digest.as_slice()), text(sha256(&data.block).as_slice()));
        let list = seal(7, ChunkKind::List, b"\x00roadstead");
        assert_eq!(
            text(list.key.as_bytes()),
            "77a02b4742609a0de837ef08def1c3e7166bb7f700fcab2ff91e662664fea7fd"
        );
        assert_eq!(text(&list.block), "1dd238965d6132258a19186112578981adb6d5aa4748277c7d00");
        let root = seal(7, ChunkKind::Root, b"\x00roadstead");
        assert_eq!(
            text(root.key.as_bytes()),
            "0f11231f665d551c59815aba20e5f2d84023df0bfc4868d7c9ff1f7751d8f010"
        );
        assert_eq!(text(&root.block), "6b15d055b503ade96e845f31c14cb4ff5968292098c26681ccc9");
        assert_eq!(
            text(&secret(7).domain("customer").to_bytes()),
            "ddb1e7351439f3c60842a1a2e71ce69e3dfae811cfeab6f76f2218213bba1037"
        );
        let gear = secret(7).gear();
        assert_eq!((gear[0], gear[255]), (0xe5ea_b019_2583_c5ab, 0xf545_b6d8_ca84_a799));
    }

    #[test]
    fn publishers_domains_and_kinds_share_no_chunk() {
        let mut keys = Vec::new();
        let mut digests = Vec::new();
        for secret in [secret(7), secret(8), secret(7).domain(""), secret(7).domain("a")] {
            for kind in KINDS {
                let chunk = ChunkSealer::new(&secret, kind).seal(b"the same".to_vec());
                assert!(!keys.contains(&chunk.key) && !digests.contains(&chunk.digest));
                keys.push(chunk.key);
                digests.push(chunk.digest);
            }
        }
        assert_ne!(secret(7).gear(), secret(8).gear());
    }

    #[test]
    fn a_chunk_opens_as_its_own_kind_alone() {
        for kind in KINDS {
            let chunk = seal(7, kind, b"content");
            for other in KINDS {
                let opened = open_chunk(other, &chunk.key, chunk.block.clone());
                assert_eq!(opened.is_ok(), other == kind);
            }
        }
    }

    #[test]
    fn a_changed_or_short_block_does_not_open() {
        let chunk = seal(7, ChunkKind::Data, b"content");
        for index in 0..chunk.block.len() {
            let mut block = chunk.block.clone();
            block[index] ^= 1;
            assert!(open_chunk(ChunkKind::Data, &chunk.key, block).is_err());
            let short = chunk.block[..index].to_vec();
            assert!(open_chunk(ChunkKind::Data, &chunk.key, short).is_err());
        }
        let other = seal(7, ChunkKind::Data, b"another").key;
        assert!(open_chunk(ChunkKind::Data, &other, chunk.block).is_err());
    }

    #[test]
    fn a_secret_survives_its_file_and_does_not_show_itself() {
        let secret = DedupeSecret::generate();
        let restored = DedupeSecret::from_bytes(&secret.to_bytes()).unwrap();
        assert_eq!(restored.to_bytes(), secret.to_bytes());
        assert_ne!(DedupeSecret::generate().to_bytes(), secret.to_bytes());
        assert!(DedupeSecret::from_bytes(&[7; 31]).is_err());
        assert_eq!(format!("{secret:?}"), "DedupeSecret(…)");
        let sealer = ChunkSealer::new(&secret, ChunkKind::Data);
        assert_eq!(format!("{sealer:?}"), "ChunkSealer { kind: Data, .. }");
        let shown = format!("{:?}", sealer.seal(Vec::new()));
        assert!(shown.starts_with("SealedChunk { digest: 0x") && !shown.contains("key"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened(plaintext in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let chunk = seal(7, ChunkKind::Data, &plaintext);
            prop_assert_eq!(chunk.block.len(), plaintext.len() + 16);
            let opened = open_chunk(ChunkKind::Data, &chunk.key, chunk.block).unwrap();
            prop_assert_eq!(opened, plaintext);
        }

        #[test]
        fn keys_are_equal_exactly_where_plaintexts_are(
            one in proptest::collection::vec(0_u8..2, 0..4),
            other in proptest::collection::vec(0_u8..2, 0..4),
        ) {
            let (first, second) = (seal(7, ChunkKind::Data, &one), seal(7, ChunkKind::Data, &other));
            prop_assert_eq!(first.key == second.key, one == other);
            prop_assert_eq!(first.digest == second.digest, one == other);
        }
    }
}
