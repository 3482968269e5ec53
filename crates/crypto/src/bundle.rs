//! Sealing of deployment bundles.
//!
//! One block, opened by the chosen provider and by the publisher itself, and bound to both and to the contract:
//!
//! ```text
//! magic "RSDB" | version 1 | provider slot | recovery slot | AES-256-GCM(content key, nonce 0, aad = all before it)
//! slot = encapsulated key 32 | sealed content key 32 + 16
//! ```
//!
//! A slot is HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM; its info is
//! `"roadstead bundle/1" | role | chain id as u64 | contract | publisher | provider`, integers in big-endian order.
//! The content key is random and used once, so its nonce may be zero. Anybody can seal a bundle to a provider: who
//! meant it is said by the digest of the block in the terms on chain.

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead, KeyInit, Payload},
};
use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256,
    kem::X25519HkdfSha256, single_shot_open, single_shot_seal,
};
use roadstead_types::{BundleBinding, EncryptionKey, KeyKind};
use zeroize::Zeroizing;

use crate::EncryptionSecret;

/// The largest sealed bundle, in bytes: one block that every IPFS implementation takes.
pub const MAX_BUNDLE: usize = 1 << 20;

const MAGIC: &[u8; 5] = b"RSDB\x01";
const TAG: usize = 16;
const KEY: usize = 32;
const ENCAPSULATED: usize = 32;
const SLOT: usize = ENCAPSULATED + KEY + TAG;
const HEADER: usize = MAGIC.len() + 2 * SLOT;

/// Who opens a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleRecipient {
    /// The provider that runs the job.
    Provider,
    /// The publisher, which sealed it.
    Recovery,
}

/// Why a bundle was not sealed or not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A key of another kind or length.
    #[error("the recipient's key is no X25519 key")]
    BadKey,
    /// It does not fit into a block.
    #[error("a sealed bundle has at most {MAX_BUNDLE} bytes, this one has {length}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Not a sealed bundle of a version that this build reads.
    #[error("not a sealed bundle")]
    Malformed,
    /// Sealed to another key, for another provider, publisher or contract, or damaged.
    #[error("the bundle is sealed to somebody else, or it was changed")]
    NotForUs,
}

/// Seals a bundle for a provider and for the publisher's own recovery key.
///
/// # Panics
///
/// If the system has no source of randomness.
pub fn seal_bundle(
    plaintext: &[u8],
    binding: &BundleBinding,
    provider: &EncryptionKey,
    recovery: &EncryptionKey,
) -> Result<Vec<u8>, BundleError> {
    let length = HEADER.saturating_add(plaintext.len()).saturating_add(TAG);
    if length > MAX_BUNDLE {
        return Err(BundleError::TooLarge { length });
    }
    let mut key = Zeroizing::new([0; KEY]);
    getrandom::fill(&mut *key).expect("the system has a source of randomness");
    let mut block = Vec::with_capacity(length);
    block.extend_from_slice(MAGIC);
    for (recipient, public) in
        [(BundleRecipient::Provider, provider), (BundleRecipient::Recovery, recovery)]
    {
        let (encapsulated, sealed) = single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &public_key(public)?,
            &info(binding, recipient),
            &*key,
            &[],
        )
        // A public key of low order: no secret can be agreed on with it.
        .map_err(|_| BundleError::BadKey)?;
        block.extend_from_slice(&encapsulated.to_bytes());
        block.extend_from_slice(&sealed);
    }
    let payload = Payload { msg: plaintext, aad: &block };
    let sealed = Aes256Gcm::new((&*key).into())
        .encrypt(&Default::default(), payload)
        .map_err(|_| BundleError::TooLarge { length })?;
    block.extend_from_slice(&sealed);
    Ok(block)
}

impl EncryptionSecret {
    /// Opens a bundle that [`seal_bundle`] made with this binding and with the public half of this key for
    /// `recipient`.
    pub fn open_bundle(
        &self,
        block: &[u8],
        binding: &BundleBinding,
        recipient: BundleRecipient,
    ) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        if block.len() > MAX_BUNDLE {
            return Err(BundleError::TooLarge { length: block.len() });
        }
        if block.len() < HEADER + TAG || !block.starts_with(MAGIC) {
            return Err(BundleError::Malformed);
        }
        let (header, sealed) = block.split_at(HEADER);
        let slot = match recipient {
            BundleRecipient::Provider => &header[MAGIC.len()..][..SLOT],
            BundleRecipient::Recovery => &header[MAGIC.len() + SLOT..][..SLOT],
        };
        let (encapsulated, wrapped) = slot.split_at(ENCAPSULATED);
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated)
            .map_err(|_| BundleError::Malformed)?;
        let key = single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            self.private_key(),
            &encapsulated,
            &info(binding, recipient),
            wrapped,
            &[],
        );
        let key = Zeroizing::new(key.map_err(|_| BundleError::NotForUs)?);
        let cipher = Aes256Gcm::new_from_slice(&key).map_err(|_| BundleError::NotForUs)?;
        let payload = Payload { msg: sealed, aad: header };
        let opened = cipher.decrypt(&Default::default(), payload);
        opened.map(Zeroizing::new).map_err(|_| BundleError::NotForUs)
    }
}

