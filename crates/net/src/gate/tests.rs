use std::task::Waker;

use libp2p::core::ConnectedPoint;

use super::*;

const PEERS: usize = 1_000;

/// A gate, and what knocks at it.
#[derive(Default)]
struct Street {
    gate: Gate,
    next: usize,
}

fn local() -> Multiaddr {
    "/ip4/192.0.2.1/tcp/4101".parse().unwrap()
}

fn ipv4(number: usize) -> Multiaddr {
    format!("/ip4/198.51.100.{number}/tcp/5000").parse().unwrap()
}

impl Street {
    fn knock(&mut self, from: &Multiaddr) -> Result<ConnectionId, String> {
        self.next += 1;
        let id = ConnectionId::new_unchecked(self.next);
        let begun = self.gate.handle_pending_inbound_connection(id, &local(), from);
        begun.map(|()| id).map_err(told)
    }

    fn enter_as(&mut self, peer: PeerId, from: &Multiaddr) -> Result<ConnectionId, String> {
        let id = self.knock(from)?;
        let made = self.gate.handle_established_inbound_connection(id, peer, &local(), from);
        made.map(|_| id).map_err(told)
    }

    fn enter(&mut self, from: &Multiaddr) -> Result<ConnectionId, String> {
        self.enter_as(PeerId::random(), from)
    }

    /// Those that were told to leave since it was last asked.
    fn told_to_leave(&mut self) -> Vec<ConnectionId> {
        let mut told = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = self.gate.poll(&mut context) {
            let ToSwarm::CloseConnection { connection: CloseConnection::One(id), .. } = event
            else {
                panic!("{event:?}")
            };
            told.push(id);
        }
        told
    }

    fn close(&mut self, id: ConnectionId) {
        let endpoint = ConnectedPoint::Listener { local_addr: local(), send_back_addr: ipv4(1) };
        self.gate.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: PeerId::random(),
            connection_id: id,
            endpoint: &endpoint,
            cause: None,
            remaining_established: 0,
        }));
    }
}

fn told(denied: ConnectionDenied) -> String {
    denied.downcast::<Refusal>().unwrap().to_string()
}

#[test]
fn a_source_has_a_share_of_the_handshakes() {
    let mut street = Street::default();
    let begun: Vec<_> =
        (0..MAX_HANDSHAKES_PER_SOURCE).map(|_| street.knock(&ipv4(1)).unwrap()).collect();
    assert_eq!(street.knock(&ipv4(1)), Err(Refusal::HandshakesOfSource.to_string()));
    street.knock(&ipv4(2)).unwrap();
    let (local, from) = (local(), ipv4(1));
    street.gate.on_swarm_event(FromSwarm::ListenFailure(ListenFailure {
        local_addr: &local,
        send_back_addr: &from,
        error: &libp2p::swarm::ListenError::Aborted,
        connection_id: begun[0],
        peer_id: None,
    }));
    street.knock(&ipv4(1)).unwrap();
    assert_eq!(street.knock(&ipv4(1)), Err(Refusal::HandshakesOfSource.to_string()));
}

#[test]
fn only_so_many_handshakes_are_under_way() {
    let mut street = Street::default();
    for number in 0..MAX_HANDSHAKES {
        street.knock(&ipv4(number / MAX_HANDSHAKES_PER_SOURCE)).unwrap();
    }
    assert_eq!(street.knock(&ipv4(200)), Err(Refusal::Handshakes.to_string()));
}

#[test]
fn who_has_been_idle_for_the_longest_makes_room_within_its_source() {
    let mut street = Street::default();
    let other = street.enter(&ipv4(2)).unwrap();
    let inside: Vec<_> = (0..MAX_PER_SOURCE).map(|_| street.enter(&ipv4(1)).unwrap()).collect();
    assert_eq!(street.told_to_leave(), []);
    street.gate.asked(inside[0]);
    street.gate.asked(inside[1]);
    street.gate.answered(inside[1]);
    street.enter(&ipv4(1)).unwrap();
    street.enter(&ipv4(1)).unwrap();
    assert_eq!(street.told_to_leave(), inside[2..4]);
    assert!(!street.gate.connections[&other].is_leaving);
    assert!(!street.gate.connections[&inside[1]].is_leaving, "it was used after the others");
}

