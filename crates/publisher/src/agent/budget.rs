//! What may still be accepted, for one job and for all.
//!
//! The one thing that jobs share: what each of them was allowed is taken from what is left for the others in the same
//! moment, before anything is signed, so that two receipts at once cannot both have the rest. What counts for a job is the
//! most that was ever signed for it: its provider may settle any of its bills.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use roadstead_core::Verdict;
use roadstead_types::{JobId, TokenAmount};

use super::AgentLimits;

/// Sums of all jobs, and their limits.
#[derive(Debug)]
pub(super) struct Budget {
    limits: AgentLimits,
    /// The most for each job.
    accepted: Mutex<BTreeMap<JobId, TokenAmount>>,
}

impl Budget {
    pub(super) fn new(limits: AgentLimits) -> Self {
        Self { limits, accepted: Mutex::default() }
    }

    /// Notes what was accepted for a job by an earlier process.
    pub(super) fn note(&self, job: JobId, accepted: TokenAmount) {
        count(&mut self.lock(), job, accepted);
    }

    /// Lets `examine` judge by the most that may be accepted and by whether that is the deposit, and sets aside what it
    /// accepts.
    pub(super) fn judge(
        &self,
        job: JobId,
        deposit: TokenAmount,
        examine: impl FnOnce(TokenAmount, bool) -> Option<Verdict>,
    ) -> Option<Verdict> {
        let mut accepted = self.lock();
        let others = accepted.iter().filter(|(other, _)| **other != job);
        let others = others.fold(TokenAmount::ZERO, |sum, (_, accepted)| {
            sum.checked_add(*accepted).unwrap_or(TokenAmount::MAX)
        });
        let left = self.limits.all.map(|all| all.saturating_sub(others));
        let own = [self.limits.per_job, left].into_iter().flatten().min();
        let limit = own.map_or(deposit, |own| own.min(deposit));
        let verdict = examine(limit, limit == deposit);
        if let Some(Verdict::Accepted { bill, .. } | Verdict::Refused { bill: Some(bill), .. }) =
            &verdict
        {
            count(&mut accepted, job, bill.cumulative);
        }
        verdict
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobId, TokenAmount>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(all: &mut BTreeMap<JobId, TokenAmount>, job: JobId, accepted: TokenAmount) {
    let most = all.entry(job).or_default();
    *most = accepted.max(*most);
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use roadstead_types::{Bill, Timestamp};

    use super::*;

    fn amount(units: u128) -> TokenAmount {
        TokenAmount::new(units).unwrap()
    }

    fn job(number: u8) -> JobId {
        JobId(B256::repeat_byte(number))
    }

    /// What a job that bills `billed` is given.
    fn take(budget: &Budget, number: u8, deposit: u128, billed: u128) -> (u128, bool) {
        let mut given = (0, false);
        budget.judge(job(number), amount(deposit), |limit, is_deposit| {
            given = (limit.units(), is_deposit);
            let cumulative = amount(billed).min(limit);
            let (until, usage_root) = (Timestamp(1), B256::ZERO);
            let bill = Bill { cumulative, until, usage_root };
            Some(Verdict::Accepted { bill, shortage: None })
        });
        given
    }

    #[test]
    fn without_limits_the_deposit_is_the_limit() {
        let budget = Budget::new(AgentLimits::default());
        assert_eq!(take(&budget, 1, 500, 900), (500, true));
        assert_eq!(take(&budget, 2, 700, 900), (700, true), "jobs know nothing of each other");
    }

    #[test]
    fn what_one_job_took_is_gone_for_the_others() {
        let limits = AgentLimits { per_job: Some(amount(60)), all: Some(amount(100)) };
        let budget = Budget::new(limits);
        budget.note(job(9), amount(10));
        assert_eq!(take(&budget, 1, 500, 50), (60, false));
        assert_eq!(take(&budget, 2, 500, 50), (40, false), "100 less 10 less 50");
        assert_eq!(take(&budget, 1, 500, 55), (50, false), "100 less 10 less 40");
        assert_eq!(take(&budget, 1, 20, 55), (20, true));
    }

    #[test]
    fn the_most_that_was_signed_counts() {
        let budget = Budget::new(AgentLimits { per_job: None, all: Some(amount(100)) });
        assert_eq!(take(&budget, 1, 500, 60), (100, false));
        take(&budget, 1, 500, 10);
        budget.note(job(1), amount(5));
        assert_eq!(take(&budget, 2, 500, 90), (40, false), "the bill for 60 can still be settled");
    }
}
