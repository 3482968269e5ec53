//! What a bill would be paid: the one rule of the contracts, in the same whole numbers.

use alloy_primitives::U256;
use roadstead_types::{Bill, Job, JobStatus, Terms, Timestamp, TokenAmount};

/// Why the contract would refuse a bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpayable {
    /// The job is not open, or over.
    #[error("the job is not live")]
    NotLive,
    /// The bill does not run past what was paid before.
    #[error("the bill runs to {until}, and up to {paid_until} everything was paid")]
    TooEarly {
        /// Of the bill.
        until: Timestamp,
        /// Of the job.
        paid_until: Timestamp,
    },
    /// The bill runs past the time of the block, or past the end of the notice.
    #[error("the bill runs to {until}, later than {latest}")]
    TooLate {
        /// Of the bill.
        until: Timestamp,
        /// The latest that can be paid.
        latest: Timestamp,
    },
    /// All of it was paid before.
    #[error("all of it was paid before")]
    Nothing,
}

/// What will be paid in all once `bill` is settled in a block of time `now`:
/// `min(cumulative, deposit, max(start fee, paid + floor(rate x (until - paid until) / 3600)))`.
pub fn advance(
    terms: &Terms,
    job: &Job,
    bill: &Bill,
    now: Timestamp,
) -> Result<TokenAmount, Unpayable> {
    let latest = match job.status() {
        JobStatus::Open => now,
        JobStatus::Closing => now.min(job.close_at),
        JobStatus::Absent | JobStatus::Closed => return Err(Unpayable::NotLive),
    };
    let (until, paid_until) = (bill.until, job.paid_until);
    if until <= paid_until {
        return Err(Unpayable::TooEarly { until, paid_until });
    }
    if until > latest {
        return Err(Unpayable::TooLate { until, latest });
    }
    // 96 and 32 bits: far below 2^256.
    let earned = U256::from(terms.rate_per_hour.units()) * U256::from(until.since(paid_until).0);
    let limit = U256::from(job.paid.units()) + earned / U256::from(3_600);
    let limit = limit.max(terms.start_fee.into()).min(job.deposit.into());
    let limit = TokenAmount::try_from(limit).unwrap_or(job.deposit);
    let paid = bill.cumulative.min(limit);
    if paid > job.paid { Ok(paid) } else { Err(Unpayable::Nothing) }
}
