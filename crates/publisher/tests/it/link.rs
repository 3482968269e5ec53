//! A peer network in memory that loses, repeats, shuffles and cuts on demand.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use roadstead_core::{
    ports::{JobLink, LinkError},
    protocol::{Denial, Request, Response},
};
use roadstead_types::{Endpoint, PeerId};
use tokio_util::sync::CancellationToken;

use crate::host::Host;

/// What goes wrong with one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It does not arrive.
    LoseQuestion,
    /// It arrives, and the answer does not.
    LoseAnswer,
    /// It arrives twice.
    Double,
    /// The answer before comes again instead.
    Stale,
    /// The receipts come backwards.
    Reorder,
    /// Only the first receipt comes.
    Cut,
    /// There never is an answer.
    Hang,
    /// It is denied.
    Deny(Denial),
}

/// Ends an agent in the middle of its work.
#[derive(Clone, Debug)]
pub(crate) struct Trap {
    pub(crate) at: Point,
    /// At the how manieth time.
    pub(crate) nth: u32,
    pub(crate) stop: CancellationToken,
}

/// Where a trap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A question is about to leave.
    BeforeQuestion,
    /// A question was answered, and the answer has not arrived.
    BeforeAnswer,
    /// A bill was signed, and not written down.
    AfterSignature,
}

#[derive(Default)]
pub(crate) struct Traps(Mutex<Option<Trap>>);

impl Traps {
    pub(crate) fn set(&self, trap: Option<Trap>) {
        *self.0.lock().unwrap() = trap;
    }

    /// Whoever comes by here when the trap shuts goes no further.
    pub(crate) async fn pass(&self, at: Point) {
        let is_shut = {
            let mut trap = self.0.lock().unwrap();
            match &mut *trap {
                Some(trap) if trap.at == at => {
                    trap.nth = trap.nth.saturating_sub(1);
                    if trap.nth == 0 {
                        trap.stop.cancel();
                    }
                    trap.nth == 0
                }
                _ => false,
            }
        };
        if is_shut {
            std::future::pending::<()>().await;
        }
    }
}

pub(crate) struct FakeLink {
    peer: PeerId,
    hosts: Mutex<BTreeMap<PeerId, Arc<Host>>>,
    faults: Mutex<VecDeque<Fault>>,
    last: Mutex<Option<Response>>,
    pub(crate) traps: Arc<Traps>,
}

impl FakeLink {
    pub(crate) fn new(peer: PeerId, traps: Arc<Traps>) -> Self {
        let (hosts, faults, last) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { peer, hosts, faults, last, traps }
    }

    pub(crate) fn add(&self, host: Arc<Host>) {
        self.hosts.lock().unwrap().insert(host.endpoint().peer(), host);
    }

    /// What goes wrong with the next questions that are no greetings.
    pub(crate) fn spoil(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    fn next_fault(&self, request: &Request) -> Fault {
        if matches!(request, Request::Hello(_)) {
            return Fault::None;
        }
        self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None)
    }
}

fn no_answer(endpoint: &Endpoint) -> LinkError {
    LinkError::NoAnswer { endpoint: endpoint.to_string(), source: "the test lost it".into() }
}

#[async_trait]
impl JobLink for FakeLink {
    fn peer(&self) -> PeerId {
        self.peer
    }

    async fn ask(&self, endpoint: &Endpoint, request: Request) -> Result<Response, LinkError> {
        // As a real one, it is never there at once.
        tokio::task::yield_now().await;
        self.traps.pass(Point::BeforeQuestion).await;
        let host = self.hosts.lock().unwrap().get(&endpoint.peer()).cloned();
        let host = host.filter(|host| host.endpoint() == *endpoint && host.is_up());
        let Some(host) = host else {
            let source = "nobody listens there".into();
            return Err(LinkError::Unreachable { endpoint: endpoint.to_string(), source });
        };
        let is_sync = matches!(request, Request::Sync(_));
        let fault = self.next_fault(&request);
        match fault {
            Fault::LoseQuestion => return Err(no_answer(endpoint)),
            Fault::Hang => std::future::pending().await,
            Fault::Deny(denial) => return Ok(Response::Denied(denial)),
            Fault::Stale if is_sync => {
                if let Some(last) = self.last.lock().unwrap().clone() {
                    return Ok(last);
                }
            }
            Fault::Double => {
                host.answer(self.peer, request.clone()).await;
            }
            _ => {}
        }
        let mut response = host.answer(self.peer, request).await;
        self.traps.pass(Point::BeforeAnswer).await;
        if is_sync {
            *self.last.lock().unwrap() = Some(response.clone());
        }
        if let Response::State(state) = &mut response {
            match fault {
                Fault::LoseAnswer => return Err(no_answer(endpoint)),
                Fault::Reorder => state.receipts.reverse(),
                Fault::Cut => state.receipts.truncate(1),
                _ => {}
            }
        }
        Ok(response)
    }
}
