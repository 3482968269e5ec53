//! What is due for each job, begun and taken in: one duty of a job at a time.

use std::collections::BTreeSet;

use roadstead_core::{Duty, Presence, Refusal, Settlement, Situation, ports::Call};
use roadstead_types::JobId;
use tokio::time::{Instant, timeout};

use super::{Daemon, PATIENCE};
use crate::{
    deploy::{DeployError, Order},
    event::ProviderEvent,
    hosting::{Hosting, TRIAL},
    tasks::{Done, UnderWay},
};

impl Daemon {
    /// Begins what is due and not begun yet.
    pub(super) fn start_duties(&mut self) {
        let now = Instant::now();
        let known: BTreeSet<JobId> =
            self.book.jobs().map(|(id, _)| id).chain(self.hostings.keys().copied()).collect();
        let mut due: Vec<_> = known.into_iter().filter_map(|job| self.due(job)).collect();
        // Whoever waited longest is next, and what was here before comes before what is new.
        due.sort_by_key(|(job, _)| {
            let key = |hosting: &Hosting| (!hosting.is_found, hosting.tried_at);
            self.hostings.get(job).map_or((true, None), key)
        });
        for (job, duty) in due {
            if self.may_start(job, duty, now) {
                self.start(job, duty);
            }
        }
    }

    /// What is due for a job, unless that or something else is under way. A deployment that is not wanted any more is
    /// cut off.
    fn due(&mut self, job: JobId) -> Option<(JobId, Duty)> {
        let (presence, is_refused) = self
            .hostings
            .get(&job)
            .map_or_else(Default::default, |hosting| (hosting.presence, hosting.is_refused));
        let record = self.book.job(job);
        let rests = |duty| {
            let now = Instant::now();
            self.hostings.get(&job).is_some_and(|hosting| hosting.rests(duty, now))
        };
        let duty = match record {
            Some(_) => self.situation(job, presence, is_refused, |situation| {
                let duty = situation.duty();
                if duty == Some(Duty::Remove) && rests(Duty::Remove) {
                    situation.meanwhile().or(duty)
                } else {
                    duty
                }
            })?,
            None if presence != Presence::Absent => Some(Duty::Remove),
            None => None,
        };
        if let Some(task) = self.tasks.of(job) {
            if task.duty == Duty::Deploy && duty == Some(Duty::Remove) {
                task.cut_off();
            }
            return None;
        }
        if duty.is_none() && record.is_none() {
            self.hostings.remove(&job);
        }
        duty.map(|duty| (job, duty))
    }

