//! The key pair that deployment bundles are sealed to.

use std::fmt;

use hpke::{Deserializable, Kem, Serializable, kem::X25519HkdfSha256};
use roadstead_types::{EncryptionKey, KeyKind};
use zeroize::Zeroizing;

use crate::InvalidKey;

/// An X25519 secret key with its public half, for DHKEM(X25519, HKDF-SHA256) of RFC 9180.
pub struct EncryptionSecret {
    secret: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: <X25519HkdfSha256 as Kem>::PublicKey,
}

impl EncryptionSecret {
    /// Makes a new pair from the system's randomness.
    ///
    /// # Panics
    ///
    /// If the system has no source of randomness.
    pub fn generate() -> Self {
        let (secret, public) = X25519HkdfSha256::gen_keypair();
        Self { secret, public }
    }

    /// Reads the 32 bytes that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        let secret = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(bytes)
            .map_err(|_| InvalidKey { what: "an X25519 secret key" })?;
        Ok(Self { public: X25519HkdfSha256::sk_to_pk(&secret), secret })
    }

    /// The secret, for the file that keeps it: 32 bytes.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.secret.to_bytes().to_vec())
    }

    pub(crate) const fn private_key(&self) -> &<X25519HkdfSha256 as Kem>::PrivateKey {
        &self.secret
    }

    /// The public half, as the registry holds it.
    pub fn public_key(&self) -> EncryptionKey {
        EncryptionKey { kind: KeyKind::X25519, key: self.public.to_bytes().to_vec() }
    }
}

impl fmt::Debug for EncryptionSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EncryptionSecret").field("public", &self.public_key()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_the_same_key() {
        let secret = EncryptionSecret::generate();
        let restored = EncryptionSecret::from_bytes(&secret.to_bytes()).unwrap();
        assert_eq!(restored.public_key(), secret.public_key());
        assert_ne!(EncryptionSecret::generate().public_key(), secret.public_key());
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert!(EncryptionSecret::from_bytes(&[7; 31]).is_err());
        assert!(EncryptionSecret::from_bytes(&[7; 33]).is_err());
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = EncryptionSecret::generate();
        let shown = format!("{secret:?}");
        let bytes = format!("{:?}", &*secret.to_bytes());
        assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
    }
}
