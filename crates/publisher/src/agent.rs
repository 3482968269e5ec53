//! The agent: accepts the bills of every job that names its key as signer.
//!
//! ```text
//!  chain ── events after the cursor ──> book ──┬── a task for each job that lives and whose plan is known ──> provider
//!                                              ├── no plan: ignored until it is adopted
//!                                              └── closed: its last receipts are looked for, then finished
//! ```
//!
//! Cursor and book are durable together, and each task writes a receipt and the voucher for it down together before the
//! voucher goes out. A crash loses nothing but what is asked for again: after it everything goes on from the journal.
//! Jobs share the chain's clock and the limit for all of them, nothing else, so what one provider does harms no other.

mod budget;
mod event;
mod follow;
mod seats;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use roadstead_abi::job_id;
use roadstead_core::{
    ChainClock, ClosedJob, Cursor, Follower, JobBook, JobRecord,
    ports::{ChainError, ChainEvents, ChainReader, EventFilter, JobLink, Party, Signer},
    rate_per_hour,
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{Domain, JobId, JobKey, JobPlan, Seconds, TokenAmount};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::line::Speaker;
use budget::Budget;
pub use event::AgentEvent;
pub use follow::FollowError;
use follow::{Follow, Office, Standing};
use seats::Seats;

/// The longest hint where a bundle is, in bytes, as the contract has it.
const MAX_SOURCE: usize = 256;

/// How long after the close providers answer for a job.
const ANSWERED: Seconds = Seconds::from_hours(90 * 24);

/// What an agent needs from the world.
#[derive(Clone)]
pub struct AgentPorts {
    /// Follows jobs on chain.
    pub events: Arc<dyn ChainEvents>,
    /// Reads the chain's newest state.
    pub reader: Arc<dyn ChainReader>,
    /// How often the chain is asked for news.
    pub poll_interval: Duration,
    /// Asks providers.
    pub link: Arc<dyn JobLink>,
    /// Keeps how far the chain was read, receipts and vouchers.
    pub journal: Journal,
    /// Accepts the bills.
    pub signer: Arc<dyn Signer>,
    /// Where its signatures count.
    pub domain: Domain,
    /// The first block that can hold an event of the market.
    pub from_block: u64,
}

impl std::fmt::Debug for AgentPorts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AgentPorts").field("account", &self.signer.address()).finish()
    }
}

/// What an agent accepts at most, in token base units, besides each job's deposit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentLimits {
    /// For one job.
    pub per_job: Option<TokenAmount>,
    /// For all jobs that it ever followed.
    pub all: Option<TokenAmount>,
}

/// Why an agent gave up. What it accepted stays accepted, and a new one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The chain's history makes no sense any more.
    #[error("the chain cannot be followed any further")]
    Chain(#[from] ChainError),
    /// Nothing can be signed that cannot be written down.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
}

/// Why a plan was not adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its terms belong to another job, or to another market.
    #[error("the plan's terms do not belong to its job in this market")]
    Another,
    /// Whoever gave it took the prices for others than the terms allow.
    #[error("the plan's prices come to more than the {limit} token units an hour of its terms")]
    TooDear {
        /// What one hour may cost at most.
        limit: TokenAmount,
    },
    /// No contract keeps such a hint.
    #[error(
        "where the plan says that its bundle is has {length} bytes or what no address has; {MAX_SOURCE} bytes are the most"
    )]
    Source {
        /// In bytes.
        length: usize,
    },
    /// Bills may have been accepted by the one that is known.
    #[error("another plan of job {job} is known already, and stays")]
    Known {
        /// Which job.
        job: JobId,
    },
    /// It is not kept.
    #[error("the plan cannot be kept")]
    Journal(#[from] JournalError),
}

/// Makes a plan known to the agent that has this journal, so that it follows the job. A plan that is known already may be
/// given again; another one for the same job is refused.
pub async fn adopt(journal: &Journal, domain: &Domain, plan: &JobPlan) -> Result<(), AdoptError> {
    if !is_of(plan, domain) {
        return Err(AdoptError::Another);
    }
    let limit = plan.terms.rate_per_hour;
    let rate = rate_per_hour(&plan.tariff.reservation, &plan.tariff.prices);
    if rate.is_none_or(|rate| rate > limit) {
        return Err(AdoptError::TooDear { limit });
    }
    if plan.source.len() > MAX_SOURCE || plan.source.chars().any(char::is_control) {
        return Err(AdoptError::Source { length: plan.source.len() });
    }
    if journal.keep_plan(plan).await? {
        return Ok(());
    }
    Err(AdoptError::Known { job: plan.key.job })
}

