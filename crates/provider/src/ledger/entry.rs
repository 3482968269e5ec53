//! One job in the ledger: its account as it is on disk, and what else is known of it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use roadstead_core::{
    JobAccount, JobRecord, MAX_UNACCEPTED, Sighting,
    ports::Usage,
    protocol::{JobPhase, ReceiptRefusal},
};
use roadstead_types::{Job, JobId, Seconds, SignedReceipt, Tariff, Terms, Timestamp};
use tokio::sync::watch;

/// One job.
pub(crate) struct Entry {
    pub(crate) job: JobId,
    facts: Mutex<Facts>,
    /// Held while the account is changed.
    pub(super) turn: tokio::sync::Mutex<Turn>,
    revision: watch::Sender<u64>,
    /// How many questions are kept open.
    holds: AtomicUsize,
}

/// The most questions about one job that are kept open at once.
const MAX_HOLDS: usize = 4;

/// A place among the questions that are kept open.
pub(crate) struct Hold<'a>(&'a AtomicUsize);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whose turn it is to change the account, and what of it is half way.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Receipts that were lost and came back so far, from number 0 on.
    pub(super) given_back: Vec<SignedReceipt>,
}

/// What is known of one job.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) terms: Terms,
    /// The block that opened it.
    pub(crate) opened_in: u64,
    /// Its slot on chain; absent where its opening was undone.
    pub(crate) slot: Job,
    /// Whether its close cannot be undone any more: its account stays as it is.
    pub(crate) is_over: bool,
    pub(crate) opened_at: Timestamp,
    pub(crate) phase: JobPhase,
    pub(crate) urls: BTreeMap<u16, String>,
    /// As it is in the journal.
    pub(crate) account: Option<JobAccount>,
    /// Whether its instance is there to be metered.
    pub(crate) is_here: bool,
    /// When its instance was last seen to run by this process.
    pub(crate) seen_running_at: Option<Timestamp>,
    /// Whether the engine has frozen it for money; `None` where that is not known.
    pub(crate) is_frozen: Option<bool>,
    /// Whether its publisher ordered it away.
    pub(crate) is_ordered_away: bool,
    /// Where there is no account: that receipts were, or may have been, signed which the journal does not have.
    pub(crate) gap: Option<Gap>,
    /// That somebody says to hold newer receipts, or, where there is no account yet, any.
    pub(crate) claim: Option<Claim>,
    /// Why its agent does not accept a receipt.
    pub(crate) refusal: Option<ReceiptRefusal>,
}

/// Receipts that the journal has lost. Until they are back nothing is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) tariff: Tariff,
    pub(crate) since: Timestamp,
    /// Whether some were signed for sure. Otherwise it does if the job's signer holds none.
    pub(crate) is_sure: bool,
}

/// Somebody says to hold newer receipts than the journal. For a minute nothing is signed, so that they can be shown; they
/// count whenever they are. Shown or not, the claim is not believed again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    since: Timestamp,
}

/// How long the receipts of a claim are waited for, in chain time.
const CLAIM_PATIENCE: Seconds = Seconds(60);

/// Whether an instance is the one that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It was started now.
    New,
    /// It ran before.
    Adopted,
}

impl Entry {
    pub(super) fn new(
        job: JobId,
        record: &JobRecord,
        account: Option<JobAccount>,
        is_ordered_away: bool,
        epoch: u64,
    ) -> Self {
        let facts = Facts {
            terms: record.terms().clone(),
            opened_in: record.opened_in().number,
            slot: record.job(),
            is_over: false,
            opened_at: record.opened_at(),
            phase: JobPhase::Seen,
            urls: BTreeMap::new(),
            account,
            is_here: false,
            seen_running_at: None,
            is_frozen: None,
            is_ordered_away,
            gap: None,
            claim: None,
            refusal: None,
        };
        let revision = watch::Sender::new(epoch);
        let (facts, turn, holds) = (Mutex::new(facts), Default::default(), AtomicUsize::new(0));
        Self { job, facts, turn, revision, holds }
    }

    /// What is known, for whoever waits for something while looking at it.
    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Asks something of what is known. No other entry is to be asked meanwhile.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Facts) -> T) -> T {
        ask(&lock(&self.facts))
    }

    /// Changes what is known. Whoever waits for news is told when `change` says so.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts) -> bool) {
        let is_news = change(&mut lock(&self.facts));
        if is_news {
            self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        }
    }

    /// A place to keep a question open, if there is one; nothing happens any more to a job that is over.
    pub(crate) fn hold(&self) -> Option<Hold<'_>> {
        if self.ask(|facts| facts.is_over) {
            return None;
        }
        let hold = Hold(&self.holds);
        let before = self.holds.fetch_add(1, Ordering::AcqRel);
        (before < MAX_HOLDS).then_some(hold)
    }

    /// Tells of changes.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl Facts {
    /// Whether nothing is to be signed for now, because somebody may be about to show newer receipts.
    pub(crate) fn is_claimed(&self, now: Timestamp) -> bool {
        self.claim.is_some_and(|claim| now.since(claim.since) < CLAIM_PATIENCE)
    }

    /// Lets an account see that its instance has ended, with its last counters if they are known: it ran up to when it was
    /// last seen.
    pub(crate) fn see_end(&self, account: &mut JobAccount, now: Timestamp, usage: Option<Usage>) {
        if let (Some(seen_at), false) = (self.seen_running_at, account.is_paused()) {
            account.see(seen_at, Sighting::Running(usage.unwrap_or_default()));
        }
        account.see(now, Sighting::Stopped(usage));
    }

    /// Since when receipts are missed that were signed for sure.
    pub(crate) fn missing_since(&self) -> Option<Timestamp> {
        self.gap.filter(|gap| gap.is_sure).map(|gap| gap.since)
    }

    /// Whether receipts should be given back.
    pub(crate) fn wants_receipts(&self, now: Timestamp) -> bool {
        self.missing_since().is_some() || self.is_claimed(now)
    }
}

impl Claim {
    pub(crate) const fn made_at(since: Timestamp) -> Self {
        Self { since }
    }
}

impl Gap {
    /// Whether the provider has served without a meter for as long as it ever does.
    pub(crate) fn is_long(&self, now: Timestamp) -> bool {
        let bound = self.tariff.interval.0.saturating_mul(MAX_UNACCEPTED);
        now.since(self.since) >= Seconds(bound)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody panics while holding one of these; what is inside is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
