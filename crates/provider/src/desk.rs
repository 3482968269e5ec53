//! The provider's end of the job protocol: who may ask, and what they are told.
//!
//! ```text
//!  Hello ── signed for this peer, provider, market and time; nonce new ──> the peer speaks for the account
//!  Sync, Restore, Order ── one of the peer's accounts may ──> State
//! ```
//!
//! Sessions are in memory only: after a restart each peer says hello again. How many a peer, and all peers, may have is
//! bounded; the oldest give way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use roadstead_abi::{receipt_digest, recover};
use roadstead_core::{
    JobAccount, Verb, authorise, check_session,
    ports::JobService,
    protocol::{
        Denial, HOLD, JobPhase, JobSync, MAX_RECEIPTS, Order, OrderKind, Request, Response,
        Restore, State,
    },
    with_causes,
};
use roadstead_types::{JobId, JobStatus, PeerId, SignedSession, Timestamp, Voucher};
use tokio::time::timeout;

use crate::{
    deploy::Host,
    event::ProviderEvent,
    ledger::{Entry, Facts, Gap, LedgerError, RestoreError},
};

/// The most accounts that one peer speaks for.
const MAX_SESSIONS: usize = 16;

/// The most peers with sessions.
const MAX_PEERS: usize = 4_096;

/// Answers publishers and agents.
pub(crate) struct Desk {
    host: Arc<Host>,
    provider: Address,
    /// The JSON of the profile whose digest is registered.
    profile: String,
    sessions: Mutex<Sessions>,
}

#[derive(Default)]
struct Sessions {
    peers: HashMap<PeerId, Vec<SignedSession>>,
    /// Nonces of sessions that would still be valid, with their expiry.
    nonces: HashMap<B256, Timestamp>,
}

impl Sessions {
    /// Takes in a session that was checked.
    fn add(&mut self, signed: SignedSession, now: Timestamp) -> Result<(), Denial> {
        let session = &signed.session;
        let held = self.peers.get(&session.peer);
        if held.is_some_and(|held| held.contains(&signed)) {
            return Ok(());
        }
        if self.nonces.len() >= MAX_PEERS * MAX_SESSIONS {
            self.nonces.retain(|_, expiry| *expiry > now);
        }
        let is_full = self.nonces.len() >= MAX_PEERS * MAX_SESSIONS
            || (held.is_none() && self.peers.len() >= MAX_PEERS);
        if is_full {
            return Err(Denial::Busy);
        }
        if self.nonces.insert(session.nonce, session.expiry).is_some_and(|expiry| expiry > now) {
            return Err(Denial::Nonce);
        }
        let held = self.peers.entry(session.peer).or_default();
        held.retain(|other| other.session.subject != session.subject && other.session.expiry > now);
        if held.len() >= MAX_SESSIONS {
            held.remove(0);
        }
        held.push(signed);
        Ok(())
    }

    /// Whom a peer speaks for now.
    fn subjects(&self, peer: PeerId, now: Timestamp) -> Vec<Address> {
        let held = self.peers.get(&peer).into_iter().flatten();
        held.filter(|signed| signed.session.expiry > now)
            .map(|signed| signed.session.subject)
            .collect()
    }
}

impl Desk {
    pub(crate) fn new(host: Arc<Host>, provider: Address, profile: String) -> Self {
        Self { host, provider, profile, sessions: Mutex::default() }
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        // Whole after each statement, and nobody panics while holding it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, peer: PeerId, signed: SignedSession) -> Result<Response, Denial> {
        let now = self.host.ledger.now().ok_or(Denial::Busy)?;
        check_session(&signed, &self.host.ledger.domain, self.provider, peer, now)?;
        self.sessions().add(signed, now)?;
        Ok(Response::Welcome)
    }

    /// The job, if the peer speaks for somebody who may do this to it.
    fn entry(&self, peer: PeerId, verb: Verb, job: JobId) -> Result<Arc<Entry>, Denial> {
        let now = self.host.ledger.now().ok_or(Denial::Busy)?;
        let subjects = self.sessions().subjects(peer, now);
        if subjects.is_empty() {
            return Err(Denial::Expired);
        }
        let entry = self.host.ledger.entry(job).ok_or(Denial::Forbidden)?;
        let terms = entry.facts().terms;
        if subjects.into_iter().any(|subject| authorise(subject, verb, &terms)) {
            Ok(entry)
        } else {
            Err(Denial::Forbidden)
        }
    }

