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
mod late;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alloy_primitives::Address;
use roadstead_core::{
    ChainClock, Follower, JobRecord,
    ports::SignError,
    protocol::{Denial, JobPhase, JobSync, MAX_RECEIPTS, RefusalCode, Request, Restore, State},
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{JobId, JobStatus, Terms, Timestamp, TokenAmount};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{budget::Budget, event::AgentEvent, seats::Seats};
use crate::line::{Line, Speaker, TalkError};
use judge::Taken;

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

/// A provider that does not know the job yet may still have to read of its opening: for so long nobody is told.
const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// The pause of a job that finds no seat: half of its interval, and within these.
const BRIEF_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

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
    pub(super) seats: Seats,
    /// How often the chain is asked for news, by providers as well.
    pub(super) poll_interval: Duration,
    pub(super) clock: watch::Receiver<ChainClock>,
    pub(super) report: Box<dyn Fn(AgentEvent) + Send + Sync>,
}

/// Where a job stands on chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    deposit: TokenAmount,
    pub(super) paid: TokenAmount,
    opened_at: Timestamp,
    pub(super) is_over: bool,
}

impl From<&JobRecord> for Standing {
    fn from(record: &JobRecord) -> Self {
        let job = record.job();
        let is_over = job.status() == JobStatus::Closed;
        let (deposit, paid) = (job.deposit, job.paid);
        Self { deposit, paid, opened_at: record.opened_at(), is_over }
    }
}

/// What was told of a job last.
type Shown = (JobPhase, BTreeMap<u16, String>, Option<String>);

/// What became of one question.
enum Round {
    /// Its answer is still to come.
    Again,
    /// Receipts were accepted, and there may be more.
    Accepted,
    /// All that came was refused.
    Refused,
    /// Nothing more is to be done for so long.
    Rest(Duration),
    /// The provider says that the job is over, and it has no more receipts.
    Last,
}

/// A job that is being followed.
pub(super) struct Follow {
    office: Arc<Office>,
    job: JobId,
    terms: Terms,
    follower: Follower,
    /// The most that is known to have been put in.
    deposit: TokenAmount,
    news: watch::Receiver<Standing>,
    line: Line,
    begun: Instant,
    /// Who signed for the provider, when that was asked last.
    operator: Option<Address>,
    /// The revision of the newest state that was taken in.
    known: Option<u64>,
    shown: Option<Shown>,
    /// Whether the provider was given its receipts and has not said yet that it has them.
    has_restored: bool,
    has_answered: bool,
    is_connected: bool,
    is_lost: bool,
    /// Before the next attempt.
    pause: Duration,
    /// How often the last receipts were looked for in vain.
    late_attempts: u32,
}

impl Follow {
    /// `deposit` is what was put in at first.
    pub(super) fn new(
        office: Arc<Office>,
        terms: Terms,
        follower: Follower,
        deposit: TokenAmount,
        news: watch::Receiver<Standing>,
    ) -> Self {
        let line = Line::new(office.speaker.clone(), terms.provider);
        Self {
            office,
            job: follower.job(),
            terms,
            follower,
            deposit,
            news,
            line,
            begun: Instant::now(),
            operator: None,
            known: None,
            shown: None,
            has_restored: false,
            has_answered: false,
            is_connected: false,
            is_lost: false,
            pause: FIRST_PAUSE,
            late_attempts: 0,
        }
    }

    /// Follows the job until it is over and nothing of it is missing.
    pub(super) async fn run(mut self) {
        loop {
            let standing = *self.news.borrow_and_update();
            let rest = if standing.is_over {
                match self.catch_up(standing).await {
                    Some(rest) => rest,
                    None => return,
                }
            } else {
                self.follow(standing).await
            };
            // Whatever happens to the job on chain ends the pause.
            if let Ok(Err(_)) = timeout(rest, self.news.changed()).await {
                return;
            }
        }
    }

    /// One step of a job that lives; says how long to rest before the next one.
    async fn follow(&mut self, standing: Standing) -> Duration {
        self.deposit = standing.deposit;
        self.late_attempts = 0;
        self.follower.set_complete(false);
        let round = match self.round(standing).await {
            Ok(Round::Again) => return Duration::ZERO,
            Ok(round) => round,
            Err(error) => return self.fail(error),
        };
        self.is_lost = false;
        if !std::mem::replace(&mut self.is_connected, true) {
            self.tell(AgentEvent::Connected { job: self.job });
        }
        if !matches!(round, Round::Refused) {
            self.pause = FIRST_PAUSE;
        }
        match round {
            Round::Again | Round::Accepted => Duration::ZERO,
            Round::Refused => self.longer_pause(LONGEST_PAUSE),
            Round::Rest(rest) => rest,
            // The chain does not say so yet.
            Round::Last => self.brief_pause(),
        }
    }

