//! The peer network, as both ends of the job protocol see it.

use std::error::Error;

use async_trait::async_trait;
use roadstead_types::{Endpoint, PeerId};

use crate::protocol::{Request, Response};

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody can be reached there, or it is somebody else.
    #[error("{endpoint} cannot be reached")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the network said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It was reached and gave no answer that could be read.
    #[error("{endpoint} gave no answer")]
    NoAnswer {
        /// Where.
        endpoint: String,
        /// What the network said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Asks providers.
#[async_trait]
pub trait JobLink: Send + Sync {
    /// The peer that providers see.
    fn peer(&self) -> PeerId;

    /// Asks, over the connection that there is or over a new one. An answer comes from the peer of the endpoint.
    async fn ask(&self, endpoint: &Endpoint, request: Request) -> Result<Response, LinkError>;
}

/// Answers publishers and agents.
#[async_trait]
pub trait JobService: Send + Sync {
    /// Answers what a peer asks, which its handshake has shown to be that peer.
    async fn answer(&self, peer: PeerId, request: Request) -> Response;

    /// The last connection of a peer is gone.
    fn gone(&self, peer: PeerId);
}
