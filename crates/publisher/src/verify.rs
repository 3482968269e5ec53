//! Recomputing the bill of a job that is over.

use roadstead_core::{
    BillProblem, FinishedJob, Follower, Recomputed, ports::ChainError, verify_bill,
};
use roadstead_journal::{Journal, JournalError};
use roadstead_types::{JobId, JobStatus, SignedReceipt, Timestamp, TokenAmount};
use serde::{Deserialize, Serialize};

use crate::{history::History, records::Records};

/// How many receipts are read from the journal at once.
const PAGE: usize = 1_024;

/// A bill that follows from its receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedBill {
    /// Of which job.
    pub job: JobId,
    /// How many receipts there are.
    pub receipts: u32,
    /// What follows from them, in token base units.
    pub metered: TokenAmount,
    /// What was due.
    pub due: TokenAmount,
    /// What of that the provider did not take.
    pub unclaimed: TokenAmount,
    /// What was paid.
    pub paid: TokenAmount,
    /// Up to when the receipts run.
    pub until: Timestamp,
}

/// Why a bill is not verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Nothing is known of its prices.
    #[error("the journal has no plan of job {job}")]
    NoPlan {
        /// Its id.
        job: JobId,
    },
    /// It may still be paid for.
    #[error("job {job} is not over")]
    NotOver {
        /// Its id.
        job: JobId,
    },
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Journal(#[from] JournalError),
    /// The journal has less than was paid for.
    #[error(
        "more was paid for job {job} than the {receipts} receipts in the journal explain; the agent fetches those that are \
         missing from the provider"
    )]
    Missing {
        /// Its id.
        job: JobId,
        /// How many there are.
        receipts: u32,
    },
    /// It does not follow from its receipts.
    #[error("the bill of the job is wrong")]
    Wrong(#[source] BillProblem),
}

/// Recomputes the whole bill of a job that is over, from the receipts and the voucher in the journal, and compares it
/// with what the chain says was paid.
pub async fn verify_job<'a>(
    records: impl Into<Records<'a>>,
    job: JobId,
) -> Result<VerifiedBill, VerifyError> {
    let records = records.into();
    let plans = records.journal.plans().await?;
    let plan = plans.into_iter().find(|plan| plan.key.job == job);
    let plan = plan.filter(|plan| records.reader.job_id(&plan.terms) == job);
    let plan = plan.ok_or(VerifyError::NoPlan { job })?;
    let state = records.reader.job(job).await?;
    if state.status() != JobStatus::Closed {
        return Err(VerifyError::NotOver { job });
    }
    let mut history = History::new(job, &plan.terms, records.from_block);
    while history.told().end.is_none() && history.read(records.events).await?.is_some() {}
    let told = history.told();
    let (Some(opened_at), Some(end)) = (told.opened_at, told.end) else {
        // Closed so recently that it is not confirmed yet.
        return Err(VerifyError::NotOver { job });
    };
    let operator = records.reader.operator(plan.terms.provider).await?;
    let mut receipts = receipts(records.journal, job).await?;
    let followers = records.journal.followers().await?;
    let follower = followers.iter().find(|(id, _)| *id == job).map(|(_, follower)| follower);
    receipts.extend(follower.and_then(Follower::disputed));
    let recomputed = verify_bill(&FinishedJob {
        domain: records.domain,
        job,
        terms: &plan.terms,
        tariff: &plan.tariff,
        operator,
        opened_at,
        deposit: end.paid.checked_add(end.refund).unwrap_or(TokenAmount::MAX),
        state,
        receipts: &receipts,
        voucher: follower.and_then(Follower::voucher),
    });
    let Recomputed { receipts, until, metered, due, unclaimed } = match recomputed {
        Ok(recomputed) => recomputed,
        Err(BillProblem::Missing { receipts }) => {
            return Err(VerifyError::Missing { job, receipts });
        }
        Err(problem) => return Err(VerifyError::Wrong(problem)),
    };
    Ok(VerifiedBill { job, receipts, metered, due, unclaimed, paid: state.paid, until })
}

async fn receipts(journal: &Journal, job: JobId) -> Result<Vec<SignedReceipt>, JournalError> {
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        let page = journal.receipts(job, next, PAGE).await?;
        let last = page.last().map(|signed| signed.receipt.seq);
        all.extend(page);
        match last.and_then(|last| last.checked_add(1)) {
            Some(after) => next = after,
            None => return Ok(all),
        }
    }
}
