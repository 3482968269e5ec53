//! The provider's own keys, made once and kept in its state folder.
//!
//! Losing the encryption key means that no bundle sealed to it can ever be opened; losing the identity means that the
//! endpoint in the registry leads to nobody until it is updated. Money depends on neither.

use roadstead_crypto::{EncryptionSecret, InvalidKey, NodeIdentity};
use roadstead_journal::{FolderError, StateFolder};

const ENCRYPTION_KEY: &str = "encryption.key";
const IDENTITY_KEY: &str = "identity.key";

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
pub enum KeyError {
    /// The files cannot be read or written.
    #[error("the provider's keys cannot be read or kept")]
    Folder(#[from] FolderError),
    /// A file holds something else.
    #[error("`{file}` in the provider's folder holds no key")]
    Damaged {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        #[source]
        source: InvalidKey,
    },
}

impl Keys {
    /// Reads the keys of the folder, and makes those that it does not have yet.
    pub fn load_or_create(folder: &StateFolder) -> Result<Self, KeyError> {
        let damaged = |file| move |source| KeyError::Damaged { file, source };
        let encryption = match folder.read_secret(ENCRYPTION_KEY)? {
            Some(bytes) => EncryptionSecret::from_bytes(&bytes).map_err(damaged(ENCRYPTION_KEY))?,
            None => {
                let made = EncryptionSecret::generate();
                folder.write_secret(ENCRYPTION_KEY, &made.to_bytes())?;
                made
            }
        };
        let identity = match folder.read_secret(IDENTITY_KEY)? {
            Some(bytes) => NodeIdentity::from_bytes(&bytes).map_err(damaged(IDENTITY_KEY))?,
            None => {
                let made = NodeIdentity::generate();
                folder.write_secret(IDENTITY_KEY, &made.to_bytes())?;
                made
            }
        };
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
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        folder.write_secret(ENCRYPTION_KEY, b"short").unwrap();
        let refused = Keys::load_or_create(&folder);
        assert!(matches!(refused, Err(KeyError::Damaged { file: ENCRYPTION_KEY, .. })));
        assert_eq!(**folder.read_secret(ENCRYPTION_KEY).unwrap().unwrap(), *b"short");
    }
}