    /// Where a job stands; `None` where that is not known yet.
    fn situation<T>(
        &self,
        job: JobId,
        presence: Presence,
        is_refused: bool,
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> Option<T> {
        let record = self.book.job(job)?;
        let (head, now) = self.host.ledger.times()?;
        let entry = self.host.ledger.entry(job)?;
        Some(entry.ask(|facts| {
            ask(&Situation {
                terms: record.terms(),
                job: &record.job(),
                presence,
                is_refused: is_refused || (facts.is_ordered_away && facts.account.is_none()),
                account: facts.account.as_ref(),
                missing_since: facts.missing_since(),
                policy: &self.host.offer.settle,
                head,
                now,
            })
        }))
    }

    fn may_start(&self, job: JobId, duty: Duty, now: Instant) -> bool {
        if self.hostings.get(&job).is_some_and(|hosting| hosting.rests(duty, now)) {
            return false;
        }
        // What was here before has its place; what is new must not take that.
        let is_found = |hosting: &Hosting| hosting.is_found;
        let is_in_turn = duty != Duty::Deploy
            || self.hostings.get(&job).is_some_and(is_found)
            || !self.hostings.values().any(is_found);
        let is_call = !matches!(duty, Duty::Deploy | Duty::Remove);
        is_in_turn
            && !(is_call && (self.book.is_behind(job) || !self.has_resumed))
            && self.tasks.has_room(duty, self.book.job(job).map(|record| record.terms().publisher))
    }

    fn start(&mut self, job: JobId, duty: Duty) {
        let host = self.host.clone();
        let order = self.book.job(job).map(|record| Order {
            job,
            terms: record.terms().clone(),
            deposit: record.job().deposit,
            paid: record.job().paid,
            source: record.source().to_vec(),
        });
        let publisher = order.as_ref().map(|order| order.terms.publisher);
        let call = order.as_ref().and_then(|order| self.call(duty, order));
        let hosting = self.hostings.entry(job).or_default();
        match (duty, order, call) {
            (Duty::Remove, ..) => self
                .tasks
                .begin(job, duty, publisher, async move { Done::Removed(host.remove(job).await) }),
            (Duty::Deploy, Some(order), _) => {
                hosting.presence = Presence::Partial;
                hosting.tried_at = Some(Instant::now());
                let has_run = hosting.has_run;
                self.tasks.begin(job, duty, publisher, async move {
                    let deployed = timeout(PATIENCE, host.deploy(&order, has_run)).await;
                    let deployed = deployed.unwrap_or(Err(DeployError::TooSlow));
                    if deployed.is_err() && !has_run {
                        host.holdings.unreserve(job).await;
                    }
                    Done::Deployed(deployed.map(|urls| ProviderEvent::Running { job, urls }))
                });
            }
            (_, _, Some(call)) => self.tasks.begin(job, duty, publisher, async move {
                Done::Called(host.ports.writer.submit(call).await)
            }),
            // A job that is not in the book has no duty but to be removed; what is not due any more needs nothing.
            (_, _, None) => {}
        }
    }

    /// The call that a duty is, if it still is one.
    fn call(&self, duty: Duty, order: &Order) -> Option<Call> {
        let terms = order.terms.clone();
        let settlement = || {
            let ask = |situation: &Situation<'_>| situation.settlement();
            self.situation(order.job, Presence::Absent, false, ask)
        };
        match duty {
            Duty::Deploy | Duty::Remove => None,
            Duty::ClaimStartFee => Some(Call::ClaimStartFee(terms)),
            Duty::Decline => Some(Call::Decline(terms)),
            Duty::Settle => match settlement()? {
                Settlement::Settle(voucher) | Settlement::SettleAndClose(voucher) => {
                    Some(Call::Settle { terms, voucher })
                }
                Settlement::None | Settlement::Decline => None,
            },
            Duty::SettleAndClose => match settlement()? {
                Settlement::SettleAndClose(voucher) => {
                    Some(Call::SettleAndClose { terms, voucher })
                }
                Settlement::None | Settlement::Settle(_) | Settlement::Decline => None,
            },
        }
    }

    pub(super) fn finish(&mut self, task: UnderWay, done: Option<Done>) {
        let UnderWay { job, duty, .. } = task;
        let now = Instant::now();
        let hosting = self.hostings.entry(job).or_default();
        let host = self.host.clone();
        let report = |event| host.tell(event);
        let is_done = match done {
            Some(Done::Deployed(Ok(running))) => {
                hosting.presence = Presence::Running;
                report(running);
                true
            }
            Some(Done::Deployed(Err(error))) => {
                hosting.failed(duty, now);
                let hopeless = || Refusal::Unreachable { within: TRIAL };
                let refusal = error.refusal().or_else(|| hosting.is_hopeless(now).then(hopeless));
                if let Some(refusal) = refusal {
                    hosting.is_refused = true;
                    report(ProviderEvent::Refused { job, refusal });
                } else {
                    report(ProviderEvent::DeployFailed { job, error });
                }
                return;
            }
            Some(Done::Removed(Ok(()))) => {
                hosting.presence = Presence::Absent;
                hosting.is_found = false;
                report(ProviderEvent::Removed { job });
                true
            }
            Some(Done::Removed(Err(error))) => {
                report(ProviderEvent::RemoveFailed { job, error });
                false
            }
            Some(Done::Called(Ok(mined))) => {
                self.book.acted(job, mined.block);
                true
            }
            Some(Done::Called(Err(error))) => {
                report(ProviderEvent::CallFailed { job, error });
                false
            }
            Some(Done::Looked(_) | Done::Swept(_) | Done::Resumed(_)) | None => false,
        };
        if is_done {
            hosting.succeeded(duty, now);
        } else {
            hosting.failed(duty, now);
        }
    }
}
