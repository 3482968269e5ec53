//! The end that listens and answers.
//!
//! ```text
//!   peer: connected ──last connection closed──> leaving ──no question under way──> gone
//!             ^                                    │
//!             └────────────connected again─────────┘
//! ```
//!
//! A question that was handed to the service is answered to its end even where nobody waits for it any more: the
//! service is never interrupted between two of its steps, except by the end of the server. It hears that a peer is
//! gone after the last of that peer's questions.

use std::{
    collections::HashMap,
    error::Error,
    io,
    net::TcpListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use libp2p::{
    Swarm, TransportError,
    request_response::{self, Event, Message, ProtocolSupport, ResponseChannel},
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent},
};
use multiaddr::{Multiaddr, Protocol};
use roadstead_core::{
    ports::JobService,
    protocol::{Denial, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_types::{Endpoint, PeerId};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::socket,
    codec::{MessageCodec, decode, encode},
    gate::Gate,
    network::{CONNECT_TIME, Driver, MAX_PER_PEER, job_protocol, swarm},
};

/// The most questions of all peers under way. Far more than a few peers can keep open, since one account may speak through
/// many; a question that is kept open takes some 15 kB.
const MAX_IN_ALL: usize = 4096;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process does, or there is no such address here.
    #[error("{address} cannot be listened on")]
    Address {
        /// Where.
        address: Multiaddr,
        /// The reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The handshake cannot be prepared.
    #[error("the identity cannot be used on the peer network")]
    Identity(#[source] Box<dyn Error + Send + Sync>),
}

/// Answers the questions of peers until it is shut down or dropped.
#[derive(Debug)]
pub struct JobServer {
    peer: PeerId,
    asked_for: Multiaddr,
    addresses: Addresses,
    driver: Driver,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    gate: Gate,
    questions: request_response::Behaviour<MessageCodec>,
}

impl JobServer {
    /// Listens on an address of TCP, where port 0 takes any free port, and answers through `service`. It returns when
    /// peers can connect.
    pub async fn listen(
        identity: &NodeIdentity,
        address: Multiaddr,
        service: Arc<dyn JobService>,
    ) -> Result<Self, ListenError> {
        let behaviour =
            Behaviour { gate: Gate::default(), questions: job_protocol(ProtocolSupport::Inbound) };
        let mut swarm =
            swarm(identity, behaviour).map_err(|error| ListenError::Identity(error.into()))?;
        let addresses = Addresses::default();
        let first = listening(&mut swarm, &address).await;
        let first =
            first.map_err(|source| ListenError::Address { address: address.clone(), source })?;
        addresses.add(first);
        let answering = Answering {
            swarm,
            service,
            addresses: addresses.clone(),
            peers: HashMap::new(),
            tasks: JoinSet::new(),
            asked: HashMap::new(),
        };
        Ok(Self {
            peer: identity.peer_id(),
            asked_for: address,
            addresses,
            driver: Driver::start(|stop| answering.run(stop)),
        })
    }

    /// Where it listens: one address for each network of the machine where it was asked to listen on all.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.lock().clone()
    }

    /// An address with its peer id, as others dial it: one that reaches further than this machine, where there is one.
    pub fn endpoint(&self) -> Endpoint {
        let addresses = self.addresses.lock();
        let best = addresses.iter().find(|address| !is_loopback(address));
        let best = best.or(addresses.first()).unwrap_or(&self.asked_for);
        Endpoint::new(best.clone().with(Protocol::P2p(self.peer)))
            .expect("an address of TCP with a peer id is short")
    }

    /// Closes all connections, drops the questions under way and frees the port. The service hears of no peer any more.
    pub async fn shutdown(&self) {
        self.driver.stop().await;
    }
}

/// Addresses that are listened on, shared with the task that hears of them.
#[derive(Clone, Debug, Default)]
struct Addresses(Arc<Mutex<Vec<Multiaddr>>>);

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, Vec<Multiaddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, address: Multiaddr) {
        let mut addresses = self.lock();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
}

async fn listening(
    swarm: &mut Swarm<Behaviour>,
    address: &Multiaddr,
) -> Result<Multiaddr, Box<dyn Error + Send + Sync>> {
    // The transport would share a port with any other process of this user, and each would get some of the peers.
    if let Some(socket) = socket(address) {
        drop(TcpListener::bind(socket)?);
    }
    swarm.listen_on(address.clone()).map_err(|error| match error {
        TransportError::Other(error) => error,
        unsupported => io::Error::new(io::ErrorKind::Unsupported, unsupported),
    })?;
    let listening = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => return Err(error.into()),
                _ => {}
            }
        }
    };
    timeout(CONNECT_TIME, listening).await?
}

