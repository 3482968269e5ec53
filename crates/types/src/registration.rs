//! A provider's entry in the registry: how to reach it and how to encrypt to it.

use std::{fmt, str::FromStr};

use alloy_primitives::B256;
use multiaddr::{Multiaddr, PeerId, Protocol};

/// A multiaddr that ends in the peer's id, at most 256 bytes in its binary form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(Multiaddr);

/// Why an address is not an endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a multiaddr.
    #[error("not a multiaddr")]
    Malformed(#[source] multiaddr::Error),
    /// Whom it leads to cannot be checked.
    #[error("`{address}` does not end in /p2p/<peer id>")]
    NoPeer {
        /// What was given.
        address: String,
    },
    /// More than the registry keeps.
    #[error("{length} bytes; the registry keeps at most {max}", max = Endpoint::MAX_LENGTH)]
    TooLong {
        /// Its length.
        length: usize,
    },
}

impl Endpoint {
    /// The most bytes that the registry keeps.
    pub const MAX_LENGTH: usize = 256;

    /// Checks length and peer id.
    pub fn new(address: Multiaddr) -> Result<Self, EndpointError> {
        if address.len() > Self::MAX_LENGTH {
            return Err(EndpointError::TooLong { length: address.len() });
        }
        match address.iter().last() {
            Some(Protocol::P2p(_)) => Ok(Self(address)),
            _ => Err(EndpointError::NoPeer { address: address.to_string() }),
        }
    }

    /// Reads the binary form, as the registry holds it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EndpointError> {
        if bytes.len() > Self::MAX_LENGTH {
            return Err(EndpointError::TooLong { length: bytes.len() });
        }
        Multiaddr::try_from(bytes.to_vec()).map_err(EndpointError::Malformed).and_then(Self::new)
    }

    /// Whom it leads to.
    pub fn peer(&self) -> PeerId {
        match self.0.iter().last() {
            Some(Protocol::P2p(peer)) => peer,
            _ => unreachable!("an endpoint ends in a peer"),
        }
    }

    /// The whole address.
    pub const fn address(&self) -> &Multiaddr {
        &self.0
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        text.parse().map_err(EndpointError::Malformed).and_then(Self::new)
    }
}

/// What an encryption key is for. A kind that this build does not know is kept, so that entries of others can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// X25519, 32 bytes (RFC 7748).
    X25519,
    /// A kind of a later version.
    Other(u16),
}

impl From<u16> for KeyKind {
    fn from(kind: u16) -> Self {
        match kind {
            1 => Self::X25519,
            other => Self::Other(other),
        }
    }
}

impl From<KeyKind> for u16 {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::X25519 => 1,
            KeyKind::Other(other) => other,
        }
    }
}

/// A public key that bundles can be sealed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EncryptionKey {
    /// Which algorithm.
    pub kind: KeyKind,
    /// The public key in the algorithm's own form.
    pub key: Vec<u8>,
}

/// What a provider writes into the registry about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Where it listens, with its peer id.
    pub endpoint: Endpoint,
    /// Keys to seal bundles to, the preferred one first.
    pub keys: Vec<EncryptionKey>,
    /// SHA-256 digest of its profile.
    pub profile: B256,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn an_endpoint_survives_its_binary_form() {
        let endpoint: Endpoint = format!("/ip4/127.0.0.1/tcp/4101/p2p/{PEER}").parse().unwrap();
        assert_eq!(Endpoint::from_bytes(&endpoint.to_bytes()).unwrap(), endpoint);
    }

    #[test]
    fn an_address_without_a_peer_is_refused() {
        let refused = "/ip4/127.0.0.1/tcp/4101".parse::<Endpoint>();
        assert!(matches!(refused, Err(EndpointError::NoPeer { .. })));
        let nested = format!("/p2p/{PEER}/ip4/127.0.0.1");
        assert!(matches!(nested.parse::<Endpoint>(), Err(EndpointError::NoPeer { .. })));
        assert!(matches!("".parse::<Endpoint>(), Err(EndpointError::NoPeer { .. })));
    }

    #[test]
    fn a_long_address_is_refused() {
        let long = format!("{}/p2p/{PEER}", "/ip4/127.0.0.1/tcp/4101".repeat(30));
        assert!(matches!(long.parse::<Endpoint>(), Err(EndpointError::TooLong { length: 281 })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(endpoint) = Endpoint::from_bytes(&bytes) {
                prop_assert_eq!(endpoint.to_bytes(), bytes);
            }
        }

        #[test]
        fn key_kinds_survive(kind in any::<u16>()) {
            prop_assert_eq!(u16::from(KeyKind::from(kind)), kind);
        }
    }
}
