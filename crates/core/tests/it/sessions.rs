//! Who may speak, and about what.

use alloy_primitives::{Address, B256};
use roadstead_abi::session_digest;
use roadstead_core::{MAX_SESSION, Verb, authorise, check_session, protocol::Denial};
use roadstead_types::{Domain, PeerId, Seconds, Session, Signature, SignedSession, Timestamp};

use crate::fixture::{Fixture, Key, READY};

const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const OTHER: &str = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";

fn peer(text: &str) -> PeerId {
    text.parse().unwrap()
}

fn session(market: &Fixture) -> Session {
    Session {
        subject: market.publisher.address(),
        peer: peer(PEER),
        provider: market.terms.provider,
        expiry: READY.after(Seconds(600)),
        nonce: B256::repeat_byte(1),
    }
}

fn signed(key: &Key, domain: &Domain, session: Session) -> SignedSession {
    SignedSession { session, signature: key.sign(&session_digest(domain, &session)) }
}

fn check(market: &Fixture, session: &SignedSession) -> Result<(), Denial> {
    check_session(session, &market.domain, market.terms.provider, peer(PEER), READY)
}

#[test]
fn a_session_counts_as_it_was_signed_and_nowhere_else() {
    let market = Fixture::new();
    let key = &market.publisher;
    let honest = session(&market);
    let good = signed(key, &market.domain, honest);
    assert_eq!(check(&market, &good), Ok(()));

    // Sent by another peer, or signed for one.
    let (domain, provider) = (&market.domain, market.terms.provider);
    let stolen = check_session(&good, domain, provider, peer(OTHER), READY);
    assert_eq!(stolen, Err(Denial::Peer));
    let other = signed(key, domain, Session { peer: peer(OTHER), ..honest });
    assert_eq!(check(&market, &other), Err(Denial::Peer));

    // For another provider, contract or chain.
    let another = Session { provider: Address::repeat_byte(9), ..honest };
    assert_eq!(check(&market, &signed(key, domain, another)), Err(Denial::Signature));
    let contract = Domain { contract: Address::repeat_byte(9), ..*domain };
    assert_eq!(check(&market, &signed(key, &contract, honest)), Err(Denial::Signature));
    let chain = Domain { chain: 1, ..*domain };
    assert_eq!(check(&market, &signed(key, &chain, honest)), Err(Denial::Signature));

    // Not by its subject, or altered after it was signed.
    assert_eq!(check(&market, &signed(&market.stranger, domain, honest)), Err(Denial::Signature));
    let altered = [
        Session { subject: market.signer.address(), ..honest },
        Session { expiry: honest.expiry.after(Seconds(1)), ..honest },
        Session { nonce: B256::repeat_byte(2), ..honest },
    ];
    for session in altered {
        assert_eq!(check(&market, &SignedSession { session, ..good }), Err(Denial::Signature));
    }
    let nobody = Session { subject: Address::ZERO, ..honest };
    let empty = SignedSession { session: nobody, signature: Signature([0; 65]) };
    assert_eq!(check(&market, &empty), Err(Denial::Signature));
}

#[test]
fn a_session_ends_and_does_not_last_for_ever() {
    let market = Fixture::new();
    let expiring = |expiry: Timestamp| {
        let session = Session { expiry, ..session(&market) };
        check(&market, &signed(&market.publisher, &market.domain, session))
    };
    assert_eq!(expiring(Timestamp(READY.0 - 1)), Err(Denial::Expired));
    assert_eq!(expiring(READY), Err(Denial::Expired));
    assert_eq!(expiring(READY.after(Seconds(1))), Ok(()));
    assert_eq!(expiring(READY.after(MAX_SESSION)), Ok(()));
    assert_eq!(expiring(READY.after(Seconds(MAX_SESSION.0 + 1))), Err(Denial::Expired));
    assert_eq!(expiring(Timestamp(u32::MAX)), Err(Denial::Expired));
}

#[test]
fn orders_are_the_publishers_alone() {
    let market = Fixture::new();
    let table = [
        (&market.publisher, [true, true, true]),
        (&market.signer, [true, true, false]),
        (&market.provider, [false, false, false]),
        (&market.stranger, [false, false, false]),
    ];
    for (key, expected) in table {
        let found = [Verb::Sync, Verb::Restore, Verb::Order]
            .map(|verb| authorise(key.address(), verb, &market.terms));
        assert_eq!(found, expected);
    }
}
