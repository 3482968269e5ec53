//! What both ends of the network have in common: the transport, the protocol and the task that drives them.

use std::time::Duration;

use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder,
    identity::Keypair,
    noise,
    request_response::{Behaviour, Config, ProtocolSupport},
    swarm::NetworkBehaviour,
    tcp, yamux,
};
use roadstead_core::protocol::PROTOCOL;
use roadstead_crypto::NodeIdentity;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::codec::MessageCodec;

/// From the first packet of a connection to the end of its handshake.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(10);

/// From a question to the last byte of its answer; a provider may take its time with a question, see
/// [`roadstead_core::protocol::HOLD`].
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// How long a connection stays open for the next question.
const IDLE_TIME: Duration = Duration::from_secs(120);

/// The most questions of one peer that a provider has under way.
pub(crate) const MAX_PER_PEER: usize = 32;

/// The most questions under way on one connection.
const MAX_QUESTIONS: usize = 64;

/// The most streams of one connection, open or still being taken down.
const MAX_STREAMS: usize = 96;

/// The protocol, for the end that asks or for the one that answers.
pub(crate) fn job_protocol(support: ProtocolSupport) -> Behaviour<MessageCodec> {
    let config = Config::default()
        .with_request_timeout(ANSWER_TIME)
        .with_max_concurrent_streams(MAX_QUESTIONS);
    Behaviour::new([(StreamProtocol::new(PROTOCOL), support)], config)
}

/// A node of the network that neither listens nor dials yet.
pub(crate) fn swarm<B: NetworkBehaviour>(
    identity: &NodeIdentity,
    behaviour: B,
) -> Result<Swarm<B>, noise::Error> {
    let keypair = Keypair::from_protobuf_encoding(&identity.to_bytes());
    let keypair = keypair.expect("an identity is written in libp2p's own form");
    let mut streams = yamux::Config::default();
    streams.set_max_num_streams(MAX_STREAMS);
    let Ok(builder) = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, || streams)?
        .with_behaviour(|_| behaviour);
    Ok(builder
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIME)
                .with_max_negotiating_inbound_streams(MAX_QUESTIONS)
        })
        .with_connection_timeout(CONNECT_TIME)
        .build())
}

/// The task that drives a node. It ends with the value at the latest.
#[derive(Debug)]
pub(crate) struct Driver {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Driver {
    /// Starts the task that `drive` makes; it has to end when the token is cancelled.
    pub(crate) fn start<F>(drive: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(drive(stop.clone()));
        tasks.close();
        Self { stop, tasks }
    }

    /// Ends the task and waits for its end.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