fn is_of(plan: &JobPlan, domain: &Domain) -> bool {
    let (chain, contract) = (domain.chain, domain.contract);
    plan.key == JobKey { chain, contract, job: job_id(domain, &plan.terms) }
}

/// The agent of one signer.
pub struct Agent {
    ports: AgentPorts,
    office: Arc<Office>,
    clock: watch::Sender<ChainClock>,
    book: JobBook,
    cursor: Cursor,
    plans: BTreeMap<JobId, JobPlan>,
    ignored: BTreeSet<JobId>,
    /// Closed jobs whose close cannot be undone any more and whose last receipts may be missing.
    left: BTreeMap<JobId, ClosedJob>,
    finished: BTreeSet<JobId>,
    following: HashMap<JobId, Following>,
    tasks: JoinSet<()>,
    is_chain_lost: bool,
    /// Whether all that the chain has was read. Before that, a job that is open in the book may well be over.
    has_read: bool,
}

/// The task of one job.
struct Following {
    standing: watch::Sender<Standing>,
    task: AbortHandle,
}

impl Agent {
    /// An agent that tells `report` what happens.
    pub fn new(
        ports: AgentPorts,
        limits: AgentLimits,
        report: impl Fn(AgentEvent) + Send + Sync + 'static,
    ) -> Self {
        let clock = watch::Sender::new(ChainClock::default());
        let office = Office {
            speaker: Speaker {
                link: ports.link.clone(),
                reader: ports.reader.clone(),
                signer: ports.signer.clone(),
                domain: ports.domain,
            },
            journal: ports.journal.clone(),
            budget: Budget::new(limits),
            seats: Seats::default(),
            poll_interval: ports.poll_interval,
            clock: clock.subscribe(),
            report: Box::new(report),
        };
        Self {
            cursor: Cursor::starting_at(ports.from_block),
            ports,
            office: Arc::new(office),
            clock,
            book: JobBook::default(),
            plans: BTreeMap::new(),
            ignored: BTreeSet::new(),
            left: BTreeMap::new(),
            finished: BTreeSet::new(),
            following: HashMap::new(),
            tasks: JoinSet::new(),
            is_chain_lost: false,
            has_read: false,
        }
    }

