//! One job's task: asks its provider for ever, judges what comes, and signs.
//!
//! ```text
//!        ┌──────────── Sync(head, voucher) ───────────> provider
//!        │                                                 │ State
//!        │    each receipt: examine ─> sign ─> journal <───┤ receipts
//!        │                                                 │ restore
//!        └──── Restore(all receipts, voucher) <────────────┘
//! ```
//!
//! A voucher leaves this process only after it and its receipt are in the journal, in one step. Cut off before that step,
//! the receipt comes again and the same bytes are signed; cut off after it, the next task goes on with them. Whatever the
//! provider does wrong is answered by asking more and more rarely.

mod judge;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy_primitives::Address;
use roadstead_core::{
    ChainClock, Follower, JobRecord,
    ports::SignError,
    protocol::{JobPhase, JobSync, MAX_RECEIPTS, Request, Restore, State},
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{JobId, JobStatus, Terms, Timestamp, TokenAmount};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{budget::Budget, event::AgentEvent};
use crate::line::{Line, Speaker, TalkError};

/// After the first failure, before the next attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// After an answer that brought nothing new, which a provider with nothing to say holds back by itself.
const IDLE_PAUSE: Duration = Duration::from_secs(1);

/// After an answer that brought news but no receipt, so that nobody is asked without end.
const NEWS_PAUSE: Duration = Duration::from_millis(100);

/// The longest that an answer is waited for: more than a provider holds a question.
const ANSWER: Duration = Duration::from_secs(60);

/// Why a job cannot be followed for now.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Its provider does not answer as it should.
    #[error(transparent)]
    Talk(#[from] TalkError),
    /// It is reached and says nothing.
    #[error("the provider gave no answer in {} s", ANSWER.as_secs())]
    TooSlow,
    /// Nothing was signed.
    #[error("the bill was not signed")]
    Sign(#[from] SignError),
    /// Nothing could be written down.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
}

/// What the tasks of an agent share.
pub(super) struct Office {
    pub(super) speaker: Speaker,
    pub(super) journal: Journal,
    pub(super) budget: Budget,
    pub(super) clock: watch::Receiver<ChainClock>,
    pub(super) report: Box<dyn Fn(AgentEvent) + Send + Sync>,
}

/// Where a job stands on chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    deposit: TokenAmount,
    opened_at: Timestamp,
    is_over: bool,
}

impl From<&JobRecord> for Standing {
    fn from(record: &JobRecord) -> Self {
        let job = record.job();
        let is_over = job.status() == JobStatus::Closed;
        Self { deposit: job.deposit, opened_at: record.opened_at(), is_over }
    }
}

/// What was told of a job last.
type Shown = (JobPhase, BTreeMap<u16, String>, Option<String>);

/// A job that is being followed.
pub(super) struct Follow {
    office: Arc<Office>,
    job: JobId,
    terms: Terms,
    follower: Follower,
    news: watch::Receiver<Standing>,
    line: Line,
    /// Who signed for the provider, when that was asked last.
    operator: Option<Address>,
    /// The revision of the newest state that was taken in.
    known: Option<u64>,
    shown: Option<Shown>,
    /// Whether the provider was given its receipts and has not said yet that it has them.
    has_restored: bool,
}

impl Follow {
    pub(super) fn new(
        office: Arc<Office>,
        terms: Terms,
        follower: Follower,
        news: watch::Receiver<Standing>,
    ) -> Self {
        let line = Line::new(office.speaker.clone(), terms.provider);
        Self {
            office,
            job: follower.job(),
            terms,
            follower,
            news,
            line,
            operator: None,
            known: None,
            shown: None,
            has_restored: false,
        }
    }

    /// Follows the job until it is over.
    pub(super) async fn run(mut self) {
        let (mut is_connected, mut is_lost) = (false, false);
        let mut pause = FIRST_PAUSE;
        loop {
            let standing = *self.news.borrow_and_update();
            if standing.is_over {
                return;
            }
            let rest = match self.round(standing).await {
                Ok(Some(rest)) => {
                    if !std::mem::replace(&mut is_connected, true) {
                        self.tell(AgentEvent::Connected { job: self.job });
                    }
                    (is_lost, pause) = (false, FIRST_PAUSE);
                    rest
                }
                Ok(None) => continue,
                Err(error) => {
                    self.known = None;
                    self.has_restored = false;
                    is_connected = false;
                    if std::mem::replace(&mut is_lost, true) {
                        tracing::debug!(job = %self.job, %error, "it still cannot be followed");
                    } else {
                        self.tell(AgentEvent::Lost { job: self.job, error });
                    }
                    let next = LONGEST_PAUSE.min(pause * 2);
                    std::mem::replace(&mut pause, next)
                }
            };
            // Whatever happens to the job on chain ends the pause.
            if let Ok(Err(_)) = timeout(rest, self.news.changed()).await {
                return;
            }
        }
    }

    /// Asks once and takes the answer in; says how long to rest before the next time. `None` where the answer is still
    /// to come.
    async fn round(&mut self, standing: Standing) -> Result<Option<Duration>, FollowError> {
        self.make_up(standing).await?;
        let now = self.now().await;
        let question = Request::Sync(JobSync {
            job: self.job,
            head: self.follower.head().map(|head| (head.seq, head.root)),
            voucher: self.follower.voucher().copied(),
            refusal: self.follower.refusal().cloned(),
            known: self.known,
        });
        let mut news = self.news.clone();
        let state = tokio::select! {
            // Cancel-safe: a question that is dropped is asked again.
            state = self.ask(now, question) => state?,
            // Cancel-safe: the news stay until they are looked at.
            Ok(()) = news.changed() => {
                self.known = None;
                return Ok(None);
            }
        };
        self.show(&state);
        if state.restore {
            self.restore(now).await?;
            return Ok(None);
        }
        if std::mem::take(&mut self.has_restored) {
            self.tell(AgentEvent::Restored { job: self.job });
        }
        let is_news = self.known != Some(state.revision);
        let is_accepted = self.take(&state.receipts, standing).await?;
        self.known = Some(state.revision).filter(|_| !(state.more && is_accepted));
        Ok(Some(match (is_accepted, is_news) {
            (true, _) => Duration::ZERO,
            (false, true) => NEWS_PAUSE,
            (false, false) => IDLE_PAUSE,
        }))
    }

    async fn ask(&mut self, now: Timestamp, question: Request) -> Result<State, FollowError> {
        match timeout(ANSWER, self.line.ask(now, self.job, question)).await {
            Ok(answered) => Ok(answered?),
            Err(_) => {
                self.line.forget();
                Err(FollowError::TooSlow)
            }
        }
    }

    /// The time on the chain, once that is known.
    async fn now(&self) -> Timestamp {
        let mut clock = self.office.clock.clone();
        loop {
            let now = clock.borrow_and_update().now(Instant::now().into_std());
            if let Some(now) = now {
                return now;
            }
            if clock.changed().await.is_err() {
                // The agent is gone, and this task with it.
                std::future::pending::<()>().await;
            }
        }
    }

    fn show(&mut self, state: &State) {
        let found = (state.phase.clone(), state.urls.clone(), state.note.clone());
        if self.shown.as_ref() != Some(&found) {
            self.shown = Some(found);
            self.tell(AgentEvent::State { job: self.job, state: Box::new(state.clone()) });
        }
    }

    /// Gives the provider all its receipts back.
    async fn restore(&mut self, now: Timestamp) -> Result<(), FollowError> {
        if self.has_restored {
            let reason = "it asks for its receipts again as soon as it has them";
            return Err(TalkError::Senseless { reason }.into());
        }
        let mut next = Some(0);
        while let Some(from) = next {
            let receipts = self.office.journal.receipts(self.job, from, MAX_RECEIPTS).await?;
            let last = receipts.last().map(|signed| signed.receipt.seq);
            let newest = self.follower.head().map(|head| head.seq);
            next = last.filter(|_| last < newest).and_then(|last| last.checked_add(1));
            let more = next.is_some();
            let voucher = self.follower.voucher().filter(|_| !more).copied();
            let restore = Restore { job: self.job, receipts, more, voucher };
            self.ask(now, Request::Restore(restore)).await?;
        }
        self.known = None;
        self.has_restored = true;
        Ok(())
    }

    fn tell(&self, event: AgentEvent) {
        (self.office.report)(event);
    }
}
