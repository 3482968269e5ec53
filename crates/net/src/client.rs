//! The end that asks.
//!
//! ```text
//!   provider: unknown ──question──> dialling ──handshake──> connected ──closed──> unknown
//!                                      │  its questions wait    its questions are under way, the rest wait
//!                                      └──failed──> unknown: what waited for this address is answered so
//! ```
//!
//! A question that its connection took with it is asked once more over a new one, since each may be repeated at will.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    fmt, io,
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use libp2p::{
    Swarm,
    request_response::{self, Event, Message, OutboundFailure, OutboundRequestId, ProtocolSupport},
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use multiaddr::Multiaddr;
use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Request, Response},
};
use roadstead_crypto::NodeIdentity;
use roadstead_types::{Endpoint, PeerId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::resolve,
    codec::{MessageCodec, decode, encode},
    failure::{Failure, Stopped, Unreached},
    network::{Driver, MAX_PER_PEER, job_protocol, swarm},
};

/// The most questions that wait or are under way. More wait for their turn.
const MAX_QUESTIONS: usize = 1024;

/// The most questions under way to one provider; more wait for their turn. Below what a provider bears of one peer: there
/// a question may last a little longer, and one that was given up does.
const MAX_PER_PROVIDER: usize = MAX_PER_PEER / 4 * 3;

/// Questions that the task has not taken up yet.
const QUEUE: usize = 16;

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The handshake cannot be prepared.
    #[error("the identity cannot be used on the peer network")]
    Identity(#[source] Box<dyn Error + Send + Sync>),
}

/// Asks providers, over one connection to each, until it is shut down or dropped.
pub struct JobClient {
    peer: PeerId,
    places: Arc<Semaphore>,
    questions: mpsc::Sender<Question>,
    driver: Driver,
}

type Answer = Result<Vec<u8>, Failure>;

struct Question {
    endpoint: Endpoint,
    message: Vec<u8>,
    reply: oneshot::Sender<Answer>,
    /// Whether a connection has taken it along already.
    again: bool,
    /// Held until there is an answer, even where nobody waits for it.
    _place: OwnedSemaphorePermit,
}

impl JobClient {
    /// Starts without any connection, within a runtime.
    pub fn start(identity: &NodeIdentity) -> Result<Self, ClientError> {
        let swarm = swarm(identity, job_protocol(ProtocolSupport::Outbound))
            .map_err(|error| ClientError::Identity(error.into()))?;
        let (questions, incoming) = mpsc::channel(QUEUE);
        let asking = Asking {
            swarm,
            incoming,
            providers: HashMap::new(),
            under_way: HashMap::new(),
            lookups: JoinSet::new(),
        };
        Ok(Self {
            peer: identity.peer_id(),
            places: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            questions,
            driver: Driver::start(|stop| asking.run(stop)),
        })
    }

    /// Closes all connections. Questions under way have no answer, nor has any after them.
    pub async fn shutdown(&self) {
        self.driver.stop().await;
    }

    async fn answer(&self, endpoint: &Endpoint, request: &Request) -> Result<Response, Failure> {
        let message = encode(request)?;
        let place = Arc::clone(&self.places).acquire_owned().await?;
        let (reply, answer) = oneshot::channel();
        let endpoint = endpoint.clone();
        let question = Question { endpoint, message, reply, again: false, _place: place };
        self.questions.send(question).await.map_err(|_| Stopped)?;
        let answer = answer.await.map_err(|_| Stopped)??;
        Ok(decode(&answer)?)
    }
}

#[async_trait]
impl JobLink for JobClient {
    fn peer(&self) -> PeerId {
        self.peer
    }

    async fn ask(&self, endpoint: &Endpoint, request: Request) -> Result<Response, LinkError> {
        self.answer(endpoint, &request).await.map_err(|failure| {
            let endpoint = endpoint.to_string();
            match failure {
                Failure::Unreachable(source) => {
                    LinkError::Unreachable { endpoint, source: Box::new(source) }
                }
                Failure::NoAnswer(source) => LinkError::NoAnswer { endpoint, source },
            }
        })
    }
}

impl fmt::Debug for JobClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JobClient").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Provider {
    waiting: VecDeque<Question>,
    under_way: usize,
    dialling: Option<Endpoint>,
}