#[test]
fn who_has_been_idle_for_the_longest_makes_room_where_all_is_taken() {
    let mut street = Street::default();
    let inside: Vec<_> = (0..MAX_IN_ALL)
        .map(|number| street.enter(&ipv4(number / MAX_PER_SOURCE)).unwrap())
        .collect();
    street.gate.asked(inside[0]);
    street.enter(&ipv4(200)).unwrap();
    assert_eq!(street.told_to_leave(), [inside[1]]);
}

#[test]
fn who_has_a_question_under_way_stays() {
    let mut street = Street::default();
    for number in 0..MAX_IN_ALL {
        let id = street.enter(&ipv4(number / MAX_PER_SOURCE)).unwrap();
        street.gate.asked(id);
    }
    assert_eq!(street.enter(&ipv4(200)), Err(Refusal::Full.to_string()));
    assert_eq!(street.told_to_leave(), []);
}

#[test]
fn who_never_closes_its_end_takes_no_more_places_for_it() {
    let mut street = Street::default();
    let admitted = (0..PEERS).map_while(|_| street.enter(&ipv4(1)).ok()).count();
    assert_eq!(admitted, 2 * MAX_PER_SOURCE);
    let leaving = street.told_to_leave();
    assert_eq!(leaving.len(), MAX_PER_SOURCE);
    street.enter(&ipv4(2)).unwrap();
    street.close(leaving[0]);
    street.enter(&ipv4(1)).unwrap();
    assert_eq!(street.enter(&ipv4(1)), Err(Refusal::Full.to_string()));
}

#[test]
fn who_never_closes_its_end_does_not_keep_others_from_making_room() {
    let mut street = Street::default();
    for _ in 0..2 * MAX_PER_SOURCE {
        street.enter(&ipv4(1)).unwrap();
    }
    street.told_to_leave();
    let others: Vec<_> = (MAX_PER_SOURCE..MAX_IN_ALL)
        .map(|number| street.enter(&ipv4(1 + number / MAX_PER_SOURCE)).unwrap())
        .collect();
    street.enter(&ipv4(200)).unwrap();
    assert_eq!(street.told_to_leave(), [others[0]]);
}

#[test]
fn a_peer_has_few_connections_and_nobody_leaves_for_more() {
    let mut street = Street::default();
    let peer = PeerId::random();
    for _ in 0..MAX_PER_SOURCE - MAX_PER_PEER {
        street.enter(&ipv4(1)).unwrap();
    }
    let own: Vec<_> = (0..MAX_PER_PEER).map(|_| street.enter_as(peer, &ipv4(1)).unwrap()).collect();
    assert_eq!(street.enter_as(peer, &ipv4(1)), Err(Refusal::Peer.to_string()));
    assert_eq!(street.told_to_leave(), []);
    street.close(own[0]);
    street.enter_as(peer, &ipv4(1)).unwrap();
}

#[test]
fn nothing_is_kept_of_who_has_gone() {
    let mut street = Street::default();
    for _ in 0..PEERS {
        let id = street.enter(&ipv4(1)).unwrap();
        street.gate.asked(id);
        street.close(id);
        street.gate.answered(id);
    }
    assert!(street.gate.handshakes.is_empty() && street.gate.connections.is_empty());
    assert!(street.gate.to_close.is_empty());
}

#[test]
fn a_source_is_an_address_of_ipv4_or_a_network_of_ipv6() {
    let source = |text: &str| source(&text.parse().unwrap());
    let same = [
        ("/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.1/tcp/2"),
        ("/ip4/198.51.100.1/tcp/1", "/ip6/::ffff:198.51.100.1/tcp/1"),
        ("/ip6/2001:db8:0:1::1/tcp/1", "/ip6/2001:db8:0:1:ffff::2/tcp/9"),
    ];
    for (one, other) in same {
        assert_eq!(source(one), source(other), "{one} {other}");
        assert!(source(one).is_some());
    }
    let different = [
        ("/ip4/198.51.100.1/tcp/1", "/ip4/198.51.100.2/tcp/1"),
        ("/ip6/2001:db8:0:1::1/tcp/1", "/ip6/2001:db8:0:2::1/tcp/1"),
    ];
    for (one, other) in different {
        assert_ne!(source(one), source(other), "{one} {other}");
    }
}