    fn fail(&mut self, error: FollowError) -> Duration {
        self.forget_state();
        let denial = match &error {
            FollowError::Talk(TalkError::Denied(denial)) => Some(*denial),
            _ => None,
        };
        let is_first = !self.has_answered && self.begun.elapsed() < FIRST_CONTACT;
        if is_first && denial == Some(Denial::Forbidden) {
            return self.office.poll_interval;
        }
        self.is_connected = false;
        if std::mem::replace(&mut self.is_lost, true) {
            tracing::debug!(job = %self.job, %error, "it still cannot be followed");
        } else {
            self.tell(AgentEvent::Lost { job: self.job, error });
        }
        if denial == Some(Denial::Busy) {
            return self.brief_pause();
        }
        self.longer_pause(LONGEST_PAUSE)
    }

    fn forget_state(&mut self) {
        self.known = None;
        self.has_restored = false;
    }

    fn longer_pause(&mut self, longest: Duration) -> Duration {
        let next = longest.min(self.pause * 2);
        std::mem::replace(&mut self.pause, next)
    }

    /// The pause after an answer that the provider did not hold back.
    fn brief_pause(&self) -> Duration {
        let (shortest, longest) = BRIEF_PAUSES;
        (Duration::from(self.follower.tariff().interval) / 2).clamp(shortest, longest)
    }

    /// Asks once and takes the answer in.
    async fn round(&mut self, standing: Standing) -> Result<Round, FollowError> {
        self.make_up(standing).await?;
        let now = self.now().await;
        let seat = self.known.and_then(|_| self.office.seats.take(self.terms.provider));
        let is_brief = self.known.is_some() && seat.is_none();
        let question = Request::Sync(JobSync {
            job: self.job,
            head: self.follower.head().map(|head| (head.seq, head.root)),
            voucher: self.follower.voucher().copied(),
            refusal: self.follower.refusal().cloned(),
            known: self.known.filter(|_| seat.is_some()),
        });
        let mut news = self.news.clone();
        let state = tokio::select! {
            // Cancel-safe: a question that is dropped is asked again.
            state = self.ask(now, question) => state?,
            // Cancel-safe: the news stay until they are looked at.
            Ok(()) = news.changed() => {
                self.known = None;
                return Ok(Round::Again);
            }
        };
        drop(seat);
        self.has_answered = true;
        self.show(&state);
        if state.restore {
            self.restore(now).await?;
            return Ok(Round::Again);
        }
        if std::mem::take(&mut self.has_restored) {
            self.tell(AgentEvent::Restored { job: self.job });
        }
        let is_news = self.known != Some(state.revision);
        let taken = self.take(&state.receipts, standing).await?;
        self.known = Some(state.revision).filter(|_| !(state.more && taken == Taken::Accepted));
        let is_last = state.phase == JobPhase::Closed && !state.more;
        Ok(match taken {
            Taken::Accepted => Round::Accepted,
            Taken::Nothing if is_last => Round::Last,
            // What was refused for its time alone may be right later.
            Taken::Refused if is_last && !self.is_untimely() => Round::Last,
            Taken::Refused => Round::Refused,
            Taken::Nothing if is_brief => Round::Rest(self.brief_pause()),
            Taken::Nothing if is_news => Round::Rest(NEWS_PAUSE),
            Taken::Nothing => Round::Rest(IDLE_PAUSE),
        })
    }

    fn is_untimely(&self) -> bool {
        self.follower.refusal().is_some_and(|refusal| refusal.code == RefusalCode::Time)
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
            let mut receipts = self.office.journal.receipts(self.job, from, MAX_RECEIPTS).await?;
            let last = receipts.last().map(|signed| signed.receipt.seq);
            let newest = self.follower.head().map(|head| head.seq);
            next = last.filter(|_| last < newest).and_then(|last| last.checked_add(1));
            if next.is_none() {
                // In place of the head's, the newest voucher may be for a receipt of which only a part was right.
                let disputed = self.follower.disputed().copied();
                if receipts.len() < MAX_RECEIPTS {
                    receipts.extend(disputed);
                } else {
                    next = disputed.map(|disputed| disputed.receipt.seq);
                }
            }
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
