//! Reading the meters: a loop of its own, because neither a slow chain nor a slow deployment may delay a reading or a
//! pause.
//!
//! ```text
//!  each tick, for each job whose instance is here:
//!    leaving, or paused for too long       ──> last receipt
//!    a reading is due                      ──> receipt
//!    should be frozen, or should not       ──> freeze, thaw
//! ```
//!
//! What the engine does not say is asked again at the next tick; the reading then covers the longer span.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use roadstead_core::{
    JobAccount, Sighting,
    ports::{EngineError, FreezeReason, Phase, Usage},
    protocol::JobPhase,
    with_causes,
};
use roadstead_types::{InstanceId, JobId, JobStatus, SignedReceipt, Timestamp};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    deploy::Host,
    event::ProviderEvent,
    ledger::{Entry, Facts, LedgerError},
};

/// How often the accounts are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long a job is left alone after something failed.
const REST: Duration = Duration::from_secs(2);

/// How long the engine may take for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a job was not looked after this time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeterError {
    #[error("its instance cannot be read or frozen")]
    Engine(#[from] EngineError),
    #[error("its instance cannot be read or frozen in time")]
    Slow,
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Reads the meters until `stop`, and ends the steps that it began.
pub(crate) async fn run(host: Arc<Host>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut tasks, mut busy) = (JoinSet::<JobId>::new(), HashSet::new());
    loop {
        tokio::select! {
            // Cancel-safe: the token keeps its state.
            () = stop.cancelled() => break,
            // Cancel-safe: a finished task stays until it is taken.
            Some(done) = tasks.join_next() => match done {
                Ok(job) => {
                    busy.remove(&job);
                }
                // Which job it was is not known: all are looked after again.
                Err(error) => {
                    tracing::error!(%error, "a meter was not read to the end");
                    busy.clear();
                }
            },
            // Cancel-safe: a tick that was not taken comes again.
            _ = ticks.tick() => {
                let Some(now) = host.ledger.now() else { continue };
                for entry in host.ledger.entries() {
                    let job = entry.job;
                    if entry.ask(|facts| Need::of(facts, now, &host)).is_some() && busy.insert(job) {
                        let (host, stop) = (host.clone(), stop.clone());
                        tasks.spawn(async move {
                            if let Err(error) = tend(&host, &entry, now).await {
                                let error = with_causes(&error);
                                tracing::warn!(%job, error, "its meter is read again later");
                                stop.run_until_cancelled(sleep(REST)).await;
                            }
                            job
                        });
                    }
                }
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// What a job needs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    LastReceipt,
    Receipt,
    Freeze,
    Thaw,
}

impl Need {
    pub(crate) fn of(facts: &Facts, now: Timestamp, host: &Host) -> Option<Self> {
        let status = facts.slot.status();
        if !matches!(status, JobStatus::Open | JobStatus::Closing) {
            return None;
        }
        let should_freeze = match (&facts.account, &facts.gap) {
            (Some(account), _) if account.is_final() => return None,
            (Some(account), _) => {
                let is_given_up = host.ledger.known_time().is_some_and(|time| {
                    let (grace, silence) = (host.offer.grace, host.offer.silence);
                    account.is_given_up(&facts.slot, time, grace, silence)
                });
                let is_leaving = status == JobStatus::Closing
                    || account.is_ending()
                    || facts.is_ordered_away
                    || matches!(facts.phase, JobPhase::Refused { .. })
                    || is_given_up;
                let is_claimed = facts.is_claimed(now);
                if is_leaving {
                    return (!is_claimed).then_some(Self::LastReceipt);
                }
                if !facts.is_here {
                    return None;
                }
                let is_due = account.is_reading_due(now) || account.is_redating_due(now);
                if is_due && !is_claimed {
                    return Some(Self::Receipt);
                }
                account.pause_reason(&facts.slot).is_some()
            }
            (None, Some(gap)) if facts.is_here => gap.is_long(now),
            (None, _) => return None,
        };
        let is_paused = facts.account.as_ref().is_some_and(JobAccount::is_paused);
        let is_seen = facts.account.as_ref().is_none_or(JobAccount::was_running);
        match (should_freeze, is_paused, facts.is_frozen) {
            (true, _, Some(true)) if is_paused || facts.account.is_none() => None,
            (true, ..) => Some(Self::Freeze),
            (false, false, Some(false)) if is_seen => None,
            (false, ..) => Some(Self::Thaw),
        }
    }
}

pub(crate) async fn tend(host: &Host, entry: &Entry, now: Timestamp) -> Result<(), MeterError> {
    match entry.ask(|facts| Need::of(facts, now, host)) {
        Some(Need::LastReceipt) => finish(host, entry, now).await,
        Some(Need::Receipt) => {
            read(host, entry, now).await?;
            let Facts { account, slot, .. } = entry.facts();
            match account.and_then(|account| account.pause_reason(&slot)) {
                Some(_) => freeze(host, entry, now).await,
                None => Ok(()),
            }
        }
        Some(Need::Freeze) => freeze(host, entry, now).await,
        Some(Need::Thaw) => thaw(host, entry).await,
        None => Ok(()),
    }
}

async fn read(host: &Host, entry: &Entry, now: Timestamp) -> Result<(), MeterError> {
    let usage = match asked(host.ports.engine.usage(&instance(entry))).await {
        Ok(usage) => usage,
        // Time is billed all the same: a counter that cannot be read is no free service.
        Err(_) if is_overdue(entry, now) => Usage::default(),
        Err(error) => return Err(error),
    };
    let signed = host
        .ledger
        .step(entry, |account, facts| {
            if facts.is_claimed(now) || !facts.is_here {
                return None;
            }
            let is_paused = account.is_paused();
            let found = if is_paused { Sighting::Frozen } else { Sighting::Running };
            account.see(now, found(usage));
            account.read(now)
        })
        .await?;
    tell(host, entry, signed);
    Ok(())
}

fn is_overdue(entry: &Entry, now: Timestamp) -> bool {
    let is_overdue = |account: &JobAccount| account.is_reading_overdue(now);
    entry.ask(|facts| facts.account.as_ref().is_some_and(is_overdue))
}

/// Bills what was used up to now, and nothing after it.
async fn finish(host: &Host, entry: &Entry, now: Timestamp) -> Result<(), MeterError> {
    let id = instance(entry);
    // A reading that cannot be had keeps nobody from leaving.
    let phase = asked(host.ports.engine.observe(&id)).await.ok().flatten();
    let usage = asked(host.ports.engine.usage(&id)).await.unwrap_or_default();
    let signed = host
        .ledger
        .step(entry, |account, facts| {
            if facts.is_claimed(now) {
                return None;
            }
            match phase.map(|observed| observed.phase) {
                Some(Phase::Running) if !account.is_paused() => {
                    account.see(now, Sighting::Running(usage));
                }
                Some(Phase::Running | Phase::Frozen) => {}
                Some(Phase::Exited { .. }) | None => facts.see_end(account, now, Some(usage)),
            }
            account.finish(now)
        })
        .await?;
    tell(host, entry, signed);
    if entry.ask(|facts| facts.account.as_ref().is_some_and(JobAccount::is_final)) {
        host.tell(ProviderEvent::Draining { job: entry.job });
    }
    Ok(())
}

/// Written down before it is done: what is frozen is never billed.
async fn freeze(host: &Host, entry: &Entry, now: Timestamp) -> Result<(), MeterError> {
    let id = instance(entry);
    // Without its counters it is frozen all the same.
    let usage = asked(host.ports.engine.usage(&id)).await.unwrap_or_default();
    let before = entry.facts();
    let was_paused =
        before.account.map_or(before.is_frozen == Some(true), |account| account.is_paused());
    host.ledger
        .step(entry, |account, facts| {
            if facts.is_here {
                if !account.is_paused() {
                    account.see(now, Sighting::Running(usage));
                }
                account.see(now, Sighting::Frozen(usage));
            }
            account.set_paused(true);
            None
        })
        .await?;
    asked(host.ports.engine.freeze(&id, &BTreeSet::from([FreezeReason::Debt]))).await?;
    entry.note(|facts| {
        facts.is_frozen = Some(true);
        true
    });
    if !was_paused {
        let facts = entry.facts();
        let reason = facts.account.and_then(|account| account.pause_reason(&facts.slot));
        host.tell(ProviderEvent::Paused { job: entry.job, reason });
    }
    Ok(())
}

/// Written down after it was done: a moment that ran for nothing is better than one that was billed and frozen.
async fn thaw(host: &Host, entry: &Entry) -> Result<(), MeterError> {
    let id = instance(entry);
    // Its time is billed without its counters as well.
    let usage = asked(host.ports.engine.usage(&id)).await.unwrap_or_default();
    asked(host.ports.engine.freeze(&id, &BTreeSet::new())).await?;
    entry.note(|facts| {
        facts.is_frozen = Some(false);
        false
    });
    let account = entry.facts().account;
    let was_paused = account.as_ref().is_some_and(JobAccount::is_paused);
    let is_new = account.is_some_and(|account| !account.was_running());
    if (was_paused || is_new)
        && let Some(now) = host.ledger.now()
    {
        host.ledger
            .step(entry, |account, facts| {
                if facts.is_here {
                    account.see(now, Sighting::Running(usage));
                }
                account.set_paused(false);
                None
            })
            .await?;
    }
    if was_paused {
        host.tell(ProviderEvent::Resumed { job: entry.job });
    }
    Ok(())
}

async fn asked<T>(question: impl Future<Output = Result<T, EngineError>>) -> Result<T, MeterError> {
    Ok(timeout(PATIENCE, question).await.map_err(|_| MeterError::Slow)??)
}

fn instance(entry: &Entry) -> InstanceId {
    InstanceId::first(entry.job)
}

fn tell(host: &Host, entry: &Entry, signed: Option<SignedReceipt>) {
    if let Some(SignedReceipt { receipt, .. }) = signed {
        host.tell(ProviderEvent::ReceiptSigned { job: entry.job, receipt });
    }
}

#[cfg(test)]
mod tests;
