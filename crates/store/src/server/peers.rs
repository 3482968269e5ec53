//! Who is at the other end of a connection, and how much of a server each of them holds.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A client as far as limits go. Whoever has one address of IPv6 has its whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl Peer {
    pub(super) fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Self(Ipv6Addr::from_bits(network).into())
            }
            v4 => Self(v4),
        }
    }
}

/// Something of which each peer holds a few at most. The clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<Peer, usize>>>,
}

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    peer: Peer,
    shares: Shares,
}

impl Shares {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for this peer, where it may have it.
    pub(crate) fn take(&self, peer: Peer) -> Option<Share> {
        let mut all = self.held();
        let held = all.get(&peer).copied().unwrap_or_default();
        if held >= self.most {
            return None;
        }
        all.insert(peer, held + 1);
        Some(Share { peer, shares: self.clone() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        // Each change is whole before anything can panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.held();
        if let Some(held) = all.get_mut(&self.peer) {
            *held -= 1;
            // Nothing is kept about those who are gone.
            if *held == 0 {
                all.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::at(address.parse().unwrap())
    }

    #[test]
    fn a_network_of_ipv6_is_one_peer() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:0:0:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
    }

    #[test]
    fn each_peer_has_its_share_and_leaves_no_trace() {
        let shares = Shares::new(2);
        let (one, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let first = shares.take(one).unwrap();
        let second = shares.take(one).unwrap();
        assert!(shares.take(one).is_none());
        drop(shares.take(other).unwrap());
        drop(first);
        drop(shares.take(one).unwrap());
        drop(second);
        assert!(shares.held().is_empty());
    }
}
