//! When the newest voucher of an account becomes money, and when its job is closed.
//!
//! ```text
//!  accepted ── value, age, the publisher leaves ──> settle
//!  final    ── all is accepted ──> settle and close      ── nothing is due ──> decline
//!           ── the last voucher does not come ──> settle the best, leave the rest
//! ```
//!
//! It keeps nothing of its own: asked again after a crash, it decides the same from the account and the slot on chain.

use roadstead_types::{Job, JobStatus, Seconds, Terms, Timestamp, TokenAmount, Voucher};

use super::{Accepted, JobAccount};
use crate::payment::{Unpayable, advance};

/// How long the last voucher is waited for, in chain time.
pub const LAST_VOUCHER: Seconds = Seconds(60);

/// When a provider turns vouchers into money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettlePolicy {
    /// At once when so much can be paid.
    pub value: TokenAmount,
    /// Whatever can be paid, once so much time was not paid for; never later than half the notice.
    pub age: Seconds,
}

/// What to do on chain about a job's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Nothing, for now or for good.
    None,
    /// Settle the newest voucher.
    Settle(Voucher),
    /// Settle the last voucher and close.
    SettleAndClose(Voucher),
    /// Close; nothing more is due.
    Decline,
}

impl JobAccount {
    /// What to do on chain. `head` is the time of the newest block, `now` the time since.
    pub fn settlement(
        &self,
        terms: &Terms,
        job: &Job,
        policy: &SettlePolicy,
        head: Timestamp,
        now: Timestamp,
    ) -> Settlement {
        if !matches!(job.status(), JobStatus::Open | JobStatus::Closing) {
            return Settlement::None;
        }
        let payable = self.accepted.map(|last| advance(terms, job, &last.voucher.bill, head));
        let settle = match (self.accepted, payable) {
            (Some(last), Some(Ok(paid))) => Some((last, paid)),
            _ => None,
        };
        let Some(final_at) = self.final_at else {
            return match settle {
                Some((last, paid))
                    if self.is_worth_settling(&last, paid, terms, job, policy, now) =>
                {
                    Settlement::Settle(last.voucher)
                }
                _ => Settlement::None,
            };
        };
        if matches!(payable, Some(Err(Unpayable::TooLate { .. }))) {
            // Of a bill that is ahead of the blocks, all can be paid a little later.
            return Settlement::None;
        }
        let paid = settle.map_or(job.paid, |(_, paid)| paid);
        let is_all = self.owed(job).is_zero() || paid == job.deposit;
        let is_near = now.after(LAST_VOUCHER) >= job.close_at;
        let is_last_chance = job.status() == JobStatus::Closing && is_near;
        let is_waiting = now.since(final_at) < LAST_VOUCHER && !is_last_chance;
        match settle {
            Some((last, _)) if is_all => Settlement::SettleAndClose(last.voucher),
            None if is_all => Settlement::Decline,
            Some((last, _)) if !is_waiting => Settlement::Settle(last.voucher),
            // What is left after that is the publisher's to take, after the notice.
            _ => Settlement::None,
        }
    }

    /// A short bill is not settled for its value alone: once it is, the contract pays the rest only out of time in which
    /// less than everything was used.
    fn is_worth_settling(
        &self,
        last: &Accepted,
        paid: TokenAmount,
        terms: &Terms,
        job: &Job,
        policy: &SettlePolicy,
        now: Timestamp,
    ) -> bool {
        let age = policy.age.min(Seconds(terms.notice.0 / 2));
        let is_full = last.voucher.bill.cumulative == last.billed;
        let is_stuck = self.ending.is_some_and(|since| now.since(since) >= LAST_VOUCHER);
        let is_closing = job.status() == JobStatus::Closing;
        let is_urgent = is_closing || is_stuck || now.since(job.paid_until) >= age;
        is_urgent || is_full && paid.saturating_sub(job.paid) >= policy.value
    }
}
