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

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Instant,
};

use roadstead_abi::receipt_digest;
use roadstead_core::{
    BrokenChain, ChainClock, ClosedJob, JobAccount, JobBook, JobRecord, Sighting, VoucherProblem,
    check_chain,
    ports::{SignError, Signer, Usage},
    protocol::JobPhase,
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{
    Domain, Job, JobId, Receipt, Seconds, SignedReceipt, Tariff, Timestamp, Voucher,
};

use entry::lock;
pub(crate) use entry::{Entry, Facts, Gap, Life};

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

/// Why receipts of one's own were not taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("no receipts are missing")]
    NotWanted,
    #[error("newer ones than these were settled on chain")]
    Short,
    #[error(transparent)]
    Broken(#[from] BrokenChain),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl From<JournalError> for RestoreError {
    fn from(error: JournalError) -> Self {
        Self::Ledger(error.into())
    }
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
    /// Where revisions of this process begin: those of an earlier one mean nothing.
    epoch: u64,
}

/// How long a job is answered for after its close.
const KEPT: Seconds = Seconds::from_hours(90 * 24);

/// The most receipts that a journal is given back for one job: a year of one-minute intervals.
const MAX_RESTORED: usize = 600_000;

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
            epoch,
        }
    }

    /// Takes in the accounts and the closed jobs that an earlier process kept.
    pub(crate) async fn load(&self) -> Result<(), JournalError> {
        let kept = self.journal.accounts().await?;
        lock(&self.kept).extend(kept);
        self.close(&self.journal.closed().await?);
        Ok(())
    }

    /// Notes the time of the newest block.
    pub(crate) fn see_head(&self, head: Timestamp) {
        lock(&self.clock).see(head, Instant::now());
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
        Arc::new(Entry::new(job, record, account, self.epoch))
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

    /// The instance of a job is ready. `None` in the account of a job that was paid, or whose instance ran before, means
    /// that the journal lost receipts.
    pub(crate) async fn ready(
        &self,
        job: JobId,
        tariff: Tariff,
        life: Life,
    ) -> Result<(), LedgerError> {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return Ok(()) };
        let _turn = entry.turn.lock().await;
        let Facts { account, slot, is_over, .. } = entry.facts();
        if is_over {
            return Ok(());
        }
        let account = match account {
            Some(account) if life == Life::Adopted => Some(account),
            Some(mut account) => {
                account.restarted(now);
                Some(account)
            }
            None if life == Life::Adopted || !slot.paid.is_zero() => None,
            None => Some(JobAccount::open(job, tariff, now)),
        };
        match account {
            Some(account) => self.keep(&entry, account, None).await?,
            None => entry.note(|facts| {
                let gap = Gap { tariff, since: now };
                facts.gap.get_or_insert(gap);
                true
            }),
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

    /// An instance has ended by itself, with these counters if they are known.
    pub(crate) async fn stopped(
        &self,
        job: JobId,
        usage: Option<Usage>,
    ) -> Result<(), LedgerError> {
        let (Some(entry), Some(now)) = (self.entry(job), self.now()) else { return Ok(()) };
        entry.note(|facts| {
            facts.is_here = false;
            false
        });
        self.step(&entry, |account, _| {
            account.see(now, Sighting::Stopped(usage));
            None
        })
        .await?;
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
        if entry.facts().is_over {
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

    /// Takes back receipts that the journal lost; `is_last` says that there are no more. Whether the account stands again.
    pub(crate) async fn restore(
        &self,
        entry: &Entry,
        receipts: &[SignedReceipt],
        is_last: bool,
        is_own: impl Fn(&SignedReceipt) -> bool + Send,
    ) -> Result<bool, RestoreError> {
        let mut turn = entry.turn.lock().await;
        let Facts { gap: Some(gap), slot, opened_at, .. } = entry.facts() else {
            return Err(RestoreError::NotWanted);
        };
        // The same message again begins where it began before.
        let Some(first) = receipts.first() else { return Err(RestoreError::NotWanted) };
        let found = &mut turn.given_back;
        found.truncate(usize::try_from(first.receipt.seq).unwrap_or(usize::MAX));
        let head = found.last().map(|signed| (&signed.receipt).into());
        check_chain(entry.job, head.as_ref(), receipts, is_own)?;
        if found.len().saturating_add(receipts.len()) > MAX_RESTORED {
            return Err(RestoreError::NotWanted);
        }
        found.extend_from_slice(receipts);
        let Some(newest) = receipts.last().filter(|_| is_last) else { return Ok(false) };
        let is_settled_later = slot.paid_until > opened_at.max(newest.receipt.to);
        if is_settled_later {
            return Err(RestoreError::Short);
        }
        let mut account = JobAccount::restored(gap.tariff, &newest.receipt);
        // Until its instance is seen to run, nothing of it is billed.
        account.set_paused(true);
        self.journal.restore_account(entry.job, &account, found).await?;
        *found = Vec::new();
        entry.note(|facts| {
            facts.account = Some(account);
            facts.gap = None;
            facts.is_frozen = None;
            true
        });
        Ok(true)
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
