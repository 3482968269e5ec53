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
//! made good by the next one. The book and its cursor are written down together; a new process goes on where they end,
//! finds the instances that the engine kept running, and adopts those whose jobs are still open. Instances go on when
//! the daemon stops, and while the chain cannot be read. The meters are read by a loop of their own (`metering`).

mod duties;

use std::{collections::HashMap, sync::Arc, time::Duration};

use alloy_primitives::Address;
use multiaddr::Multiaddr;
use roadstead_core::{
    BookChanges, Cursor, EventBatch, JobBook, JobEvent, Offer, Presence,
    ports::{ChainError, EngineError, EventFilter, Party, Phase},
};
use roadstead_journal::JournalError;
use roadstead_net::{JobServer, ListenError};
use roadstead_types::{InstanceId, JobId, Market, Profile, Seconds, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Keys, Ports,
    deploy::Host,
    desk::Desk,
    event::ProviderEvent,
    holdings::Holdings,
    hosting::Hosting,
    ledger::Ledger,
    metering,
    registration::profile_json,
    tasks::{Done, Tasks},
};

/// How long one attempt to deploy may take. The next one goes on where it ended.
pub(crate) const PATIENCE: Duration = Duration::from_secs(900);

/// How often the instances are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// After so many blocks the cursor is written down, whether or not anything happened in them.
const SAVE_EVERY: u64 = 32;

/// How often jobs that closed long ago are forgotten, in chain time.
const FORGET_AGAIN: Seconds = Seconds::from_hours(1);

/// How long to wait before asking again for what became of an earlier process's transactions.
const RESUME_AGAIN: Duration = Duration::from_secs(10);

/// How long to look at one of them.
const GLANCE: Duration = Duration::from_secs(10);