fn is_loopback(address: &Multiaddr) -> bool {
    socket(address).is_some_and(|socket| socket.ip().is_loopback())
}

/// A peer that is connected, or whose questions are still under way.
#[derive(Debug, Default)]
struct Visitor {
    connected: bool,
    under_way: usize,
}

/// The task of a server.
struct Answering {
    swarm: Swarm<Behaviour>,
    service: Arc<dyn JobService>,
    addresses: Addresses,
    peers: HashMap<PeerId, Visitor>,
    tasks: JoinSet<Option<Vec<u8>>>,
    asked: HashMap<Id, Asked>,
}

/// Where a question came from and its answer goes.
struct Asked {
    peer: PeerId,
    connection: ConnectionId,
    channel: ResponseChannel<Vec<u8>>,
}

impl Answering {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.tasks.join_next_with_id() => self.on_answer(ended),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.tasks.shutdown().await;
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Questions(Event::Message {
                peer,
                connection_id: connection,
                message: Message::Request { request, channel, .. },
            })) => self.on_question(Asked { peer, connection, channel }, request),
            SwarmEvent::Behaviour(BehaviourEvent::Questions(Event::InboundFailure {
                peer,
                error,
                ..
            })) => tracing::debug!(%peer, %error, "a question was not answered"),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.peers.entry(peer_id).or_default().connected = true;
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.peers.entry(peer_id).or_default().connected = false;
                self.part_with(peer_id);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "a connection was not made");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.addresses.add(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.addresses.lock().retain(|known| *known != address);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a connection cannot be accepted");
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "peers cannot connect any more");
            }
            _ => {}
        }
    }

    fn on_question(&mut self, asked: Asked, question: Vec<u8>) {
        let peer = asked.peer;
        let in_all = self.tasks.len();
        let Some(visitor) = self.peers.get_mut(&peer) else { return };
        if visitor.under_way >= MAX_PER_PEER || in_all >= MAX_IN_ALL {
            tracing::debug!(%peer, in_all, "too many questions are under way");
            return self.deny(asked.channel, Denial::Busy);
        }
        visitor.under_way += 1;
        let task = self.tasks.spawn(answer(Arc::clone(&self.service), peer, question));
        self.swarm.behaviour_mut().gate.asked(asked.connection);
        self.asked.insert(task.id(), asked);
    }

    fn on_answer(&mut self, ended: Result<(Id, Option<Vec<u8>>), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(Asked { peer, connection, channel }) = self.asked.remove(&id) else { return };
        self.swarm.behaviour_mut().gate.answered(connection);
        match ended {
            Ok((_, Some(answer))) => self.send(channel, answer),
            Ok((_, None)) => drop(channel),
            Err(error) => {
                tracing::error!(%peer, %error, "a question broke its answer");
                self.deny(channel, Denial::Busy);
            }
        }
        if let Some(visitor) = self.peers.get_mut(&peer) {
            visitor.under_way -= 1;
        }
        self.part_with(peer);
    }

    /// Tells the service where a peer has neither a connection nor a question left.
    fn part_with(&mut self, peer: PeerId) {
        let left = |visitor: &Visitor| !visitor.connected && visitor.under_way == 0;
        if self.peers.get(&peer).is_some_and(left) {
            self.peers.remove(&peer);
            if catch_unwind(AssertUnwindSafe(|| self.service.gone(peer))).is_err() {
                tracing::error!(%peer, "the end of a peer's last connection broke the service");
            }
        }
    }

    fn deny(&mut self, channel: ResponseChannel<Vec<u8>>, denial: Denial) {
        if let Ok(answer) = encode(&Response::Denied(denial)) {
            self.send(channel, answer);
        }
    }

    fn send(&mut self, channel: ResponseChannel<Vec<u8>>, answer: Vec<u8>) {
        if self.swarm.behaviour_mut().questions.send_response(channel, answer).is_err() {
            tracing::debug!("nobody waits for an answer any more");
        }
    }
}

/// The answer to a question, or nothing where it does not fit into a message.
async fn answer(service: Arc<dyn JobService>, peer: PeerId, question: Vec<u8>) -> Option<Vec<u8>> {
    let response = match decode(&question) {
        Ok(request) => {
            drop(question);
            service.answer(peer, request).await
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "a question is not understood");
            Response::Denied(Denial::Malformed)
        }
    };
    let encoded = encode(&response);
    encoded.inspect_err(|error| tracing::error!(%peer, %error, "an answer cannot be sent")).ok()
}
