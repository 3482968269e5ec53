//! The provider's one loop: read what happened, look at what runs, do what is due, again.
//!
//! ```text
//!        ┌── tick ──> events after the cursor ──> book ──┐
//!        │            instances that ended ──> hostings ─┤
//!        │                                               v
//!        └───── done <──── one task for each job <──── duties
//! ```
//!
//! Level-triggered: each round compares where every job stands with where it should stand, so a round that failed is
//! made good by the next one. Nothing of it is durable: a new process reads the events from the market's first block,
//! finds the instances that the engine kept running, and adopts those whose jobs are still open. Instances go on when
//! the daemon stops, and while the chain cannot be read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use roadstead_core::{
    Cursor, Duty, EventBatch, JobBook, JobEvent, Offer, Presence, duty_of,
    ports::{Call, ChainError, EngineError, EventFilter, Mined, Party, Phase, WriteError},
};
use roadstead_types::{InstanceId, JobId, Market, Terms};
use tokio::{
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Keys, Ports,
    deploy::{DeployError, Host, Order},
    event::ProviderEvent,
    holdings::Holdings,
    hosting::Hosting,
};

/// How many duties are under way at once.
const MAX_TASKS: usize = 16;

/// How many of them deploy: the others must get through while publishers are slow to serve their blocks.
const MAX_DEPLOYMENTS: usize = 4;

