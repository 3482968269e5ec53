//! Who speaks through which peer.
//!
//! A session is bound to the peer whose handshake was seen, so what is kept of it goes with the peer: its nonces as well,
//! because nobody else can use them.

use std::collections::{HashMap, VecDeque};

use alloy_primitives::{Address, B256};
use roadstead_core::protocol::Denial;
use roadstead_types::{PeerId, SignedSession, Timestamp};

/// The most accounts that one peer speaks for.
const MAX_SESSIONS: usize = 16;

/// The most nonces that are remembered of one peer.
const MAX_NONCES: usize = 256;

/// The most peers with sessions.
const MAX_PEERS: usize = 4_096;

/// The sessions of all peers that are connected.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    peers: HashMap<PeerId, Speaker>,
}

/// One peer.
#[derive(Debug, Default)]
struct Speaker {
    held: Vec<SignedSession>,
    /// Of sessions that would still be valid, the oldest first.
    nonces: VecDeque<(B256, Timestamp)>,
}

impl Sessions {
    /// Takes in a session that was checked.
    pub(super) fn add(&mut self, signed: SignedSession, now: Timestamp) -> Result<(), Denial> {
        let session = &signed.session;
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&session.peer) {
            return Err(Denial::Busy);
        }
        let Speaker { held, nonces } = self.peers.entry(session.peer).or_default();
        if held.contains(&signed) {
            return Ok(());
        }
        nonces.retain(|(_, expiry)| *expiry > now);
        if nonces.iter().any(|(nonce, _)| *nonce == session.nonce) {
            return Err(Denial::Nonce);
        }
        if nonces.len() >= MAX_NONCES {
            return Err(Denial::Busy);
        }
        nonces.push_back((session.nonce, session.expiry));
        held.retain(|other| other.session.subject != session.subject && other.session.expiry > now);
        if held.len() >= MAX_SESSIONS {
            held.remove(0);
        }
        held.push(signed);
        Ok(())
    }

    /// Whom a peer speaks for now.
    pub(super) fn subjects(&self, peer: PeerId, now: Timestamp) -> Vec<Address> {
        let held = self.peers.get(&peer).map(|speaker| speaker.held.iter());
        held.into_iter()
            .flatten()
            .filter(|signed| signed.session.expiry > now)
            .map(|signed| signed.session.subject)
            .collect()
    }

    /// The peer is gone.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use roadstead_crypto::NodeIdentity;
    use roadstead_types::{Session, Signature};

    use super::*;

    fn session(peer: PeerId, nonce: usize, subject: u8) -> SignedSession {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&nonce.to_be_bytes());
        let session = Session {
            subject: Address::repeat_byte(subject),
            peer,
            provider: Address::ZERO,
            expiry: Timestamp(100),
            nonce: B256::from(bytes),
        };
        SignedSession { session, signature: Signature([0; 65]) }
    }

    #[test]
    fn a_peer_fills_only_its_own_place() {
        let [loud, quiet] = [(); 2].map(|()| NodeIdentity::generate().peer_id());
        let mut sessions = Sessions::default();
        let now = Timestamp(10);
        for nonce in 0..MAX_NONCES {
            assert_eq!(sessions.add(session(loud, nonce, 1), now), Ok(()));
        }
        assert_eq!(sessions.add(session(loud, MAX_NONCES, 1), now), Err(Denial::Busy));
        assert_eq!(sessions.add(session(quiet, 0, 2), now), Ok(()));
        assert_eq!(sessions.subjects(quiet, now), [Address::repeat_byte(2)]);
        assert!(sessions.subjects(quiet, Timestamp(100)).is_empty());
        // What has expired is forgotten.
        let later = session(loud, MAX_NONCES, 1);
        let later =
            SignedSession { session: Session { expiry: Timestamp(200), ..later.session }, ..later };
        assert_eq!(sessions.add(later, Timestamp(100)), Ok(()));
    }

    #[test]
    fn a_nonce_is_used_once_and_the_newest_session_of_an_account_stands() {
        let peer = NodeIdentity::generate().peer_id();
        let mut sessions = Sessions::default();
        let now = Timestamp(10);
        let first = session(peer, 1, 1);
        assert_eq!(sessions.add(first, now), Ok(()));
        assert_eq!(sessions.add(first, now), Ok(()), "the same again");
        assert_eq!(sessions.add(session(peer, 1, 2), now), Err(Denial::Nonce));
        for subject in 1..=20 {
            assert_eq!(
                sessions.add(session(peer, usize::from(subject) + 10, subject), now),
                Ok(())
            );
        }
        let subjects = sessions.subjects(peer, now);
        assert_eq!(subjects.len(), MAX_SESSIONS);
        assert_eq!(subjects.last(), Some(&Address::repeat_byte(20)));
        sessions.forget(peer);
        assert!(sessions.subjects(peer, now).is_empty());
    }
}