fn public_key(key: &EncryptionKey) -> Result<<X25519HkdfSha256 as Kem>::PublicKey, BundleError> {
    match key.kind {
        KeyKind::X25519 => <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&key.key)
            .map_err(|_| BundleError::BadKey),
        KeyKind::Other(_) => Err(BundleError::BadKey),
    }
}

fn info(binding: &BundleBinding, recipient: BundleRecipient) -> Vec<u8> {
    let role: u8 = match recipient {
        BundleRecipient::Provider => 0,
        BundleRecipient::Recovery => 1,
    };
    let mut info = b"roadstead bundle/1".to_vec();
    info.push(role);
    info.extend_from_slice(&binding.chain.to_be_bytes());
    for address in [binding.contract, binding.publisher, binding.provider] {
        info.extend_from_slice(address.as_slice());
    }
    info
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    const CONTENT: &[u8] = b"what is to run";

    fn binding() -> BundleBinding {
        BundleBinding {
            chain: 31_337,
            contract: Address::repeat_byte(1),
            publisher: Address::repeat_byte(2),
            provider: Address::repeat_byte(3),
        }
    }

    struct Sealed {
        provider: EncryptionSecret,
        recovery: EncryptionSecret,
        block: Vec<u8>,
    }

    fn sealed() -> Sealed {
        let (provider, recovery) = (EncryptionSecret::generate(), EncryptionSecret::generate());
        let (to, back) = (provider.public_key(), recovery.public_key());
        let block = seal_bundle(CONTENT, &binding(), &to, &back).unwrap();
        Sealed { provider, recovery, block }
    }

    #[test]
    fn provider_and_publisher_open_it_and_nobody_else() {
        let Sealed { provider, recovery, block } = sealed();
        let open = |secret: &EncryptionSecret, recipient| {
            secret.open_bundle(&block, &binding(), recipient).map(|opened| opened.to_vec())
        };
        assert_eq!(open(&provider, BundleRecipient::Provider).unwrap(), CONTENT);
        assert_eq!(open(&recovery, BundleRecipient::Recovery).unwrap(), CONTENT);
        let stranger = EncryptionSecret::generate();
        for (secret, recipient) in [
            (&provider, BundleRecipient::Recovery),
            (&recovery, BundleRecipient::Provider),
            (&stranger, BundleRecipient::Provider),
            (&stranger, BundleRecipient::Recovery),
        ] {
            assert_eq!(open(secret, recipient), Err(BundleError::NotForUs));
        }
    }

    #[test]
    fn it_opens_only_where_it_belongs() {
        let Sealed { provider, block, .. } = sealed();
        let other = Address::repeat_byte(9);
        for moved in [
            BundleBinding { chain: 1, ..binding() },
            BundleBinding { contract: other, ..binding() },
            BundleBinding { publisher: other, ..binding() },
            BundleBinding { provider: other, ..binding() },
        ] {
            let opened = provider.open_bundle(&block, &moved, BundleRecipient::Provider);
            assert_eq!(opened, Err(BundleError::NotForUs), "{moved:?}");
        }
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let Sealed { provider, block, .. } = sealed();
        for position in 0..block.len() {
            let mut changed = block.clone();
            changed[position] ^= 1;
            let opened = provider.open_bundle(&changed, &binding(), BundleRecipient::Provider);
            assert!(opened.is_err(), "byte {position}");
            let cut = &block[..position];
            let opened = provider.open_bundle(cut, &binding(), BundleRecipient::Provider);
            assert!(opened.is_err(), "cut to {position}");
        }
    }

    #[test]
    fn a_slot_of_another_bundle_does_not_fit() {
        let Sealed { provider, recovery, block } = sealed();
        let (to, back) = (provider.public_key(), recovery.public_key());
        let mut spliced = seal_bundle(b"another thing", &binding(), &to, &back).unwrap();
        spliced[..HEADER].copy_from_slice(&block[..HEADER]);
        let opened = provider.open_bundle(&spliced, &binding(), BundleRecipient::Provider);
        assert_eq!(opened, Err(BundleError::NotForUs));
    }

    #[test]
    fn what_cannot_be_sealed_is_refused() {
        let Sealed { provider, recovery, .. } = sealed();
        let (to, back) = (provider.public_key(), recovery.public_key());
        let largest = vec![0; MAX_BUNDLE - HEADER - TAG];
        assert_eq!(seal_bundle(&largest, &binding(), &to, &back).unwrap().len(), MAX_BUNDLE);
        let larger = vec![0; largest.len() + 1];
        let refused = seal_bundle(&larger, &binding(), &to, &back);
        assert_eq!(refused, Err(BundleError::TooLarge { length: MAX_BUNDLE + 1 }));
        for bad in [
            EncryptionKey { kind: KeyKind::Other(7), key: to.key.clone() },
            EncryptionKey { kind: KeyKind::X25519, key: vec![1; 31] },
            EncryptionKey { kind: KeyKind::X25519, key: vec![0; 32] },
        ] {
            let refused = seal_bundle(CONTENT, &binding(), &bad, &back);
            assert_eq!(refused, Err(BundleError::BadKey), "{bad:?}");
        }
    }
}
