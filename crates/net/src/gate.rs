//! Who gets in, and who has to leave for it.
//!
//! ```text
//!   accepted ── its source has its share of handshakes, or all are taken ──> refused
//!      │
//!   handshake ── its peer has its connections ──> refused
//!      │
//!      v
//!   staying ── a newer one needs its place, and no other has been idle for longer ──> leaving ──> closed
//! ```
//!
//! A connection costs nothing, and neither does an identity; an address does. So each source has a share, and where a
//! share or the whole is taken, the newcomer gets the place of the connection that has been idle for the longest: of
//! the same source, or of all. One with a question under way keeps its place. A peer that had to leave finds its way
//! back with its next question.
//!
//! What remains possible: with addresses of many sources (eight for everything) a stranger takes all handshakes or all
//! places for those that leave, and nobody gets in while that lasts; who shares the address of such a stranger is shut
//! out by one. Behind a proxy that hides the addresses all peers are one source.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, ListenFailure,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};
use multiaddr::Multiaddr;
use roadstead_types::PeerId;

use crate::address::socket;

/// The most connections of one peer: one, and what is left of the one before.
const MAX_PER_PEER: usize = 2;

/// The most connections of one source that stay, and the most that leave.
const MAX_PER_SOURCE: usize = 32;

/// The most connections that stay, and the most that leave.
const MAX_IN_ALL: usize = 256;

/// The most handshakes of one source under way.
const MAX_HANDSHAKES_PER_SOURCE: usize = 32;

/// The most handshakes under way.
const MAX_HANDSHAKES: usize = 256;

/// Why a connection is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("too many handshakes are under way")]
    Handshakes,
    #[error("too many handshakes of this source are under way")]
    HandshakesOfSource,
    #[error("the peer has too many connections")]
    Peer,
    #[error("every connection is in use")]
    Full,
    #[error("nobody is dialled from here")]
    Dialled,
}

/// Whose address it is: one of IPv4, or the network that one subscriber of IPv6 has. Nothing else is listened on.
type Source = Option<IpAddr>;

fn source(address: &Multiaddr) -> Source {
    let network = |ip: Ipv6Addr| Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64);
    socket(address).map(|socket| match socket.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => network(ip).into(),
        ip => ip,
    })
}

#[derive(Debug)]
struct Connection {
    peer: PeerId,
    source: Source,
    under_way: usize,
    /// When it was last made or used, in the order of all such events.
    used: u64,
    is_leaving: bool,
}

/// Bounds the connections of a node that listens and dials nobody.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    handshakes: HashMap<ConnectionId, Source>,
    connections: HashMap<ConnectionId, Connection>,
    leaving: VecDeque<(PeerId, ConnectionId)>,
    events: u64,
}

impl Gate {
    /// A question of this connection is under way.
    pub(crate) fn asked(&mut self, connection: ConnectionId) {
        let used = self.next_event();
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.under_way += 1;
            connection.used = used;
        }
    }

    /// One that was under way is so no more.
    pub(crate) fn answered(&mut self, connection: ConnectionId) {
        let used = self.next_event();
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.under_way = connection.under_way.saturating_sub(1);
            connection.used = used;
        }
    }

    const fn next_event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn admit(&mut self, peer: PeerId, source: Source) -> Result<(), Refusal> {
        let count = |counted: &dyn Fn(&Connection) -> bool| {
            self.connections.values().filter(|connection| counted(connection)).count()
        };
        // One that leaves for a stranger must not stand in the way of its own peer.
        if count(&|other| other.peer == peer && !other.is_leaving) >= MAX_PER_PEER {
            return Err(Refusal::Peer);
        }
        let share = count(&|other| other.source == source && !other.is_leaving);
        let all = count(&|other| !other.is_leaving);
        if share < MAX_PER_SOURCE && all < MAX_IN_ALL {
            return Ok(());
        }
        let is_of_source = share >= MAX_PER_SOURCE;
        let idle = self.connections.iter_mut().filter(|(_, other)| {
            !other.is_leaving && other.under_way == 0 && (!is_of_source || other.source == source)
        });
        let (id, longest) = idle.min_by_key(|(_, other)| other.used).ok_or(Refusal::Full)?;
        // A peer that does not read can keep its end from closing for as long as it likes.
        let leaving = |other: &&Connection| other.is_leaving;
        let _ = leaving;
        longest.is_leaving = true;
        self.leaving.push_back((longest.peer, *id));
        Ok(())
    }
}
