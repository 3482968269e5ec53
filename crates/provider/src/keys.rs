//! The provider's own keys, made once and kept in its state folder.
//!
//! Losing the encryption key means that no bundle sealed to it can ever be opened; losing the identity means that the
//! endpoint in the registry leads to nobody until it is updated. Money depends on neither.

use roadstead_crypto::{EncryptionSecret, InvalidKey, NodeIdentity};
use roadstead_journal::{SecretError, StateFolder};

/// The keys of a provider.
#[derive(Debug)]
pub struct Keys {
    /// Bundles are sealed to it.
    pub encryption: EncryptionSecret,
    /// It is known by it on the peer network.
    pub identity: NodeIdentity,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the provider's keys cannot be had")]
pub struct KeyError(#[from] SecretError<InvalidKey>);

impl Keys {
    /// Reads the keys of the folder, and makes those that it does not have yet.
    pub fn load_or_create(folder: &StateFolder) -> Result<Self, KeyError> {
        let encryption = folder.secret_or_new(
            "encryption.key",
            EncryptionSecret::from_bytes,
            EncryptionSecret::generate,
            EncryptionSecret::to_bytes,
        )?;
        let identity = folder.secret_or_new(
            "identity.key",
            NodeIdentity::from_bytes,
            NodeIdentity::generate,
            NodeIdentity::to_bytes,
        )?;
        Ok(Self { encryption, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outlive_the_process() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let made = Keys::load_or_create(&folder).unwrap();
        let read = Keys::load_or_create(&folder).unwrap();
        assert_eq!(read.encryption.public_key(), made.encryption.public_key());
        assert_eq!(read.identity.peer_id(), made.identity.peer_id());
        let files = [
            ("encryption.key", made.encryption.to_bytes()),
            ("identity.key", made.identity.to_bytes()),
        ];
        for (file, content) in files {
            folder.write_secret(file, b"short").unwrap();
            assert!(Keys::load_or_create(&folder).is_err(), "{file}");
            folder.write_secret(file, &content).unwrap();
        }
        Keys::load_or_create(&folder).unwrap();
    }
}