    /// Runs until `stop`. What is under way is cut off, and the next agent finds all that was accepted.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), AgentError> {
        // Cut off at any point: nothing counts that is not in the journal.
        let ended = stop.run_until_cancelled(self.work()).await;
        self.tasks.shutdown().await;
        ended.unwrap_or(Ok(()))
    }

    async fn work(&mut self) -> Result<(), AgentError> {
        if let Some((cursor, book)) = self.ports.journal.book().await? {
            (self.cursor, self.book) = (cursor, book);
        }
        for (job, follower) in self.ports.journal.followers().await? {
            self.office.budget.note(job, follower.accepted());
            if follower.is_complete() {
                self.finished.insert(job);
            }
        }
        let closed = self.ports.journal.closed().await?.into_iter();
        let closed = closed.filter(|closed| !self.finished.contains(&closed.job));
        self.left = closed.map(|closed| (closed.job, closed)).collect();
        self.read_plans().await?;
        let mut ticks = interval(self.ports.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.read().await?;
            if self.has_read {
                self.staff().await?;
            }
        }
    }

    /// Takes in everything that happened since the last time.
    async fn read(&mut self) -> Result<(), AgentError> {
        loop {
            let jobs = self.book.jobs().map(|(id, _)| id).collect();
            let party = Party::Signer(self.ports.signer.address());
            let filter = EventFilter { party, jobs };
            let batch = match self.ports.events.events_after(&self.cursor, &filter).await {
                Ok(batch) => batch,
                Err(error) if error.is_retryable() => {
                    if !std::mem::replace(&mut self.is_chain_lost, true) {
                        self.tell(AgentEvent::ChainLost { error });
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            if std::mem::take(&mut self.is_chain_lost) {
                self.tell(AgentEvent::ChainBack);
            }
            let seen = Instant::now().into_std();
            self.clock.send_modify(|clock| clock.see(batch.head, seen));
            if batch.cursor == self.cursor {
                self.has_read = true;
                return Ok(());
            }
            let cursor = batch.cursor.clone();
            let mut changes = self.book.apply(batch);
            // Of what strangers name this agent in nothing is kept.
            changes.closed.retain(|closed| {
                self.plans.contains_key(&closed.job) && !self.finished.contains(&closed.job)
            });
            let changed = changes.changed.iter();
            let records = changed.map(|job| (*job, self.book.job(*job).cloned())).collect();
            self.ports.journal.save_book(&cursor, records, &changes.closed).await?;
            self.cursor = cursor;
            self.left.extend(changes.closed.into_iter().map(|closed| (closed.job, closed)));
            for job in changes.changed {
                self.pass_on(job);
            }
        }
    }

    /// Lets the task of a job know that something happened to it.
    fn pass_on(&mut self, job: JobId) {
        let Some(following) = self.following.get(&job) else { return };
        match self.record(job) {
            Some(record) => {
                following.standing.send_replace(record.into());
            }
            // Its opening was undone.
            None => following.task.abort(),
        }
    }

    fn record(&self, job: JobId) -> Option<&JobRecord> {
        self.book.job(job).or_else(|| self.left.get(&job).map(|closed| &closed.record))
    }

    async fn read_plans(&mut self) -> Result<(), JournalError> {
        let plans = self.ports.journal.plans().await?.into_iter();
        let plans = plans.filter(|plan| is_of(plan, &self.ports.domain));
        self.plans = plans.map(|plan| (plan.key.job, plan)).collect();
        Ok(())
    }

    /// Sees to it that every job that lives, or may miss a receipt, has its task.
    async fn staff(&mut self) -> Result<(), AgentError> {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "the task of a job failed, and is begun anew");
            }
        }
        self.finish();
        if self.book.jobs().any(|(job, _)| !self.plans.contains_key(&job)) {
            self.read_plans().await?;
        }
        let now = self.clock.borrow().head().unwrap_or_default();
        self.left.retain(|_, closed| closed.closed_at.after(ANSWERED) > now);
        let in_book = self.book.jobs().map(|(job, _)| job);
        let unstaffed: Vec<_> = in_book
            .chain(self.left.keys().copied())
            .filter(|job| !self.following.contains_key(job))
            .filter_map(|job| Some((job, Standing::from(self.record(job)?))))
            .filter(|(job, standing)| !standing.is_over || !self.finished.contains(job))
            .collect();
        let is_planned = |(job, _): &(JobId, Standing)| self.plans.contains_key(job);
        let mut followers: BTreeMap<JobId, Follower> = if unstaffed.iter().any(is_planned) {
            self.ports.journal.followers().await?.into_iter().collect()
        } else {
            BTreeMap::new()
        };
        for (job, standing) in unstaffed {
            let is_over = standing.is_over;
            if !is_over {
                self.finished.remove(&job);
            }
            let (Some(record), Some(plan)) = (self.record(job), self.plans.get(&job)) else {
                if !is_over && self.ignored.insert(job) {
                    self.tell(AgentEvent::Ignored { job });
                }
                continue;
            };
            let follower = followers.remove(&job);
            let follower = follower.unwrap_or_else(|| Follower::new(job, plan.tariff));
            let (standing, news) = watch::channel(standing);
            let (office, terms) = (self.office.clone(), record.terms().clone());
            let follow = Follow::new(office, terms, follower, plan.deposit, news);
            if !is_over {
                self.tell(AgentEvent::Following { job });
            }
            let task = self.tasks.spawn(follow.run());
            self.following.insert(job, Following { standing, task });
        }
        Ok(())
    }

    /// Takes leave of tasks that ended, and tells of jobs that are over.
    fn finish(&mut self) {
        let ended = self.following.extract_if(|_, following| following.task.is_finished());
        for (job, following) in ended.collect::<Vec<_>>() {
            let Standing { paid, is_over, .. } = *following.standing.borrow();
            if is_over && self.record(job).is_some() {
                self.finished.insert(job);
                self.left.remove(&job);
                self.tell(AgentEvent::Finished { job, paid });
            }
        }
    }

    fn tell(&self, event: AgentEvent) {
        (self.office.report)(event);
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Agent").field("ports", &self.ports).finish_non_exhaustive()
    }
}
