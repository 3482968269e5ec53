//! The key pair behind a peer id.

use std::fmt;

use libp2p_identity::{Keypair, PeerId};
use multiaddr::{Multiaddr, Protocol};
use roadstead_types::{Endpoint, EndpointError};
use zeroize::Zeroizing;

use crate::InvalidKey;

/// The Ed25519 key pair by which a node is known on the peer network.
pub struct NodeIdentity(Keypair);

impl NodeIdentity {
    /// Makes a new identity from the system's randomness.
    pub fn generate() -> Self {
        Self(Keypair::generate_ed25519())
    }

    /// Reads the bytes that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidKey> {
        Keypair::from_protobuf_encoding(bytes)
            .map(Self)
            .map_err(|_| InvalidKey { what: "a peer's secret key in libp2p's form" })
    }

    /// The secret in libp2p's own form, for the file that keeps it.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let bytes = self.0.to_protobuf_encoding();
        Zeroizing::new(bytes.expect("an Ed25519 pair always has this form"))
    }

    /// The id that others know this node by.
    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    /// The address with this node's id at its end, as the registry holds it.
    pub fn endpoint(&self, address: Multiaddr) -> Result<Endpoint, EndpointError> {
        Endpoint::new(address.with(Protocol::P2p(self.peer_id())))
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("NodeIdentity").field(&self.peer_id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_identity_is_the_same_peer() {
        let identity = NodeIdentity::generate();
        let restored = NodeIdentity::from_bytes(&identity.to_bytes()).unwrap();
        assert_eq!(restored.peer_id(), identity.peer_id());
        assert!(NodeIdentity::from_bytes(b"something else").is_err());
    }

    #[test]
    fn the_endpoint_ends_in_the_peer() {
        let identity = NodeIdentity::generate();
        let endpoint = identity.endpoint("/ip4/127.0.0.1/tcp/4101".parse().unwrap()).unwrap();
        assert!(endpoint.to_string().ends_with(&format!("/p2p/{}", identity.peer_id())));
    }

    #[test]
    fn debug_shows_the_peer_alone() {
        let identity = NodeIdentity::generate();
        assert_eq!(format!("{identity:?}"), format!("NodeIdentity({:?})", identity.peer_id()));
    }
}
