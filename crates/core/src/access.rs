//! Who may ask what about a job.

use alloy_primitives::Address;
use roadstead_abi::{recover, session_digest};
use roadstead_types::{Domain, PeerId, Seconds, SignedSession, Terms, Timestamp};

use crate::protocol::Denial;

/// The longest validity of a session.
pub const MAX_SESSION: Seconds = Seconds(3_600);

/// What can be done with a job over the peer network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// See it, and bring vouchers.
    Sync,
    /// Give receipts back.
    Restore,
    /// Give orders.
    Order,
}

/// Checks that a session is for this provider, this market, this peer and this time. That its nonce is new is for the
/// caller to say.
pub fn check_session(
    signed: &SignedSession,
    domain: &Domain,
    provider: Address,
    peer: PeerId,
    now: Timestamp,
) -> Result<(), Denial> {
    let session = &signed.session;
    if session.peer != peer {
        return Err(Denial::Peer);
    }
    if session.expiry <= now || session.expiry.since(now) > MAX_SESSION {
        return Err(Denial::Expired);
    }
    let signer = recover(&session_digest(domain, session), &signed.signature);
    if session.provider == provider && signer == Some(session.subject) {
        Ok(())
    } else {
        Err(Denial::Signature)
    }
}

/// Whether an account may do this to a job with these terms: its publisher everything, its signer everything but give
/// orders.
pub fn authorise(subject: Address, verb: Verb, terms: &Terms) -> bool {
    match verb {
        Verb::Sync | Verb::Restore => subject == terms.signer || subject == terms.publisher,
        Verb::Order => subject == terms.publisher,
    }
}
