//! The publisher's own keys, made once and kept in its state folder.
//!
//! Losing the dedupe secret means that everything is uploaded anew; whoever has it can confirm guesses about the
//! publisher's images, and open guessed chunks. Losing the recovery key means that bundles cannot be read back. Money
//! depends on neither.

use roadstead_crypto::{DedupeSecret, EncryptionSecret, InvalidKey};
use roadstead_journal::{SecretError, StateFolder};

/// The keys of a publisher.
#[derive(Debug)]
pub struct Keys {
    /// The keys of all chunks come from it. It never leaves the publisher.
    pub dedupe: DedupeSecret,
    /// Bundles are sealed to it, besides their provider.
    pub recovery: EncryptionSecret,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the publisher's keys cannot be had")]
pub struct KeyError(#[from] SecretError<InvalidKey>);

impl Keys {
    /// Reads the keys of the folder, and makes those that it does not have yet.
    pub fn load_or_create(folder: &StateFolder) -> Result<Self, KeyError> {
        let dedupe = folder.secret_or_new(
            "dedupe.key",
            DedupeSecret::from_bytes,
            DedupeSecret::generate,
            DedupeSecret::to_bytes,
        )?;
        let recovery = folder.secret_or_new(
            "recovery.key",
            EncryptionSecret::from_bytes,
            EncryptionSecret::generate,
            EncryptionSecret::to_bytes,
        )?;
        Ok(Self { dedupe, recovery })
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
        assert_eq!(read.dedupe.to_bytes(), made.dedupe.to_bytes());
        assert_eq!(read.recovery.public_key(), made.recovery.public_key());
        for file in ["dedupe.key", "recovery.key"] {
            folder.write_secret(file, b"short").unwrap();
            assert!(Keys::load_or_create(&folder).is_err(), "{file}");
            folder.write_secret(file, &made.recovery.to_bytes()).unwrap();
        }
    }
}