/// Why the daemon gave up. The instances go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The chain's history makes no sense any more.
    #[error("the chain cannot be followed any further")]
    Chain(#[from] ChainError),
    /// The engine cannot even say what runs.
    #[error("the container engine does not answer")]
    Engine(#[from] EngineError),
    /// What was read cannot be written down.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
}

/// The provider's daemon.
pub struct Daemon {
    host: Arc<Host>,
    desk: Arc<Desk>,
    account: Address,
    book: JobBook,
    cursor: Cursor,
    /// The first block after the cursor in the journal.
    saved: u64,
    hostings: HashMap<JobId, Hosting>,
    tasks: Tasks,
    next_look: Instant,
    is_chain_lost: bool,
    /// Whether all that the chain has was read, and nothing of it undone since. Before that, a job that is not in the
    /// book may well be open, and one that is open in the book may be over.
    has_read: bool,
    /// Whether it is known how old the journal is.
    has_age: bool,
    /// Whether what a process left that ended in the middle is gone.
    has_swept: bool,
    /// Whether the transactions that an earlier process signed came to their end.
    has_resumed: bool,
    next_resume: Instant,
    next_forget: Timestamp,
}

impl Daemon {
    /// A daemon for one market, which tells `report` what happens. `profile` is the one that is registered.
    pub fn new(
        ports: Ports,
        market: &Market,
        keys: Keys,
        offer: Offer,
        profile: &Profile,
        report: impl Fn(ProviderEvent) + Send + Sync + 'static,
    ) -> Self {
        let account = ports.writer.account();
        let ledger = Ledger::new(market.domain(), ports.journal.clone(), ports.signer.clone());
        let host = Arc::new(Host {
            ports,
            keys,
            offer,
            ledger,
            holdings: Holdings::default(),
            report: Arc::new(report),
        });
        let desk = Arc::new(Desk::new(host.clone(), account, profile_json(profile)));
        Self {
            host,
            desk,
            account,
            book: JobBook::default(),
            cursor: Cursor::starting_at(market.from_block),
            saved: 0,
            hostings: HashMap::new(),
            tasks: Tasks::default(),
            next_look: Instant::now(),
            is_chain_lost: false,
            has_read: false,
            has_age: false,
            has_swept: false,
            has_resumed: false,
            next_resume: Instant::now(),
            next_forget: Timestamp::default(),
        }
    }

    /// Listens for publishers and agents. An address with port 0 takes a free one.
    pub async fn listen(&self, address: Multiaddr) -> Result<JobServer, ListenError> {
        JobServer::listen(&self.host.keys.identity, address, self.desk.clone()).await
    }

    /// Runs until `stop`. What is under way is cut off: instances go on, transactions are left to the chain, and the
    /// next daemon finds both.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        if let Some((cursor, book)) = self.host.ports.journal.book().await? {
            self.saved = cursor.next();
            (self.cursor, self.book) = (cursor, book);
        }
        self.host.ledger.load().await?;
        self.host.ledger.follow(&self.book);
        let no_meters = CancellationToken::new();
        let meters = tokio::spawn(metering::run(self.host.clone(), no_meters.clone()));
        // Also where this future is dropped.
        let no_meters = no_meters.drop_guard();
        let ended = self.follow_chain(stop).await;
        self.tasks.shutdown().await;
        drop(no_meters);
        if let Err(failed) = meters.await {
            std::panic::resume_unwind(failed.into_panic());
        }
        ended
    }

    async fn follow_chain(&mut self, stop: CancellationToken) -> Result<(), DaemonError> {
        for instance in self.host.ports.engine.instances().await? {
            self.hostings.insert(instance.job, Hosting::found());
        }
        let mut ticks = interval(self.host.ports.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Cancel-safe: the token keeps its state.
                () = stop.cancelled() => break,
                // Cancel-safe: a finished task stays until it is taken.
                Some((task, done)) = self.tasks.next() => match (task, done) {
                    (Some(task), done) => self.finish(task, done),
                    (None, Some(seen)) => self.seen(seen),
                    (None, None) => {}
                },
                // Cancel-safe: a tick that was not taken comes again.
                _ = ticks.tick() => {
                    // Cut off by `stop` at any point: the cursor moves only together with the book.
                    match stop.run_until_cancelled(self.read()).await {
                        Some(read) => read?,
                        None => break,
                    }
                    // Cut off as well: the next daemon goes on with it.
                    match stop.run_until_cancelled(self.forget()).await {
                        Some(forgotten) => forgotten?,
                        None => break,
                    }
                    self.look();
                    self.resume();
                }
            }
            if self.has_read {
                self.start_duties();
            }
        }
        Ok(())
    }

    /// Begins to bring to an end what an earlier process has signed.
    fn resume(&mut self) {
        let now = Instant::now();
        if self.has_resumed || self.tasks.is_resuming() || now < self.next_resume {
            return;
        }
        self.next_resume = now + RESUME_AGAIN;
        let host = self.host.clone();
        self.tasks.resume(async move { Done::Resumed(host.ports.writer.resume().await.map(drop)) });
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
                    self.host.ledger.see_head(batch.head, Instant::now().into_std());
                    if batch.cursor == self.cursor {
                        self.has_read = true;
                        self.host.ledger.read_up_to(Some(batch.head));
                        if let Some(last) = self.cursor.last()
                            && !self.has_age
                        {
                            self.host.ledger.learn_age(last.number).await?;
                            self.has_age = true;
                        }
                        return Ok(());
                    }
                    if batch.undone_from.is_some() {
                        self.has_read = false;
                        self.host.ledger.read_up_to(None);
                    }
                    self.cursor = batch.cursor.clone();
                    self.tell_all(&batch);
                    let changes = self.book.apply(batch);
                    self.save(&changes).await?;
                    self.host.ledger.close(&changes.closed);
                    self.host.ledger.follow(&self.book);
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

    /// Writes down what a batch changed, with its cursor. Batches without effect are read again after a crash.
    async fn save(&mut self, changes: &BookChanges) -> Result<(), DaemonError> {
        let BookChanges { changed, closed } = changes;
        let next = self.cursor.next();
        if changed.is_empty() && next.saturating_sub(self.saved) < SAVE_EVERY {
            return Ok(());
        }
        let record = |job: &JobId| (*job, self.book.job(*job).cloned());
        let changed = changed.iter().map(record).collect();
        self.host.ports.journal.save_book(&self.cursor, changed, closed).await?;
        self.saved = next;
        Ok(())
    }

    /// Forgets a part of what was closed long ago, where that is due.
    async fn forget(&mut self) -> Result<(), DaemonError> {
        let Some((head, _)) = self.host.ledger.times() else { return Ok(()) };
        if head >= self.next_forget && !self.host.ledger.forget(head).await? {
            self.next_forget = head.after(FORGET_AGAIN);
        }
        Ok(())
    }

    /// Begins to look for instances that ended.
    fn look(&mut self) {
        let now = Instant::now();
        if self.tasks.is_looking() || now < self.next_look {
            return;
        }
        self.next_look = now + LOOK;
        let running: Vec<_> = self
            .hostings
            .iter()
            .filter(|(_, hosting)| hosting.presence == Presence::Running)
            .map(|(job, _)| *job)
            .collect();
        let is_settled = self.has_read && !self.hostings.values().any(|hosting| hosting.is_found);
        let host = self.host.clone();
        if is_settled && !self.has_swept {
            self.tasks.look(async move { Done::Swept(host.sweep().await) });
            return;
        }
        self.tasks.look(async move {
            let mut ended = Vec::new();
            for job in running {
                let id = InstanceId::first(job);
                match timeout(GLANCE, host.ports.engine.observe(&id)).await {
                    Ok(Ok(Some(observed))) => match observed.phase {
                        Phase::Running => host.ledger.saw_running(job),
                        Phase::Frozen => {}
                        Phase::Exited { status, .. } => {
                            host.stopped(job).await;
                            ended.push((job, status));
                        }
                    },
                    Ok(Ok(None)) => {
                        host.stopped(job).await;
                        ended.push((job, None));
                    }
                    // Not to see an instance is no reason to touch it.
                    Ok(Err(error)) => tracing::warn!(%job, %error, "its instance cannot be seen"),
                    Err(_) => tracing::warn!(%job, "its instance cannot be seen in time"),
                }
            }
            Done::Looked(ended)
        });
    }

    /// Takes in what a look around has seen.
    fn seen(&mut self, seen: Done) {
        match seen {
            Done::Swept(Ok(is_swept)) => self.has_swept = is_swept,
            Done::Swept(Err(error)) => {
                tracing::warn!(%error, "what an earlier process left cannot be removed");
            }
            Done::Looked(ended) => {
                for (job, status) in ended {
                    let is_busy = self.tasks.of(job).is_some();
                    if let Some(hosting) = self.hostings.get_mut(&job)
                        && hosting.presence == Presence::Running
                        && !is_busy
                    {
                        hosting.ended(Instant::now());
                        self.host.tell(ProviderEvent::Exited { job, status });
                    }
                }
            }
            Done::Resumed(Ok(())) => self.has_resumed = true,
            Done::Resumed(Err(error)) => self.tell(ProviderEvent::ResumeFailed { error }),
            Done::Deployed(_) | Done::Removed(_) | Done::Called(_) => {}
        }
    }

    fn tell(&self, event: ProviderEvent) {
        self.host.tell(event);
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
                JobEvent::Settled { paid, until } => {
                    self.tell(ProviderEvent::Settled { job, paid: *paid, until: *until });
                }
                JobEvent::ToppedUp { deposit } => {
                    self.tell(ProviderEvent::ToppedUp { job, deposit: *deposit });
                }
            }
        }
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Daemon").field("account", &self.account).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
