//! Why a question has no answer, in words for people.

use std::{error::Error, io, sync::Arc};

use libp2p::{TransportError, swarm::DialError};
use roadstead_types::PeerId;

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What failed one dial fails all that waited for it.
    Unreachable(Arc<Unreached>),
    NoAnswer(Box<dyn Error + Send + Sync>),
}

/// Nobody is asked any more.
#[derive(Debug, thiserror::Error)]
#[error("the peer network was shut down")]
pub(crate) struct Stopped;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreached {
    #[error("its name cannot be looked up")]
    Name(#[from] io::Error),
    #[error("the peer there is {0}")]
    SomebodyElse(PeerId),
    #[error("addresses of this kind cannot be dialled")]
    Unsupported,
    #[error("{0}")]
    Network(String),
}

impl From<DialError> for Unreached {
    fn from(error: DialError) -> Self {
        match error {
            DialError::WrongPeerId { obtained, .. } => Self::SomebodyElse(obtained),
            // A name may have several addresses; the reason of one has to do.
            DialError::Transport(mut tried) => match tried.pop() {
                Some((_, TransportError::MultiaddrNotSupported(_))) => Self::Unsupported,
                Some((_, TransportError::Other(error))) => Self::Network(innermost(&error)),
                None => Self::Network("nothing could be dialled".into()),
            },
            other => Self::Network(innermost(&other)),
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::NoAnswer(error.into())
    }
}

/// The transport's own layers say nothing, or repeat what is below them.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
