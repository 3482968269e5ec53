//! One job in the ledger: its account as it is on disk, and what else is known of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roadstead_core::{
    JobAccount, JobRecord, MAX_UNACCEPTED,
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
    /// Whether the engine has frozen it for money; `None` where that is not known.
    pub(crate) is_frozen: Option<bool>,
    /// Whether it was ordered away before it had an account.
    pub(crate) is_ordered_away: bool,
    /// That receipts were signed which the journal does not have.
    pub(crate) gap: Option<Gap>,
    /// Why its agent does not accept a receipt.
    pub(crate) refusal: Option<ReceiptRefusal>,
}

/// Receipts that the journal has lost. Until they are back nothing is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) tariff: Tariff,
    pub(crate) since: Timestamp,
}

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
        epoch: u64,
    ) -> Self {
        let facts = Facts {
            terms: record.terms().clone(),
            slot: record.job(),
            is_over: false,
            opened_at: record.opened_at(),
            phase: JobPhase::Seen,
            urls: BTreeMap::new(),
            account,
            is_here: false,
            is_frozen: None,
            is_ordered_away: false,
            gap: None,
            refusal: None,
        };
        let revision = watch::Sender::new(epoch);
        Self { job, facts: Mutex::new(facts), turn: Default::default(), revision }
    }

    /// What is known.
    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Changes what is known. Whoever waits for news is told when `change` says so.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts) -> bool) {
        let is_news = change(&mut lock(&self.facts));
        if is_news {
            self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        }
    }

    /// Tells of changes.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
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
