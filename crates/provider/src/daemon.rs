//! The provider's one loop: read what happened, do what is due, again.
//!
//! ```text
//!        ┌── tick ──> events after the cursor ──> book ──┐
//!        │                                               v
//!        └───── mined <── one transaction per job <── duties
//! ```
//!
//! Level-triggered: each round compares where every job stands with where it should stand, so a round that failed is
//! made good by the next one. Nothing is durable yet: a new process reads the events from the market's first block
//! and comes to the same book, and the contracts let no call take effect twice.

use std::{collections::HashMap, time::Duration};

use roadstead_core::{
    Cursor, Duty, EventBatch, JobBook, JobEvent,
    ports::{Call, ChainError, EventFilter, Mined, Party, WriteError},
};
use roadstead_types::{JobId, TokenAmount};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::Ports;

/// How many transactions are under way at once.
const MAX_TASKS: usize = 16;

/// How long a job whose call was refused or lost is left alone.
const REST: Duration = Duration::from_secs(30);

/// What the daemon did or saw.
#[derive(Debug)]
pub enum ProviderEvent {
    /// A job was opened for this provider.
    JobSeen {
        /// Which.
        job: JobId,
        /// Its deposit.
        deposit: TokenAmount,
    },
    /// The start fee is in the provider's wallet.
    StartFeePaid {
        /// Of which job.
        job: JobId,
        /// All that was paid for the job so far.
        paid: TokenAmount,
    },
    /// The publisher leaves.
    Closing {
        /// Which job.
        job: JobId,
    },
    /// The job is over.
    Closed {
        /// Which.
        job: JobId,
        /// All that it paid.
        paid: TokenAmount,
    },
    /// The chain was reorganised.
    Reorganised {
        /// Everything seen in this block or later is undone.
        from_block: u64,
    },
    /// A call for a job did not take effect; it is tried again later if it is still due.
    CallFailed {
        /// Which job.
        job: JobId,
        /// Why.
        error: WriteError,
    },
    /// The chain does not answer. Told once; it is asked again at every tick.
    ChainLost {
        /// Why.
        error: ChainError,
    },
    /// The chain answers again.
    ChainBack,
}

/// Why the daemon gave up.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The chain's history makes no sense any more.
    #[error("the chain cannot be followed any further")]
    Chain(#[from] ChainError),
}

/// The provider's daemon.
pub struct Daemon<R> {
    ports: Ports,
    report: R,
    book: JobBook,
    cursor: Cursor,
    resting: HashMap<JobId, Instant>,
    is_chain_lost: bool,
}

impl<R: Fn(ProviderEvent) + Send> Daemon<R> {
    /// A daemon that begins to read with block `from_block` and tells `report` what happens.
    pub fn new(ports: Ports, from_block: u64, report: R) -> Self {
        Self {
            ports,
            report,
            book: JobBook::default(),
            cursor: Cursor::starting_at(from_block),
            resting: HashMap::new(),
            is_chain_lost: false,
        }
    }

    /// Runs until `stop`. Transactions under way are left to the chain: what took effect is read from it next time.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        let mut ticks = interval(self.ports.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks: JoinSet<Result<Mined, WriteError>> = JoinSet::new();
        let mut under_way: HashMap<Id, JobId> = HashMap::new();
        loop {
            tokio::select! {
                // Cancel-safe: the token keeps its state.
                () = stop.cancelled() => break,
                // Cancel-safe: a finished task stays in the set until it is taken.
                Some(done) = tasks.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    if let Some(job) = under_way.remove(&id) {
                        self.finish(job, done.map(|(_, result)| result));
                    }
                    continue;
                }
                // Cancel-safe: a tick that was not taken comes again.
                _ = ticks.tick() => {}
            }
            // Cut off by `stop` at any point: the cursor moves only together with the book.
            match stop.run_until_cancelled(self.read()).await {
                Some(read) => read?,
                None => break,
            }
            let now = Instant::now();
            self.resting.retain(|_, until| *until > now);
            for (job, duty) in self.book.duties() {
                if tasks.len() == MAX_TASKS {
                    break;
                }
                let is_under_way = under_way.values().any(|other| *other == job);
                if is_under_way || self.resting.contains_key(&job) {
                    continue;
                }
                if let Some(call) = self.call(job, duty) {
                    let writer = self.ports.writer.clone();
                    let task = tasks.spawn(async move { writer.submit(call).await });
                    under_way.insert(task.id(), job);
                }
            }
        }
        tasks.shutdown().await;
        Ok(())
    }

    /// Takes in everything that happened since the last time.
    async fn read(&mut self) -> Result<(), DaemonError> {
        loop {
            let jobs = self.book.jobs().map(|(id, _)| id).collect();
            let party = Party::Provider(self.ports.writer.account());
            let filter = EventFilter { party, jobs };
            match self.ports.events.events_after(&self.cursor, &filter).await {
                Ok(batch) => {
                    if std::mem::take(&mut self.is_chain_lost) {
                        (self.report)(ProviderEvent::ChainBack);
                    }
                    if batch.cursor == self.cursor {
                        return Ok(());
                    }
                    self.cursor = batch.cursor.clone();
                    self.tell(&batch);
                    self.book.apply(batch);
                }
                Err(error) if error.is_retryable() => {
                    if !std::mem::replace(&mut self.is_chain_lost, true) {
                        (self.report)(ProviderEvent::ChainLost { error });
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn tell(&self, batch: &EventBatch) {
        if let Some(from_block) = batch.undone_from {
            (self.report)(ProviderEvent::Reorganised { from_block });
        }
        for event in &batch.events {
            let (job, item) = (event.item.0, &event.item.1);
            match item {
                JobEvent::Opened(opening) => {
                    (self.report)(ProviderEvent::JobSeen { job, deposit: opening.deposit });
                }
                JobEvent::StartFeePaid { paid } => {
                    (self.report)(ProviderEvent::StartFeePaid { job, paid: *paid });
                }
                JobEvent::Closing { .. } => (self.report)(ProviderEvent::Closing { job }),
                JobEvent::Closed { paid, .. } => {
                    (self.report)(ProviderEvent::Closed { job, paid: *paid });
                }
                JobEvent::ToppedUp { .. } | JobEvent::Settled { .. } => {}
            }
        }
    }

    fn call(&self, job: JobId, duty: Duty) -> Option<Call> {
        let terms = self.book.job(job)?.terms().clone();
        Some(match duty {
            Duty::ClaimStartFee => Call::ClaimStartFee(terms),
            Duty::Decline => Call::Decline(terms),
        })
    }

    fn finish(&mut self, job: JobId, result: Result<Result<Mined, WriteError>, JoinError>) {
        match result {
            Ok(Ok(mined)) => self.book.acted(job, mined.block),
            Ok(Err(error)) => {
                self.resting.insert(job, Instant::now() + REST);
                (self.report)(ProviderEvent::CallFailed { job, error });
            }
            Err(error) => {
                self.resting.insert(job, Instant::now() + REST);
                tracing::error!(%job, %error, "a call did not come to an end");
            }
        }
    }
}

impl<R> std::fmt::Debug for Daemon<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("ports", &self.ports).finish_non_exhaustive()
    }
}
