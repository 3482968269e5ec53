//! Receipts that come back: those of a journal that was lost, or that are newer than a journal from a backup.
//!
//! They count only as a whole, only if they agree with what is there and follow on it, and never take anything back.

use roadstead_core::{BrokenChain, JobAccount, check_chain};
use roadstead_journal::JournalError;
use roadstead_types::SignedReceipt;

use super::{Entry, Ledger, LedgerError};

/// The most receipts that a journal is given back for one job: a year of one-minute intervals.
const MAX_RESTORED: usize = 600_000;

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

impl Ledger {
    /// Takes back receipts that the journal lost; `is_last` says that there are no more. Those that it has must be the same,
    /// those that it has not must follow on them. Whether it learned of any.
    pub(crate) async fn restore(
        &self,
        entry: &Entry,
        receipts: &[SignedReceipt],
        is_last: bool,
        is_own: impl Fn(&SignedReceipt) -> bool + Send,
    ) -> Result<bool, RestoreError> {
        let mut turn = entry.turn.lock().await;
        let facts = entry.facts();
        let head = facts.account.as_ref().and_then(JobAccount::head).copied();
        if facts.is_over || (facts.account.is_none() && facts.gap.is_none()) {
            return Err(RestoreError::NotWanted);
        }
        let found = &mut turn.given_back;
        let next = head.map_or(0, |head| head.seq.saturating_add(1));
        let (known, new) =
            receipts.split_at(receipts.partition_point(|signed| signed.receipt.seq < next));
        for signed in known {
            let own = self.journal.receipt(entry.job, signed.receipt.seq).await?;
            if own.is_none_or(|own| own.receipt != signed.receipt) {
                return Err(BrokenChain { seq: signed.receipt.seq }.into());
            }
        }
        if let Some(first) = new.first() {
            // The same message again begins where it began before.
            let before = first.receipt.seq.saturating_sub(next);
            found.truncate(usize::try_from(before).unwrap_or(usize::MAX));
            let last = found.last().map(|signed| (&signed.receipt).into()).or(head);
            check_chain(entry.job, last.as_ref(), new, is_own)?;
            if found.len().saturating_add(new.len()) > MAX_RESTORED {
                found.clear();
                return Err(RestoreError::NotWanted);
            }
            found.extend_from_slice(new);
        }
        if !is_last {
            return Ok(false);
        }
        let Some(newest) = found.last().map(|signed| signed.receipt) else { return Ok(false) };
        if facts.slot.paid_until > facts.opened_at.max(newest.to) {
            return Err(RestoreError::Short);
        }
        let mut account = match (facts.account, facts.gap) {
            (Some(mut account), _) => {
                account.catch_up(&newest);
                account
            }
            (None, Some(gap)) => JobAccount::restored(gap.tariff, &newest),
            (None, None) => return Err(RestoreError::NotWanted),
        };
        // Until its instance is seen to run, nothing of it is billed.
        account.set_paused(true);
        if facts.is_ordered_away {
            account.end(newest.to);
        }
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
}