/// How long one attempt to deploy may take. The next one goes on where it ended.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// How often the instances are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Why the daemon gave up. The instances go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The chain's history makes no sense any more.
    #[error("the chain cannot be followed any further")]
    Chain(#[from] ChainError),
    /// The engine cannot even say what runs.
    #[error("the container engine does not answer")]
    Engine(#[from] EngineError),
}

/// The provider's daemon.
pub struct Daemon {
    host: Arc<Host>,
    account: Address,
    book: JobBook,
    cursor: Cursor,
    hostings: HashMap<JobId, Hosting>,
    tasks: JoinSet<Done>,
    under_way: HashMap<Id, UnderWay>,
    next_look: Instant,
    is_chain_lost: bool,
    /// Whether all that the chain has was read at least once. Before, a job that is not in the book may well be open.
    has_read: bool,
}

struct UnderWay {
    job: JobId,
    duty: Duty,
    abort: AbortHandle,
}

/// What a task came to.
enum Done {
    Deployed(Result<ProviderEvent, DeployError>),
    Removed(Result<(), EngineError>),
    Called(Result<Mined, WriteError>),
}

impl Daemon {
    /// A daemon for one market, which tells `report` what happens.
    pub fn new(
        ports: Ports,
        market: &Market,
        keys: Keys,
        offer: Offer,
        report: impl Fn(ProviderEvent) + Send + Sync + 'static,
    ) -> Self {
        let account = ports.writer.account();
        let host = Host {
            ports,
            keys,
            offer,
            chain: market.chain_id,
            contract: market.contracts.payment,
            holdings: Holdings::default(),
            report: Arc::new(report),
        };
        Self {
            host: Arc::new(host),
            account,
            book: JobBook::default(),
            cursor: Cursor::starting_at(market.from_block),
            hostings: HashMap::new(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            next_look: Instant::now(),
            is_chain_lost: false,
            has_read: false,
        }
    }

    /// Runs until `stop`. What is under way is cut off: instances go on, transactions are left to the chain, and the
    /// next daemon finds both.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        for instance in self.host.ports.engine.instances().await? {
            self.hostings.insert(instance.job, Hosting::found());
        }
        let mut ticks = interval(self.host.ports.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Cancel-safe: the token keeps its state.
                () = stop.cancelled() => break,
                // Cancel-safe: a finished task stays in the set until it is taken.
                Some(done) = self.tasks.join_next_with_id() => self.finish(done),
                // Cancel-safe: a tick that was not taken comes again.
                _ = ticks.tick() => {
                    // Cut off by `stop` at any point: the cursor moves only together with the book.
                    match stop.run_until_cancelled(self.read()).await {
                        Some(read) => read?,
                        None => break,
                    }
                    self.look().await;
                }
            }
            self.start_duties();
        }
        self.tasks.shutdown().await;
        Ok(())
    }

    /// Takes in everything that happened since the last time.
    async fn read(&mut self) -> Result<(), DaemonError> {
        loop {
            let jobs = self.book.jobs().map(|(id, _)| id).collect();
            let filter = EventFilter { party: Party::Provider(self.account), jobs };
            match self.host.ports.events.events_after(&self.cursor, &filter).await {
                Ok(batch) => {
                    if std::mem::take(&mut self.is_chain_lost) {
                        self.tell(ProviderEvent::ChainBack);
                    }
                    if batch.cursor == self.cursor {
                        self.has_read = true;
                        return Ok(());
                    }
                    self.cursor = batch.cursor.clone();
                    self.tell_all(&batch);
                    self.book.apply(batch);
                }
                Err(error) if error.is_retryable() => {
                    if !std::mem::replace(&mut self.is_chain_lost, true) {
                        self.tell(ProviderEvent::ChainLost { error });
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Notices instances that ended.
    async fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        for (job, hosting) in &mut self.hostings {
            let is_busy = self.under_way.values().any(|task| task.job == *job);
            if hosting.presence != Presence::Running || is_busy {
                continue;
            }
            let status = match self.host.ports.engine.observe(&InstanceId::first(*job)).await {
                Ok(Some(observed)) => match observed.phase {
                    Phase::Running | Phase::Frozen => continue,
                    Phase::Exited { status, .. } => status,
                },
                Ok(None) => None,
                Err(error) => {
                    // Not to see an instance is no reason to touch it.
                    tracing::warn!(%job, %error, "its instance cannot be looked at");
                    continue;
                }
            };
            hosting.presence = Presence::Partial;
            hosting.failed(Duty::Deploy, now);
            (self.host.report)(ProviderEvent::Exited { job: *job, status });
        }
    }

    /// Begins what is due and not begun yet.
    fn start_duties(&mut self) {
        let now = Instant::now();
        let known: BTreeSet<JobId> =
            self.book.jobs().map(|(id, _)| id).chain(self.hostings.keys().copied()).collect();
        for job in known {
            let record = self.book.job(job);
            let (presence, is_refused) = self
                .hostings
                .get(&job)
                .map_or_else(Default::default, |hosting| (hosting.presence, hosting.is_refused));
            let duty = match record {
                Some(record) => duty_of(record.terms(), &record.job(), presence, is_refused),
                None if self.has_read && presence != Presence::Absent => Some(Duty::Remove),
                None => None,
            };
            if let Some(task) = self.under_way.values().find(|task| task.job == job) {
                // A job that ended need not be brought to run any more.
                if task.duty == Duty::Deploy && duty == Some(Duty::Remove) {
                    task.abort.abort();
                }
                continue;
            }
            let Some(duty) = duty else {
                if record.is_none() && presence == Presence::Absent {
                    self.hostings.remove(&job);
                }
                continue;
            };
            let order = record.map(|record| Order {
                job,
                terms: record.terms().clone(),
                deposit: record.job().deposit,
                source: record.source().to_vec(),
            });
            if !self.may_start(job, duty, now) {
                continue;
            }
            self.start(job, duty, order);
        }
    }

    fn may_start(&self, job: JobId, duty: Duty, now: Instant) -> bool {
        let deployments = self.under_way.values().filter(|task| task.duty == Duty::Deploy).count();
        let is_room = self.under_way.len() < MAX_TASKS
            && (duty != Duty::Deploy || deployments < MAX_DEPLOYMENTS);
        let is_call = matches!(duty, Duty::ClaimStartFee | Duty::Decline);
        let rests = self.hostings.get(&job).is_some_and(|hosting| hosting.rests(duty, now));
        is_room && !rests && !(is_call && self.book.is_behind(job))
    }

    fn start(&mut self, job: JobId, duty: Duty, order: Option<Order>) {
        let host = self.host.clone();
        let hosting = self.hostings.entry(job).or_default();
        let call = |call: fn(Terms) -> Call| order.as_ref().map(|order| call(order.terms.clone()));
        let call = match duty {
            Duty::Deploy | Duty::Remove => None,
            Duty::ClaimStartFee => call(Call::ClaimStartFee),
            Duty::Decline => call(Call::Decline),
        };
        let abort = match (duty, order, call) {
            (Duty::Remove, ..) => {
                self.tasks.spawn(async move { Done::Removed(host.remove(job).await) })
            }
            (Duty::Deploy, Some(order), _) => {
                hosting.presence = Presence::Partial;
                self.tasks.spawn(async move {
                    let deployed = timeout(PATIENCE, host.deploy(&order)).await;
                    let deployed = deployed.unwrap_or(Err(DeployError::TooSlow));
                    Done::Deployed(deployed.map(|urls| ProviderEvent::Running { job, urls }))
                })
            }
            (_, _, Some(call)) => {
                self.tasks.spawn(async move { Done::Called(host.ports.writer.submit(call).await) })
            }
            // A job that is not in the book has no terms, and no duty but to be removed.
            (_, _, None) => return,
        };
        self.under_way.insert(abort.id(), UnderWay { job, duty, abort });
    }

    fn finish(&mut self, done: Result<(Id, Done), JoinError>) {
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(UnderWay { job, duty, .. }) = self.under_way.remove(&id) else { return };
        let hosting = self.hostings.entry(job).or_default();
        let report = self.host.report.clone();
        let failed = match done {
            Ok((_, Done::Deployed(Ok(running)))) => {
                hosting.presence = Presence::Running;
                report(running);
                false
            }
            Ok((_, Done::Deployed(Err(error)))) => {
                if let Some(refusal) = error.refusal() {
                    hosting.is_refused = true;
                    report(ProviderEvent::Refused { job, refusal });
                } else {
                    report(ProviderEvent::DeployFailed { job, error });
                }
                true
            }
            Ok((_, Done::Removed(Ok(())))) => {
                hosting.presence = Presence::Absent;
                report(ProviderEvent::Removed { job });
                false
            }
            Ok((_, Done::Removed(Err(error)))) => {
                report(ProviderEvent::RemoveFailed { job, error });
                true
            }
            Ok((_, Done::Called(Ok(mined)))) => {
                self.book.acted(job, mined.block);
                false
            }
            Ok((_, Done::Called(Err(error)))) => {
                report(ProviderEvent::CallFailed { job, error });
                true
            }
            Err(error) => {
                if !error.is_cancelled() {
                    tracing::error!(%job, %error, "a task did not come to an end");
                }
                true
            }
        };
        if failed {
            hosting.failed(duty, Instant::now());
        } else {
            hosting.succeeded(duty);
        }
    }

    fn tell(&self, event: ProviderEvent) {
        (self.host.report)(event);
    }

    fn tell_all(&self, batch: &EventBatch) {
        if let Some(from_block) = batch.undone_from {
            self.tell(ProviderEvent::Reorganised { from_block });
        }
        for event in &batch.events {
            let (job, item) = (event.item.0, &event.item.1);
            match item {
                JobEvent::Opened(opening) => {
                    self.tell(ProviderEvent::JobSeen { job, deposit: opening.deposit });
                }
                JobEvent::StartFeePaid { paid } => {
                    self.tell(ProviderEvent::StartFeePaid { job, paid: *paid });
                }
                JobEvent::Closing { .. } => self.tell(ProviderEvent::Closing { job }),
                JobEvent::Closed { paid, .. } => {
                    self.tell(ProviderEvent::Closed { job, paid: *paid });
                }
                JobEvent::ToppedUp { .. } | JobEvent::Settled { .. } => {}
            }
        }
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("account", &self.account).finish_non_exhaustive()
    }
}