    async fn sync(&self, peer: PeerId, asked: JobSync) -> Result<Response, Denial> {
        let entry = self.entry(peer, Verb::Sync, asked.job)?;
        let mut revisions = entry.revisions();
        if let Some(voucher) = &asked.voucher {
            self.take(&entry, voucher).await.map_err(busy(asked.job))?;
        }
        entry.note(|facts| {
            std::mem::replace(&mut facts.refusal, asked.refusal.clone()) != asked.refusal
        });
        self.compare(&entry, &asked);
        let is_known = asked.known == Some(*revisions.borrow_and_update());
        let mut state = self.state(&entry, &asked).await.map_err(busy(asked.job))?;
        if is_known && state.receipts.is_empty() {
            // Cancel-safe: a change that is missed here is in the state that is made next.
            let _ = timeout(Duration::from(HOLD), revisions.changed()).await;
            state = self.state(&entry, &asked).await.map_err(busy(asked.job))?;
        }
        Ok(Response::State(Box::new(state)))
    }

    /// Takes in a voucher. One that counts for nothing is nobody's fault but its sender's, who sees it in `acked`.
    async fn take(&self, entry: &Entry, voucher: &Voucher) -> Result<(), LedgerError> {
        let job = entry.job;
        match self.host.ledger.accept(entry, voucher).await? {
            Ok(true) => {
                let accepted = voucher.bill.cumulative;
                self.host.tell(ProviderEvent::VoucherAccepted { job, accepted });
            }
            Ok(false) => {}
            Err(problem) => tracing::warn!(%job, %problem, "a voucher counts for nothing"),
        }
        Ok(())
    }

    /// An agent that holds more receipts than the journal says that the journal was lost.
    fn compare(&self, entry: &Entry, asked: &JobSync) {
        let Some(now) = self.host.ledger.now() else { return };
        let mut is_new = false;
        entry.note(|facts| {
            let Some(account) = &facts.account else { return false };
            let next = account.head().map_or(0, |head| head.seq.saturating_add(1));
            let is_ahead = asked.head.is_some_and(|(seq, _)| seq >= next);
            is_new = is_ahead && facts.gap.is_none();
            if is_new {
                let tariff = *account.tariff();
                facts.gap = Some(Gap { tariff, since: now });
            } else if !is_ahead {
                facts.gap = None;
            }
            is_new
        });
        if is_new {
            self.host.tell(ProviderEvent::ReceiptsLost { job: entry.job });
        }
    }

    async fn state(&self, entry: &Entry, asked: &JobSync) -> Result<State, LedgerError> {
        let revision = *entry.revisions().borrow();
        let facts = entry.facts();
        let from = asked.head.map_or(0, |(seq, _)| seq.saturating_add(1));
        let receipts = match &facts.gap {
            None => {
                let journal = &self.host.ledger.journal;
                journal.receipts(entry.job, from, MAX_RECEIPTS.saturating_add(1)).await?
            }
            Some(_) => Vec::new(),
        };
        Ok(describe(entry.job, facts, revision, receipts, self.host.ledger.now()))
    }

    async fn restore(&self, peer: PeerId, restore: Restore) -> Result<Response, Denial> {
        let job = restore.job;
        let entry = self.entry(peer, Verb::Restore, job)?;
        if restore.receipts.len() > MAX_RECEIPTS {
            return Err(Denial::Malformed);
        }
        let domain = &self.host.ledger.domain;
        let own = [self.provider, self.host.ports.signer.address()];
        let is_own = |signed: &roadstead_types::SignedReceipt| {
            let signer = recover(&receipt_digest(domain, &signed.receipt), &signed.signature);
            signer.is_some_and(|signer| own.contains(&signer))
        };
        let restored =
            self.host.ledger.restore(&entry, &restore.receipts, !restore.more, is_own).await;
        match restored {
            Ok(true) => self.host.tell(ProviderEvent::ReceiptsRestored { job }),
            Ok(false) | Err(RestoreError::NotWanted) => {}
            Err(error @ (RestoreError::Broken(_) | RestoreError::Short)) => {
                tracing::warn!(%job, %error, "receipts that were given back are refused");
                return Err(Denial::Malformed);
            }
            Err(RestoreError::Ledger(error)) => return Err(busy(job)(error)),
        }
        let is_whole = entry.facts().gap.is_none();
        if let (Some(voucher), true) = (&restore.voucher, is_whole) {
            self.take(&entry, voucher).await.map_err(busy(job))?;
        }
        let head = restore
            .receipts
            .last()
            .map(|signed| (signed.receipt.seq, roadstead_abi::receipt_root(&signed.receipt)));
        let asked = JobSync { job, head, voucher: None, refusal: None, known: None };
        let state = self.state(&entry, &asked).await.map_err(busy(job))?;
        Ok(Response::State(Box::new(state)))
    }

