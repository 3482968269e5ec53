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
        CloseConnection, ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm,
        ListenFailure, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        dummy,
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
        IpAddr::V6(ip) => network(ip).into(),
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
    /// Those that leave and were not told so yet.
    to_close: VecDeque<(PeerId, ConnectionId)>,
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

    /// Whether there is a place, and makes one where there is none.
    fn admit(&mut self, peer: PeerId, source: Source) -> Result<(), Refusal> {
        let count = |is_counted: &dyn Fn(&Connection) -> bool| {
            self.connections.values().filter(|other| is_counted(other)).count()
        };
        if count(&|other| !other.is_leaving && other.peer == peer) >= MAX_PER_PEER {
            return Err(Refusal::Peer);
        }
        let is_share_taken =
            count(&|other| !other.is_leaving && other.source == source) >= MAX_PER_SOURCE;
        if !is_share_taken && count(&|other| !other.is_leaving) < MAX_IN_ALL {
            return Ok(());
        }
        // Who does not read can keep its end from closing for as long as it likes.
        if count(&|other| other.is_leaving) >= MAX_IN_ALL {
            return Err(Refusal::Full);
        }
        let may_leave = |from: Source| {
            count(&|other| other.is_leaving && other.source == from) < MAX_PER_SOURCE
        };
        let idle = self.connections.iter().filter(|(_, other)| {
            !other.is_leaving
                && other.under_way == 0
                && (!is_share_taken || other.source == source)
                && may_leave(other.source)
        });
        let longest = idle.min_by_key(|(_, other)| other.used);
        let id = longest.map(|(id, _)| *id).ok_or(Refusal::Full)?;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.is_leaving = true;
            self.to_close.push_back((connection.peer, id));
        }
        Ok(())
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let source = source(from);
        if self.handshakes.len() >= MAX_HANDSHAKES {
            return Err(ConnectionDenied::new(Refusal::Handshakes));
        }
        let share = self.handshakes.values().filter(|other| **other == source).count();
        if share >= MAX_HANDSHAKES_PER_SOURCE {
            return Err(ConnectionDenied::new(Refusal::HandshakesOfSource));
        }
        self.handshakes.insert(id, source);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        from: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handshakes.remove(&id);
        let source = source(from);
        self.admit(peer, source).map_err(ConnectionDenied::new)?;
        let used = self.next_event();
        let connection = Connection { peer, source, under_way: 0, used, is_leaving: false };
        self.connections.insert(id, connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Err(ConnectionDenied::new(Refusal::Dialled))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Err(ConnectionDenied::new(Refusal::Dialled))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.connections.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.handshakes.remove(&connection_id);
                self.connections.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.to_close.pop_front() {
            Some((peer_id, id)) => {
                tracing::debug!(peer = %peer_id, "an idle connection makes room");
                let connection = CloseConnection::One(id);
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
            }
            // The swarm asks again after each of the calls above.
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
