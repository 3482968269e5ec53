//! Who speaks over a connection of the peer network.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{PeerId, Signature, Timestamp};

/// What an account signs to speak through a peer with one provider. It counts in the domain that it was signed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Who signs.
    pub subject: Address,
    /// Through which peer: the connection's handshake shows the same one.
    #[serde(with = "peer_text")]
    pub peer: PeerId,
    /// To which provider.
    pub provider: Address,
    /// Up to when, in chain time.
    pub expiry: Timestamp,
    /// Makes each session another one.
    pub nonce: B256,
}

/// A session with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedSession {
    /// What was signed.
    pub session: Session,
    /// Of its subject.
    pub signature: Signature,
}

mod peer_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::PeerId;

    pub(super) fn serialize<S: Serializer>(peer: &PeerId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(peer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PeerId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
