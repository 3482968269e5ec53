//! The keys of a publisher and of its agent, made once and kept in their state folders.
//!
//! Losing the dedupe secret means that everything is uploaded anew; whoever has it can confirm guesses about the
//! publisher's images, and open guessed chunks. Losing the recovery key means that bundles cannot be read back, losing
//! an identity that providers see another peer. Losing the agent's key means that no bill of the jobs that name it can
//! be accepted any more; whoever has it can accept bills of these jobs, each up to its deposit.

use roadstead_chain::Wallet;
use roadstead_crypto::{DedupeSecret, EncryptionSecret, InvalidKey, NodeIdentity};
use roadstead_journal::{SecretError, StateFolder};
use zeroize::Zeroizing;

/// The keys of a publisher.
#[derive(Debug)]
pub struct Keys {
    /// The keys of all chunks come from it. It never leaves the publisher.
    pub dedupe: DedupeSecret,
    /// Bundles are sealed to it, besides their provider.
    pub recovery: EncryptionSecret,
    /// Providers know this client by it.
    pub identity: NodeIdentity,
}

/// The keys of an agent.
#[derive(Debug)]
pub struct AgentKeys {
    /// Providers know this client by it.
    pub identity: NodeIdentity,
    /// Accepts the bills of jobs that name it as their signer. It pays for nothing.
    pub signer: Wallet,
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("the keys cannot be had")]
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
        Ok(Self { dedupe, recovery, identity: identity(folder)? })
    }
}

impl AgentKeys {
    /// Reads the keys of the folder, and makes those that it does not have yet. A publisher's folder will do.
    pub fn load_or_create(folder: &StateFolder) -> Result<Self, KeyError> {
        let signer = folder.secret_or_new("agent.key", read_wallet, Wallet::random, |wallet| {
            Zeroizing::new(wallet.to_hex().as_bytes().to_vec())
        })?;
        Ok(Self { identity: identity(folder)?, signer })
    }
}

fn identity(folder: &StateFolder) -> Result<NodeIdentity, SecretError<InvalidKey>> {
    folder.secret_or_new(
        "identity.key",
        NodeIdentity::from_bytes,
        NodeIdentity::generate,
        NodeIdentity::to_bytes,
    )
}

fn read_wallet(content: &[u8]) -> Result<Wallet, InvalidKey> {
    let text = str::from_utf8(content).ok();
    let wallet = text.and_then(|text| text.parse().ok());
    wallet.ok_or(InvalidKey { what: "the private key of an account, in hexadecimal digits" })
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
        assert_eq!(read.identity.peer_id(), made.identity.peer_id());
        let agent = AgentKeys::load_or_create(&folder).unwrap();
        assert_eq!(agent.identity.peer_id(), made.identity.peer_id());
        let again = AgentKeys::load_or_create(&folder).unwrap();
        assert_eq!(again.signer.address(), agent.signer.address());
        for file in ["dedupe.key", "recovery.key", "identity.key", "agent.key"] {
            let whole = folder.read_secret(file).unwrap().unwrap();
            folder.write_secret(file, b"short").unwrap();
            let publisher = Keys::load_or_create(&folder).is_err();
            let agent = AgentKeys::load_or_create(&folder).is_err();
            assert!(publisher || agent, "{file}");
            folder.write_secret(file, &whole).unwrap();
        }
        Keys::load_or_create(&folder).unwrap();
        AgentKeys::load_or_create(&folder).unwrap();
    }
}
