//! The provider's end of the job protocol: who may ask, and what they are told.
//!
//! ```text
//!  Hello ── signed for this peer, provider, market and time; nonce new ──> the peer speaks for the account
//!  Sync, Restore, Order ── one of the peer's accounts may ──> State
//! ```
//!
//! Sessions are in memory only: after a restart each peer says hello again.

mod sessions;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alloy_primitives::Address;
use async_trait::async_trait;
use roadstead_abi::{receipt_digest, recover};
use roadstead_core::{
    JobAccount, Verb, authorise, check_session,
    ports::JobService,
    protocol::{
        Denial, HOLD, JobPhase, JobSync, MAX_RECEIPTS, Order, OrderKind, ReceiptRefusal, Request,
        Response, Restore, State,
    },
    with_causes,
};
use roadstead_types::{JobId, JobStatus, PeerId, SignedReceipt, SignedSession, Timestamp, Voucher};
use tokio::time::timeout;

use crate::{
    deploy::Host,
    event::ProviderEvent,
    ledger::{Claim, Entry, Facts, LedgerError, RestoreError},
};
use sessions::Sessions;

/// Answers publishers and agents.
pub(crate) struct Desk {
    host: Arc<Host>,
    provider: Address,
    /// The JSON of the profile whose digest is registered.
    profile: String,
    sessions: Mutex<Sessions>,
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
        let may =
            |facts: &Facts| subjects.iter().any(|subject| authorise(*subject, verb, &facts.terms));
        if entry.ask(may) { Ok(entry) } else { Err(Denial::Forbidden) }
    }

    async fn sync(&self, peer: PeerId, asked: JobSync) -> Result<Response, Denial> {
        let entry = self.entry(peer, Verb::Sync, asked.job)?;
        let mut revisions = entry.revisions();
        if let Some(voucher) = &asked.voucher {
            self.take(&entry, voucher).await.map_err(busy(asked.job))?;
        }
        self.hear_refusal(&entry, asked.refusal.as_ref());
        self.compare(peer, &entry, &asked).await.map_err(busy(asked.job))?;
        let is_known = asked.known == Some(*revisions.borrow_and_update());
        let mut state = self.state(&entry, &asked).await.map_err(busy(asked.job))?;
        if is_known
            && state.receipts.is_empty()
            && let Some(_hold) = entry.hold()
        {
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

    fn hear_refusal(&self, entry: &Entry, refusal: Option<&ReceiptRefusal>) {
        let mut is_new = false;
        entry.note(|facts| {
            is_new = facts.refusal.as_ref() != refusal;
            facts.refusal = refusal.cloned();
            false
        });
        if let Some(refusal) = refusal.filter(|_| is_new).cloned() {
            self.host.tell(ProviderEvent::ReceiptRefused { job: entry.job, refusal });
        }
    }

    /// Compares what the agent holds with the journal, which may be a new one, or an old one from a backup.
    async fn compare(
        &self,
        peer: PeerId,
        entry: &Entry,
        asked: &JobSync,
    ) -> Result<(), LedgerError> {
        let Some(now) = self.host.ledger.now() else { return Ok(()) };
        let facts = entry.facts();
        let is_signer = self.sessions().subjects(peer, now).contains(&facts.terms.signer);
        if asked.head.is_none() && facts.gap.is_some_and(|gap| !gap.is_sure) && is_signer {
            return self.host.ledger.begin_where_none_are_held(entry).await;
        }
        let mut is_news = false;
        entry.note(|facts| {
            let Some((seq, _)) = asked.head else { return false };
            match (&facts.account, &mut facts.gap) {
                (Some(account), _) => {
                    let next = account.head().map_or(0, |head| head.seq.saturating_add(1));
                    is_news = seq >= next && facts.claim.is_none() && !facts.is_over;
                    if is_news {
                        facts.claim = Some(Claim::made_at(now));
                    }
                }
                (None, Some(gap)) => is_news = !std::mem::replace(&mut gap.is_sure, true),
                (None, None) => {
                    facts.claim.get_or_insert(Claim::made_at(now));
                }
            }
            is_news
        });
        if is_news {
            self.host.tell(ProviderEvent::ReceiptsLost { job: entry.job });
        }
        Ok(())
    }

    async fn state(&self, entry: &Entry, asked: &JobSync) -> Result<State, LedgerError> {
        let revision = *entry.revisions().borrow();
        let facts = entry.facts();
        let from = asked.head.map_or(0, |(seq, _)| seq.saturating_add(1));
        let now = self.host.ledger.now();
        let wants_receipts = now.is_some_and(|now| facts.wants_receipts(now));
        let receipts = match facts.gap {
            None => {
                let journal = &self.host.ledger.journal;
                journal.receipts(entry.job, from, MAX_RECEIPTS.saturating_add(1)).await?
            }
            Some(_) => Vec::new(),
        };
        Ok(describe(entry.job, facts, revision, receipts, now, wants_receipts))
    }

    async fn restore(&self, peer: PeerId, restore: Restore) -> Result<Response, Denial> {
        let job = restore.job;
        let entry = self.entry(peer, Verb::Restore, job)?;
        if restore.receipts.len() > MAX_RECEIPTS {
            return Err(Denial::Malformed);
        }
        let domain = &self.host.ledger.domain;
        let own = [self.provider, self.host.ports.signer.address()];
        let is_own = |signed: &SignedReceipt| {
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
        let is_whole = entry.ask(|facts| facts.account.is_some());
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
        self.host.ledger.order_away(&entry, now).await.map_err(busy(job))?;
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
        self.sessions().forget(peer);
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
    mut receipts: Vec<SignedReceipt>,
    now: Option<Timestamp>,
    wants_receipts: bool,
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
        restore: wants_receipts,
        acked: account.and_then(JobAccount::accepted).map(|(seq, _)| seq),
        deposit: slot.deposit,
        paid: slot.paid,
        owed: account.map(|account| account.owed(slot)).unwrap_or_default(),
        runway: account.map(|account| account.runway(slot)).unwrap_or_default(),
        note,
    }
}

#[cfg(test)]
mod tests;
