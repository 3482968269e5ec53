//! A line to one provider: where it is, and the session under which it is spoken to.
//!
//! ```text
//!  nowhere ── registry ──> found ── Hello, Welcome ──> open ── question, answer ──> open
//!     ^                      ^                          │
//!     │                      └── denied, soon expired ──┤
//!     └──────────────── no answer ──────────────────────┘
//! ```
//!
//! Nothing of it is durable: a new process asks the registry and opens another session.

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use roadstead_abi::session_digest;
use roadstead_core::{
    MAX_AHEAD, MAX_SESSION,
    ports::{ChainError, ChainReader, JobLink, LinkError, SignError, Signer},
    protocol::{Denial, MAX_RECEIPTS, Request, Response, State},
};
use roadstead_types::{Domain, Endpoint, JobId, Seconds, Session, SignedSession, Timestamp};

use crate::registry::registration_of;

/// How long a session is asked for: less than the most, because the provider's clock may be behind ours.
const VALIDITY: Seconds = Seconds(MAX_SESSION.0 - MAX_AHEAD.0);

/// A session that ends sooner than this is renewed.
const RENEWAL: Seconds = Seconds(300);

/// Why a provider did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// Nobody knows how to reach it.
    #[error("{provider} is not registered, or with an endpoint that nobody can use")]
    NotRegistered {
        /// Who.
        provider: Address,
    },
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// It was not reached, or gave no answer.
    #[error("the provider does not answer")]
    Link(#[from] LinkError),
    /// It said no.
    #[error("the provider refuses")]
    Denied(#[from] Denial),
    /// No session was signed.
    #[error("no session can be opened")]
    Sign(#[from] SignError),
    /// An answer that no correct provider gives.
    #[error("the provider's answer makes no sense: {reason}")]
    Senseless {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The account that speaks, and what it speaks through.
#[derive(Clone)]
pub(crate) struct Speaker {
    pub(crate) link: Arc<dyn JobLink>,
    pub(crate) reader: Arc<dyn ChainReader>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) domain: Domain,
}

/// Where a provider is.
async fn endpoint_of(reader: &dyn ChainReader, provider: Address) -> Result<Endpoint, TalkError> {
    let entry = registration_of(reader, provider).await?;
    Ok(entry.ok_or(TalkError::NotRegistered { provider })?.endpoint)
}

/// A line to one provider.
pub(crate) struct Line {
    speaker: Speaker,
    provider: Address,
    endpoint: Option<Endpoint>,
    /// Whether the registry is to be asked again: the provider may have moved.
    is_stale: bool,
    /// The end of the session that stands.
    expiry: Option<Timestamp>,
}

impl Line {
    pub(crate) const fn new(speaker: Speaker, provider: Address) -> Self {
        Self { speaker, provider, endpoint: None, is_stale: false, expiry: None }
    }

    /// Asks about a job, under a session that is opened where none stands. May be dropped at any time: what was asked
    /// can be asked again.
    pub(crate) async fn ask(
        &mut self,
        now: Timestamp,
        job: JobId,
        request: Request,
    ) -> Result<State, TalkError> {
        let endpoint = self.find().await?;
        let stood = self.expiry.is_some_and(|expiry| expiry > now.after(RENEWAL));
        if !stood {
            self.open(&endpoint, now).await?;
        }
        let mut response = self.send(&endpoint, request.clone()).await?;
        // The session may be gone with a connection, or with an earlier life of the provider.
        if stood && matches!(&response, Response::Denied(denial) if *denial != Denial::Busy) {
            self.open(&endpoint, now).await?;
            response = self.send(&endpoint, request).await?;
        }
        match response {
            Response::State(state) if state.job != job => Err(another("the job is another one")),
            Response::State(state) if state.receipts.len() > MAX_RECEIPTS => {
                Err(another("there are more receipts than fit into a message"))
            }
            Response::State(state) => Ok(*state),
            Response::Denied(Denial::Busy) => Err(Denial::Busy.into()),
            Response::Denied(denial) => {
                self.forget();
                Err(denial.into())
            }
            Response::Profile(_) | Response::Welcome => {
                Err(another("a state of the job was asked for"))
            }
        }
    }

    async fn find(&mut self) -> Result<Endpoint, TalkError> {
        let found = match &self.endpoint {
            Some(endpoint) if !self.is_stale => return Ok(endpoint.clone()),
            Some(endpoint) => match endpoint_of(&*self.speaker.reader, self.provider).await {
                // Without the chain, where it was is the best guess.
                Err(TalkError::Read(_)) => return Ok(endpoint.clone()),
                found => found?,
            },
            None => endpoint_of(&*self.speaker.reader, self.provider).await?,
        };
        self.is_stale = false;
        Ok(self.endpoint.insert(found).clone())
    }

    async fn open(&mut self, endpoint: &Endpoint, now: Timestamp) -> Result<(), TalkError> {
        self.expiry = None;
        let mut nonce = B256::ZERO;
        getrandom::fill(nonce.as_mut_slice()).expect("the system has a source of randomness");
        let session = Session {
            subject: self.speaker.signer.address(),
            peer: self.speaker.link.peer(),
            provider: self.provider,
            expiry: now.after(VALIDITY),
            nonce,
        };
        let digest = session_digest(&self.speaker.domain, &session);
        let signature = self.speaker.signer.sign(&digest).await?;
        let hello = Request::Hello(SignedSession { session, signature });
        match self.send(endpoint, hello).await? {
            Response::Welcome => {
                self.expiry = Some(session.expiry);
                Ok(())
            }
            Response::Denied(denial) => {
                self.is_stale = true;
                Err(denial.into())
            }
            Response::Profile(_) | Response::State(_) => Err(another("a session was to be opened")),
        }
    }

    async fn send(&mut self, endpoint: &Endpoint, request: Request) -> Result<Response, TalkError> {
        let answer = self.speaker.link.ask(endpoint, request).await;
        if answer.is_err() {
            self.forget();
        }
        Ok(answer?)
    }

    /// Counts on nothing any more: the provider may be elsewhere, and its session gone.
    pub(crate) const fn forget(&mut self) {
        self.is_stale = true;
        self.expiry = None;
    }
}

fn another(reason: &'static str) -> TalkError {
    TalkError::Senseless { reason }
}
