//! A peer that speaks the protocol's frames, and whatever it likes in them.

use std::io;

use futures_util::{
    StreamExt,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder,
    identity::Keypair,
    noise,
    request_response::{
        Behaviour, Codec, Config, Event, Message, OutboundFailure, ProtocolSupport,
    },
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use roadstead_core::protocol::PROTOCOL;
use roadstead_types::Endpoint;

use crate::fixture::{any, patiently};

/// Bytes up to the end of the stream, as many as there are.
#[derive(Clone, Default)]
pub(crate) struct AnyBytes;

impl Codec for AnyBytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map(|_| bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read_request(protocol, stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        stream.write_all(&bytes).await
    }
}

pub(crate) type Stranger = Swarm<Behaviour<AnyBytes>>;

pub(crate) fn stranger() -> Stranger {
    SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            let protocol = StreamProtocol::new(PROTOCOL);
            Behaviour::new([(protocol, ProtocolSupport::Full)], Config::default())
        })
        .unwrap()
        .build()
}

/// Asks with these bytes.
pub(crate) async fn ask(
    stranger: &mut Stranger,
    endpoint: &Endpoint,
    question: Vec<u8>,
) -> Result<Vec<u8>, OutboundFailure> {
    let peer = endpoint.peer();
    if !stranger.is_connected(&peer) {
        let options = DialOpts::peer_id(peer).addresses(vec![endpoint.address().clone()]);
        stranger.dial(options.build()).unwrap();
    }
    let asked = stranger.behaviour_mut().send_request(&peer, question);
    patiently(async {
        loop {
            match stranger.select_next_some().await {
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Response { request_id, response },
                    ..
                }) if request_id == asked => return Ok(response),
                SwarmEvent::Behaviour(Event::OutboundFailure { request_id, error, .. })
                    if request_id == asked =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
    })
    .await
}

/// One that listens, and where.
pub(crate) async fn listening() -> (Stranger, Endpoint) {
    let mut stranger = stranger();
    stranger.listen_on(any()).unwrap();
    let address = patiently(async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = stranger.select_next_some().await {
                return address;
            }
        }
    })
    .await;
    let address = address.with_p2p(*stranger.local_peer_id()).unwrap();
    (stranger, Endpoint::new(address).unwrap())
}

/// Answers every question with these bytes.
pub(crate) async fn answering(answer: &[u8]) -> Endpoint {
    let (mut stranger, endpoint) = listening().await;
    let answer = answer.to_vec();
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(Event::Message {
                message: Message::Request { channel, .. },
                ..
            }) = stranger.select_next_some().await
            {
                stranger.behaviour_mut().send_response(channel, answer.clone()).unwrap();
            }
        }
    });
    endpoint
}