/// The task of a client.
struct Asking {
    swarm: Swarm<request_response::Behaviour<MessageCodec>>,
    incoming: mpsc::Receiver<Question>,
    providers: HashMap<PeerId, Provider>,
    under_way: HashMap<OutboundRequestId, Question>,
    lookups: JoinSet<(PeerId, io::Result<Vec<Multiaddr>>)>,
}

impl Asking {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(question) = self.incoming.recv() => {
                    let peer = question.endpoint.peer();
                    self.providers.entry(peer).or_default().waiting.push_back(question);
                    self.advance(peer);
                }
                Some(Ok((peer, found))) = self.lookups.join_next() => self.dial(peer, found),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<Event<Vec<u8>, Vec<u8>>>) {
        match event {
            SwarmEvent::Behaviour(Event::Message {
                peer,
                message: Message::Response { request_id, response },
                ..
            }) => self.ended(peer, request_id, Ok(response)),
            SwarmEvent::Behaviour(Event::OutboundFailure { peer, request_id, error, .. }) => {
                self.ended(peer, request_id, Err(error));
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                if let Some(provider) = self.providers.get_mut(&peer_id) {
                    provider.dialling = None;
                }
                self.advance(peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.advance(peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                self.unreachable(peer, error.into());
            }
            _ => {}
        }
    }

    /// Does for a provider what can be done now: asks what waits, or dials.
    fn advance(&mut self, peer: PeerId) {
        let Some(provider) = self.providers.get_mut(&peer) else { return };
        provider.waiting.retain(|question| !question.reply.is_closed());
        let Some(first) = provider.waiting.front() else {
            if provider.under_way == 0 && provider.dialling.is_none() {
                self.providers.remove(&peer);
            }
            return;
        };
        if !self.swarm.is_connected(&peer) {
            if provider.dialling.is_none() {
                let endpoint = first.endpoint.clone();
                provider.dialling = Some(endpoint.clone());
                self.lookups.spawn(async move { (peer, resolve(endpoint.address()).await) });
            }
            return;
        }
        while provider.under_way < MAX_PER_PROVIDER
            && let Some(question) = provider.waiting.pop_front()
        {
            provider.under_way += 1;
            let message = question.message.clone();
            let id = self.swarm.behaviour_mut().send_request(&peer, message);
            self.under_way.insert(id, question);
        }
    }

    fn dial(&mut self, peer: PeerId, found: io::Result<Vec<Multiaddr>>) {
        let dialled = match found {
            Ok(addresses) => {
                let options = DialOpts::peer_id(peer).addresses(addresses).build();
                self.swarm.dial(options).map_err(Unreached::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = dialled {
            self.unreachable(peer, error);
        }
    }

    fn ended(
        &mut self,
        peer: PeerId,
        id: OutboundRequestId,
        result: Result<Vec<u8>, OutboundFailure>,
    ) {
        let Some(mut question) = self.under_way.remove(&id) else { return };
        let provider = self.providers.entry(peer).or_default();
        provider.under_way = provider.under_way.saturating_sub(1);
        match result {
            Err(OutboundFailure::ConnectionClosed) if !question.again => {
                question.again = true;
                provider.waiting.push_back(question);
            }
            result => {
                // Longer than a provider keeps a question: its end of the connection is probably gone.
                if matches!(result, Err(OutboundFailure::Timeout)) {
                    let _ = self.swarm.disconnect_peer_id(peer);
                }
                let _ = question.reply.send(result.map_err(Failure::from));
            }
        }
        self.advance(peer);
    }

    /// Answers what waited for the address that was dialled; what waits for another one of the peer is dialled next.
    fn unreachable(&mut self, peer: PeerId, error: Unreached) {
        let Some(provider) = self.providers.get_mut(&peer) else { return };
        let Some(dialled) = provider.dialling.take() else { return };
        let failed: VecDeque<Question>;
        (failed, provider.waiting) =
            provider.waiting.drain(..).partition(|question| question.endpoint == dialled);
        let error = Arc::new(error);
        for question in failed {
            let failure = Failure::Unreachable(Arc::clone(&error));
            let _ = question.reply.send(Err(failure));
        }
        self.advance(peer);
    }
}
