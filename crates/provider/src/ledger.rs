//! The accounts of the jobs that are hosted here, and what the job protocol tells of them.
//!
//! Every step of an account is taken on a copy, written to the journal together with the receipt that it made, and
//! counts only then. A process that ends in between loses the copy: nothing of it was said to anybody. What is not
//! money (phases, addresses, what is frozen) is learned again.
//!
//! ```text
//!  in the book ── its close cannot be undone ──> closed: only answered for ── 90 days ──> forgotten
//! ```
//!
//! Of a closed job a kilobyte or two are held; its receipts are read from the journal when somebody asks. So memory is
//! bounded by the jobs that the chain closed in that time, each of which cost its publisher a transaction.

mod entry;
mod restore;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Instant,
};

use roadstead_abi::receipt_digest;
use roadstead_core::{
    ChainClock, ClosedJob, JobAccount, JobBook, JobRecord, VoucherProblem,
    ports::{SignError, Signer, Usage},
    protocol::JobPhase,
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{
    Domain, Job, JobId, Receipt, Seconds, SignedReceipt, Tariff, Timestamp, Voucher,
};

use entry::lock;
pub(crate) use entry::{Claim, Entry, Facts, Gap, Life};
pub(crate) use restore::RestoreError;

use crate::event::ProviderEvent;

/// Why a step of an account was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It could not be made durable.
    #[error("the account cannot be written down")]
    Journal(#[from] JournalError),
    /// The receipt was not signed.
    #[error("the receipt cannot be signed")]
    Sign(#[from] SignError),
}

/// All accounts.
pub(crate) struct Ledger {
    pub(crate) domain: Domain,
    pub(crate) journal: Journal,
    signer: Arc<dyn Signer>,
    clock: Mutex<ChainClock>,
    entries: Mutex<HashMap<JobId, Arc<Entry>>>,
    /// Jobs that are over for good, with the times of their closes.
    closed: Mutex<HashMap<JobId, (Timestamp, Arc<Entry>)>>,
    /// Accounts that were kept, of jobs that are not in the book yet.
    kept: Mutex<HashMap<JobId, JobAccount>>,
    /// Jobs that were ordered away.
    ordered: Mutex<HashSet<JobId>>,
    /// The time of the block up to which everything was read.
    read_up_to: Mutex<Option<Timestamp>>,
    /// The newest block when this journal was new.
    born_in: Mutex<Option<u64>>,
    /// Where revisions of this process begin: those of an earlier one mean nothing.
    epoch: u64,
}

/// How long a job is answered for after its close.
const KEPT: Seconds = Seconds::from_hours(90 * 24);

impl Ledger {
    pub(crate) fn new(domain: Domain, journal: Journal, signer: Arc<dyn Signer>) -> Self {
        let epoch = getrandom::u64().unwrap_or_default() >> 16;
        Self {
            domain,
            journal,
            signer,
            clock: Mutex::default(),
            entries: Mutex::default(),
            closed: Mutex::default(),
            kept: Mutex::default(),
            ordered: Mutex::default(),
            read_up_to: Mutex::default(),
            born_in: Mutex::default(),
            epoch,
        }
    }

    /// Takes in the accounts and the closed jobs that an earlier process kept.
    pub(crate) async fn load(&self) -> Result<(), JournalError> {
        let kept = self.journal.accounts().await?;
        lock(&self.kept).extend(kept);
        let ordered = self.journal.ordered().await?;
        lock(&self.ordered).extend(ordered);
        self.close(&self.journal.closed().await?);
        Ok(())
    }

    /// Notes the time of the newest block, which was seen at `at`.
    pub(crate) fn see_head(&self, head: Timestamp, at: Instant) {
        lock(&self.clock).see(head, at);
    }

    /// Notes up to which time everything was read of the chain, or that it is not known.
    pub(crate) fn read_up_to(&self, time: Option<Timestamp>) {
        *lock(&self.read_up_to) = time;
    }

    /// Up to which time everything was read of the chain.
    pub(crate) fn known_time(&self) -> Option<Timestamp> {
        *lock(&self.read_up_to)
    }

    /// Learns in which block the journal was new: in `block`, where it is. For older jobs a lost one may have held receipts.
    pub(crate) async fn learn_age(&self, block: u64) -> Result<(), JournalError> {
        let block = self.journal.born_in(block).await?;
        lock(&self.born_in).get_or_insert(block);
        Ok(())
    }

    /// The time of the newest block, and the time since; `None` before the first.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let clock = lock(&self.clock);
        Some((clock.head()?, clock.now(Instant::now())?))
    }

    /// The time on the chain.
    pub(crate) fn now(&self) -> Option<Timestamp> {
        self.times().map(|(_, now)| now)
    }

    /// Whether a job ran here, as far as its account tells.
    pub(crate) fn has_begun(&self, job: JobId) -> bool {
        let has_begun = |facts: &Facts| facts.account.as_ref().is_some_and(JobAccount::has_begun);
        self.entry(job).is_some_and(|entry| entry.ask(has_begun))
    }

    /// One job, if it is in the book, or closed and not forgotten.
    pub(crate) fn entry(&self, job: JobId) -> Option<Arc<Entry>> {
        let entry = lock(&self.entries).get(&job).cloned();
        entry.or_else(|| lock(&self.closed).get(&job).map(|(_, entry)| entry.clone()))
    }

    /// All jobs in the book.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.entries).values().cloned().collect()
    }

    /// Takes in what the chain says.
    pub(crate) fn follow(&self, book: &JobBook) {
        let mut entries = lock(&self.entries);
        for (job, record) in book.jobs() {
            let entry = entries.entry(job).or_insert_with(|| self.begin(job, record));
            entry.note(|facts| {
                facts.opened_at = record.opened_at();
                std::mem::replace(&mut facts.slot, record.job()) != record.job()
            });
        }
        for (job, entry) in entries.iter() {
            if book.job(*job).is_none() {
                entry.note(|facts| {
                    facts.slot = Job::default();
                    false
                });
            }
        }
    }

    fn begin(&self, job: JobId, record: &JobRecord) -> Arc<Entry> {
        let account = lock(&self.kept).remove(&job);
        let is_ordered_away = lock(&self.ordered).contains(&job);
        Arc::new(Entry::new(job, record, account, is_ordered_away, self.epoch))
    }

    /// Takes in jobs whose close cannot be undone any more. From now on they are only answered for.
    pub(crate) fn close(&self, over: &[ClosedJob]) {
        let mut entries = lock(&self.entries);
        for ClosedJob { job, record, closed_at } in over {
            let entry = entries.get(job).cloned().unwrap_or_else(|| self.begin(*job, record));
            entry.note(|facts| {
                facts.slot = record.job();
                facts.is_over = true;
                true
            });
            // At each moment it is found in one of the two.
            lock(&self.closed).insert(*job, (*closed_at, entry));
            entries.remove(job);
        }
    }

    /// Forgets what has been closed for long enough at `now`: here at once, in the journal one step of it. Whether there is
    /// more to forget.
    pub(crate) async fn forget(&self, now: Timestamp) -> Result<bool, JournalError> {
        let time = Timestamp(now.0.saturating_sub(KEPT.0));
        let mut gone = Vec::new();
        lock(&self.closed).retain(|_, (closed_at, entry)| {
            let is_kept = *closed_at >= time;
            if !is_kept {
                gone.push(entry.clone());
            }
            is_kept
        });
        for entry in gone {
            // What is being written for it is written before it is deleted.
            drop(entry.turn.lock().await);
        }
        self.journal.forget_closed_before(time).await
    }

    /// Sees to it that a job has an account before its instance is started. Where its instance is here already, or it was
    /// paid, the journal must have lost one; where it is older than the journal, or somebody says to hold receipts, it may have.
    pub(crate) async fn prepare(
        &self,
        job: JobId,
        tariff: Tariff,
        is_instance_here: bool,
    ) -> Result<(), LedgerError> {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return Ok(()) };
        let _turn = entry.turn.lock().await;
        let facts = entry.facts();
        if facts.is_over || facts.account.is_some() || facts.gap.is_some() {
            return Ok(());
        }
        let is_sure = is_instance_here || !facts.slot.paid.is_zero();
        let is_old = lock(&self.born_in).is_some_and(|block| facts.opened_in <= block);
        if is_sure || is_old || facts.claim.is_some() {
            entry.note(|facts| {
                facts.gap = Some(Gap { tariff, since: now, is_sure });
                true
            });
            return Ok(());
        }
        self.begin_account(&entry, tariff, now).await
    }

    /// An account whose instance is still to be seen.
    async fn begin_account(
        &self,
        entry: &Entry,
        tariff: Tariff,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let account = JobAccount::prepared(entry.job, tariff, now);
        self.keep(entry, account, None).await?;
        entry.note(|facts| {
            facts.gap = None;
            facts.is_frozen = None;
            true
        });
        Ok(())
    }

    /// The job's signer holds no receipts: where none were signed for sure, none were.
    pub(crate) async fn begin_where_none_are_held(&self, entry: &Entry) -> Result<(), LedgerError> {
        let Some(now) = self.now() else { return Ok(()) };
        let _turn = entry.turn.lock().await;
        match entry.facts().gap {
            Some(Gap { tariff, is_sure: false, .. }) => {
                self.begin_account(entry, tariff, now).await
            }
            _ => Ok(()),
        }
    }

    /// The instance of a job is ready.
    pub(crate) async fn ready(&self, job: JobId, life: Life) -> Result<(), LedgerError> {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return Ok(()) };
        if life == Life::New {
            self.step(&entry, |account, _| {
                account.restarted(now);
                None
            })
            .await?;
        }
        entry.note(|facts| {
            facts.is_here = true;
            facts.is_frozen = None;
            true
        });
        Ok(())
    }

    /// Takes in what happened to a job apart from its money.
    pub(crate) fn hear(&self, event: &ProviderEvent) {
        let (job, phase) = match event {
            ProviderEvent::Fetching { job, done, total } => {
                (job, JobPhase::Fetching { done: *done, total: *total })
            }
            ProviderEvent::Starting { job } => (job, JobPhase::Starting),
            ProviderEvent::Running { job, .. } => (job, JobPhase::Running),
            ProviderEvent::Exited { job, .. } => (job, JobPhase::Starting),
            ProviderEvent::Refused { job, refusal } => {
                (job, JobPhase::Refused { reason: refusal.to_string() })
            }
            _ => return,
        };
        let Some(entry) = self.entry(*job) else { return };
        entry.note(|facts| {
            if let ProviderEvent::Running { urls, .. } = event {
                facts.urls.clone_from(urls);
            }
            std::mem::replace(&mut facts.phase, phase.clone()) != phase
        });
    }

    /// An instance was seen to run.
    pub(crate) fn saw_running(&self, job: JobId) {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return };
        entry.note(|facts| {
            facts.seen_running_at = Some(now);
            false
        });
    }

    /// An instance has ended by itself, with these counters if they are known.
    pub(crate) async fn stopped(
        &self,
        job: JobId,
        usage: Option<Usage>,
    ) -> Result<(), LedgerError> {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return Ok(()) };
        // Whatever was read of it before is of the life that is over.
        entry.note(|facts| {
            facts.is_here = false;
            false
        });
        self.step(&entry, |account, facts| {
            facts.see_end(account, now, usage);
            None
        })
        .await?;
        entry.note(|facts| {
            facts.seen_running_at = None;
            false
        });
        Ok(())
    }

    /// Takes one step of an account: `step` changes a copy and may make a receipt, which is signed; both are durable when
    /// this returns. `None` where there is no account, or one that stays as it is.
    pub(crate) async fn step(
        &self,
        entry: &Entry,
        step: impl FnOnce(&mut JobAccount, &Facts) -> Option<Receipt> + Send,
    ) -> Result<Option<SignedReceipt>, LedgerError> {
        let _turn = entry.turn.lock().await;
        let facts = entry.facts();
        let Some(mut account) = facts.account.clone().filter(|_| !facts.is_over) else {
            return Ok(None);
        };
        let receipt = step(&mut account, &facts);
        if facts.account.as_ref() == Some(&account) {
            return Ok(None);
        }
        let signed = match receipt {
            Some(receipt) => {
                let digest = receipt_digest(&self.domain, &receipt);
                let signature = self.signer.sign(&digest).await?;
                Some(SignedReceipt { receipt, signature })
            }
            None => None,
        };
        self.keep(entry, account, signed.as_ref()).await?;
        Ok(signed)
    }

    /// Takes in a voucher. Whether it is a new one.
    pub(crate) async fn accept(
        &self,
        entry: &Entry,
        voucher: &Voucher,
    ) -> Result<Result<bool, VoucherProblem>, LedgerError> {
        if entry.ask(|facts| facts.is_over) {
            return Ok(Ok(false));
        }
        let root = voucher.bill.usage_root;
        let Some(signed) = self.journal.receipt_by_root(entry.job, root).await? else {
            return Ok(Err(VoucherProblem::Unknown));
        };
        let mut taken = Ok(false);
        let domain = &self.domain;
        self.step(entry, |account, facts| {
            taken = account.accept(voucher, &signed.receipt, domain, &facts.terms, &facts.slot);
            None
        })
        .await?;
        Ok(taken)
    }

    /// Orders a job away, with its account or without one.
    pub(crate) async fn order_away(
        &self,
        entry: &Entry,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        entry.note(|facts| {
            let is_new = !std::mem::replace(&mut facts.is_ordered_away, true);
            if let (Some(gap), true) = (&mut facts.gap, is_new) {
                // From now on they are waited for as the last voucher is.
                gap.since = now;
            }
            is_new
        });
        self.step(entry, |account, _| {
            account.end(now);
            None
        })
        .await?;
        Ok(())
    }

    async fn keep(
        &self,
        entry: &Entry,
        account: JobAccount,
        receipt: Option<&SignedReceipt>,
    ) -> Result<(), LedgerError> {
        let kept = self.journal.save_account(entry.job, &account, receipt).await;
        let account = match &kept {
            Ok(()) => account,
            // The number was used without this process knowing it: what is written down counts.
            Err(JournalError::Signed { .. }) => {
                let written = self.journal.accounts().await?;
                let own = written.into_iter().find(|(job, _)| *job == entry.job);
                own.map_or(account, |(_, written)| written)
            }
            Err(_) => return Ok(kept?),
        };
        entry.note(|facts| {
            facts.account = Some(account);
            true
        });
        Ok(kept?)
    }
}

#[cfg(test)]
mod tests;