    async fn order(&self, peer: PeerId, order: Order) -> Result<Response, Denial> {
        let Order { job, id, kind: OrderKind::Close } = order;
        let entry = self.entry(peer, Verb::Order, job)?;
        let now = self.host.ledger.now().ok_or(Denial::Busy)?;
        let journal = &self.host.ledger.journal;
        let is_new = journal.take_order(job, id).await.map_err(|error| busy(job)(error.into()))?;
        let end = self.host.ledger.step(&entry, |account, _| {
            account.end(now);
            None
        });
        end.await.map_err(busy(job))?;
        // Without an account there is nothing to bill, and its money goes back at once.
        entry.note(|facts| {
            facts.is_ordered_away |= facts.account.is_none();
            true
        });
        if is_new {
            self.host.tell(ProviderEvent::Ordered { job });
        }
        let asked = JobSync { job, head: None, voucher: None, refusal: None, known: None };
        let mut state = self.state(&entry, &asked).await.map_err(busy(job))?;
        state.more |= !state.receipts.is_empty();
        state.receipts.clear();
        Ok(Response::State(Box::new(state)))
    }
}

#[async_trait]
impl JobService for Desk {
    async fn answer(&self, peer: PeerId, request: Request) -> Response {
        let answered = match request {
            Request::Profile => Ok(Response::Profile(self.profile.clone())),
            Request::Hello(session) => self.hello(peer, session),
            Request::Sync(asked) => self.sync(peer, asked).await,
            Request::Restore(restore) => self.restore(peer, restore).await,
            Request::Order(order) => self.order(peer, order).await,
        };
        answered.unwrap_or_else(Response::Denied)
    }

    fn gone(&self, peer: PeerId) {
        self.sessions().peers.remove(&peer);
    }
}

fn busy(job: JobId) -> impl Fn(LedgerError) -> Denial {
    move |error| {
        let error = with_causes(&error);
        tracing::error!(%job, error, "a question was not answered");
        Denial::Busy
    }
}

/// What is told of a job. `receipts` may hold one more than is sent.
fn describe(
    job: JobId,
    facts: Facts,
    revision: u64,
    mut receipts: Vec<roadstead_types::SignedReceipt>,
    now: Option<Timestamp>,
) -> State {
    let more = receipts.len() > MAX_RECEIPTS;
    receipts.truncate(MAX_RECEIPTS);
    let account = facts.account.as_ref();
    let slot = &facts.slot;
    let phase = match (slot.status(), account) {
        (JobStatus::Closed, _) => JobPhase::Closed,
        (_, Some(account)) if account.is_ending() => JobPhase::Draining,
        (_, Some(account)) if account.is_paused() => JobPhase::Paused,
        _ => facts.phase.clone(),
    };
    let note = match &facts.gap {
        Some(_) => Some("receipts were lost; nothing is signed until they are given back".into()),
        None => account.and_then(|account| account.note(slot, now?)),
    };
    State {
        job,
        revision,
        phase,
        urls: facts.urls.clone(),
        receipts,
        more,
        restore: facts.gap.is_some(),
        acked: account.and_then(JobAccount::accepted).map(|(seq, _)| seq),
        deposit: slot.deposit,
        paid: slot.paid,
        owed: account.map(|account| account.owed(slot)).unwrap_or_default(),
        runway: account.map(|account| account.runway(slot)).unwrap_or_default(),
        note,
    }
}
