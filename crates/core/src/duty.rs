//! What a provider owes a job to do next, from the job's terms, its state on chain, its account and what of it is on this
//! machine.
//!
//! ```text
//!   the job is      and wanted here              and not wanted: refused, ordered away, closing, closed, undone
//!   not here        Deploy                       ClaimStartFee, then what the account says: Settle, SettleAndClose or
//!                                                Decline
//!   half here       Deploy                       Remove, once its last receipt is made
//!   running         ClaimStartFee, then Settle   Remove, once its last receipt is made
//! ```
//!
//! Level-triggered: the answer depends on where things stand, not on how they came there, so asking again after a
//! crash or a reorganisation is always right.

use roadstead_types::{Job, JobStatus, Terms, Timestamp, TokenAmount};

use crate::account::{JobAccount, LAST_VOUCHER, SettlePolicy, Settlement};

/// What the provider should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Fetch, open and run it.
    Deploy,
    /// Stop it and remove everything of it.
    Remove,
    /// Take the prepaid part of the bill.
    ClaimStartFee,
    /// Turn the newest voucher into money.
    Settle,
    /// Do so with the last one, and close the job.
    SettleAndClose,
    /// Close the job and give everything unpaid back.
    Decline,
}

/// How much of a job is on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Nothing.
    #[default]
    Absent,
    /// Something, but not a running instance.
    Partial,
    /// Its instance runs, or is frozen.
    Running,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What both sides agreed on.
    pub terms: &'a Terms,
    /// Its slot on chain.
    pub job: &'a Job,
    /// What of it is here.
    pub presence: Presence,
    /// Whether the provider does not serve it, or was ordered not to before it ever ran.
    pub is_refused: bool,
    /// Its account, once it has run.
    pub account: Option<&'a JobAccount>,
    /// Since when receipts are missed that were signed for it: without an account, what is due is not known.
    pub missing_since: Option<Timestamp>,
    /// When vouchers are turned into money.
    pub policy: &'a SettlePolicy,
    /// The time of the newest block.
    pub head: Timestamp,
    /// The time on the chain.
    pub now: Timestamp,
}

impl Situation<'_> {
    /// What to do next about the job, if anything.
    pub fn duty(&self) -> Option<Duty> {
        let status = self.job.status();
        let is_ending = self.account.is_some_and(JobAccount::is_ending);
        if status == JobStatus::Open && !self.is_refused && !is_ending {
            return match self.presence {
                Presence::Absent | Presence::Partial => Some(Duty::Deploy),
                Presence::Running if self.missing_since.is_some() => None,
                Presence::Running => self.start_fee().or_else(|| self.payment()),
            };
        }
        let is_live = matches!(status, JobStatus::Open | JobStatus::Closing);
        let is_billed = self.account.is_none_or(JobAccount::is_final);
        match self.presence {
            Presence::Partial | Presence::Running if is_live && !is_billed => None,
            Presence::Partial | Presence::Running => Some(Duty::Remove),
            Presence::Absent if !is_live => None,
            Presence::Absent => match (self.account, self.missing_since) {
                // It ran, so the fee is earned, whatever was metered.
                (Some(account), _) if account.has_begun() => {
                    self.start_fee().or_else(|| self.payment())
                }
                (Some(_), _) => self.payment(),
                (None, None) => Some(Duty::Decline),
                // They may come back in all the time of the notice.
                (None, Some(_)) if status == JobStatus::Closing => None,
                (None, Some(since)) => {
                    (self.now.since(since) >= LAST_VOUCHER).then_some(Duty::Decline)
                }
            },
        }
    }

    fn start_fee(&self) -> Option<Duty> {
        let due = start_fee_due(self.terms, self.job);
        (!due.is_zero()).then_some(Duty::ClaimStartFee)
    }

    /// What can be done while what is due rests after a failure: an instance that cannot be removed keeps no voucher from
    /// being settled, only the job from being closed.
    pub fn meanwhile(&self) -> Option<Duty> {
        match self.settlement() {
            Settlement::Settle(_) | Settlement::SettleAndClose(_) => Some(Duty::Settle),
            Settlement::None | Settlement::Decline => None,
        }
    }

    /// What the account says is to be done on chain.
    pub fn settlement(&self) -> Settlement {
        let settle = |account: &JobAccount| {
            account.settlement(self.terms, self.job, self.policy, self.head, self.now)
        };
        self.account.map_or(Settlement::None, settle)
    }

    fn payment(&self) -> Option<Duty> {
        match self.settlement() {
            Settlement::None => None,
            Settlement::Settle(_) => Some(Duty::Settle),
            Settlement::SettleAndClose(_) => Some(Duty::SettleAndClose),
            Settlement::Decline => Some(Duty::Decline),
        }
    }
}

/// What `claimStartFee` would pay now: `min(start fee, deposit) - paid`, never below zero. The start fee is a part of
/// the bill, so whatever was paid before counts against it.
fn start_fee_due(terms: &Terms, job: &Job) -> TokenAmount {
    match job.status() {
        JobStatus::Open | JobStatus::Closing => {
            terms.start_fee.min(job.deposit).saturating_sub(job.paid)
        }
        JobStatus::Absent | JobStatus::Closed => TokenAmount::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use proptest::prelude::*;
    use roadstead_types::{JobId, Resources, Seconds, Tariff, Timestamp};

    use super::*;
    use crate::{metering::Sighting, ports::Usage};

    fn amount(units: u128) -> TokenAmount {
        TokenAmount::new(units).unwrap()
    }

    fn terms(start_fee: u128) -> Terms {
        Terms {
            publisher: Address::repeat_byte(1),
            provider: Address::repeat_byte(2),
            signer: Address::repeat_byte(3),
            rate_per_hour: amount(3_600),
            start_fee: amount(start_fee),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            bundle: B256::ZERO,
        }
    }

    fn job(deposit: u128, paid: u128, close_at: u32) -> Job {
        Job {
            deposit: amount(deposit),
            paid: amount(paid),
            paid_until: Timestamp(1_800_000_000),
            close_at: Timestamp(close_at),
        }
    }

    #[test]
    fn the_start_fee_is_a_part_of_the_bill() {
        assert_eq!(start_fee_due(&terms(300), &job(1_000, 0, 0)), amount(300));
        assert_eq!(start_fee_due(&terms(300), &job(1_000, 100, 0)), amount(200));
        assert_eq!(start_fee_due(&terms(300), &job(1_000, 400, 0)), TokenAmount::ZERO);
        assert_eq!(start_fee_due(&terms(300), &job(200, 0, 0)), amount(200));
        assert_eq!(start_fee_due(&terms(300), &job(1_000, 0, 1)), TokenAmount::ZERO);
        assert_eq!(start_fee_due(&terms(300), &Job::default()), TokenAmount::ZERO);
    }

    const POLICY: SettlePolicy = SettlePolicy { value: TokenAmount::MAX, age: Seconds(60) };

    fn due(
        terms: &Terms,
        job: &Job,
        presence: Presence,
        is_refused: bool,
        account: Option<&JobAccount>,
    ) -> Option<Duty> {
        let now = Timestamp(1_800_000_100);
        let policy = &POLICY;
        let missing_since = None;
        let head = now;
        let situation = Situation {
            terms,
            job,
            presence,
            is_refused,
            account,
            missing_since,
            policy,
            head,
            now,
        };
        situation.duty()
    }

    fn account() -> JobAccount {
        let tariff = Tariff {
            interval: Seconds(2),
            reservation: Resources { memory: 1, ..Resources::default() },
            prices: Resources { memory: 1_000_000_000_000, ..Resources::default() },
        };
        JobAccount::open(JobId::default(), tariff, Timestamp(1_800_000_010))
    }

    const EVERYWHERE: [Presence; 3] = [Presence::Absent, Presence::Partial, Presence::Running];

    #[test]
    fn the_start_fee_is_taken_only_while_the_job_runs() {
        let now = |presence| due(&terms(300), &job(1_000, 0, 0), presence, false, None);
        assert_eq!(
            EVERYWHERE.map(now),
            [Some(Duty::Deploy), Some(Duty::Deploy), Some(Duty::ClaimStartFee)]
        );
        let paid = due(&terms(300), &job(1_000, 300, 0), Presence::Running, false, None);
        assert_eq!(paid, None);
    }

    #[test]
    fn what_is_not_wanted_is_removed_before_anything_is_given_back() {
        let closing = job(1_000, 0, 1_800_003_600);
        let closed = job(1_000, 0, Job::CLOSED.0);
        for (state, is_refused, then) in [
            (closing, false, Some(Duty::Decline)),
            (job(1_000, 0, 0), true, Some(Duty::Decline)),
            (closed, false, None),
            (Job::default(), false, None),
        ] {
            let now = |presence| due(&terms(300), &state, presence, is_refused, None);
            let removed = Some(Duty::Remove);
            assert_eq!(EVERYWHERE.map(now), [then, removed, removed], "{state:?}");
        }
    }

    #[test]
    fn what_was_metered_is_billed_before_it_is_removed() {
        let mut account = account();
        for state in [job(1_000, 0, 0), job(1_000, 0, 1_800_003_600)] {
            account.end(Timestamp(1_800_000_090));
            let now = |presence, account| due(&terms(0), &state, presence, false, Some(account));
            for presence in EVERYWHERE {
                assert_eq!(now(presence, &account), None, "{presence:?}");
            }
            let mut billed = account.clone();
            billed.see(Timestamp(1_800_000_090), Sighting::Running(Usage::default()));
            let last = billed.finish(Timestamp(1_800_000_090)).unwrap();
            assert_eq!(now(Presence::Running, &billed), Some(Duty::Remove));
            // The last voucher is waited for.
            assert_eq!(last.cumulative, amount(80));
            assert_eq!(now(Presence::Absent, &billed), None);
        }
        // Whatever was not billed when the job is over never will be.
        let over = due(&terms(0), &job(9, 9, 1), Presence::Running, false, Some(&account));
        assert_eq!(over, Some(Duty::Remove));
    }

    #[test]
    fn a_job_whose_receipts_are_missed_is_not_given_back_at_once() {
        let terms = terms(300);
        let due = |close_at, presence, seconds| {
            let (job, now) = (job(1_000, 0, close_at), Timestamp(1_800_000_100));
            let situation = Situation {
                terms: &terms,
                job: &job,
                presence,
                is_refused: close_at == 0,
                account: None,
                missing_since: Some(Timestamp(now.0 - seconds)),
                policy: &POLICY,
                head: now,
                now,
            };
            situation.duty()
        };
        assert_eq!(due(0, Presence::Running, 0), Some(Duty::Remove));
        assert_eq!(due(0, Presence::Absent, 59), None);
        assert_eq!(due(0, Presence::Absent, 60), Some(Duty::Decline));
        assert_eq!(due(1_800_003_600, Presence::Absent, 600), None);
    }

    #[test]
    fn what_ran_earned_its_start_fee() {
        let mut account = account();
        account.end(Timestamp(1_800_000_011));
        account.finish(Timestamp(1_800_000_011));
        let state = job(1_000, 0, 1_800_003_600);
        let now = due(&terms(300), &state, Presence::Absent, false, Some(&account));
        assert_eq!(now, Some(Duty::ClaimStartFee));
        let state = job(1_000, 300, 1_800_003_600);
        let now = due(&terms(300), &state, Presence::Absent, false, Some(&account));
        assert_eq!(now, Some(Duty::Decline));
    }

    #[test]
    fn what_cannot_be_removed_is_not_closed() {
        let mut account = account();
        account.end(Timestamp(1_800_000_010));
        account.finish(Timestamp(1_800_000_010));
        let (terms, job, now) = (terms(0), job(1_000, 0, 0), Timestamp(1_800_000_100));
        let situation = Situation {
            terms: &terms,
            job: &job,
            presence: Presence::Partial,
            is_refused: false,
            account: Some(&account),
            missing_since: None,
            policy: &POLICY,
            head: now,
            now,
        };
        assert_eq!((situation.duty(), situation.meanwhile()), (Some(Duty::Remove), None));
    }

    #[test]
    fn an_account_to_which_nothing_is_due_is_declined() {
        let mut account = account();
        account.end(Timestamp(1_800_000_010));
        assert_eq!(account.finish(Timestamp(1_800_000_010)), None);
        let state = job(1_000, 0, 0);
        let now = due(&terms(0), &state, Presence::Absent, false, Some(&account));
        assert_eq!(now, Some(Duty::Decline));
    }

    proptest! {
        /// Nothing but a close on chain, or a refusal, ever ends a job that runs; and whatever the provider does, it
        /// comes to rest.
        #[test]
        fn doing_the_duties_leaves_no_duty(
            start_fee in 0u128..2_000,
            deposit in 1u128..2_000,
            paid in 0u128..2_000,
            closing in any::<bool>(),
            is_refused in any::<bool>(),
            presence in prop_oneof![
                Just(Presence::Absent),
                Just(Presence::Partial),
                Just(Presence::Running),
            ],
        ) {
            let terms = terms(start_fee);
            let close_at = if closing { 1_800_003_600 } else { 0 };
            let mut state = job(deposit, paid.min(deposit), close_at);
            let mut presence = presence;
            for _ in 0..3 {
                match due(&terms, &state, presence, is_refused, None) {
                    Some(Duty::Deploy) => presence = Presence::Running,
                    Some(Duty::Remove) => {
                        prop_assert!(closing || is_refused);
                        presence = Presence::Absent;
                    }
                    Some(Duty::ClaimStartFee) => {
                        let due = start_fee_due(&terms, &state);
                        prop_assert!(!due.is_zero());
                        state.paid = state.paid.checked_add(due).unwrap();
                        prop_assert!(state.paid <= state.deposit);
                    }
                    Some(Duty::Decline) => {
                        prop_assert_eq!(presence, Presence::Absent);
                        state.deposit = state.paid;
                        state.close_at = Job::CLOSED;
                    }
                    Some(Duty::Settle | Duty::SettleAndClose) => {
                        prop_assert!(false, "there is no account to settle");
                    }
                    None => break,
                }
            }
            prop_assert_eq!(due(&terms, &state, presence, is_refused, None), None);
            let is_served = presence == Presence::Running;
            prop_assert_eq!(is_served, !closing && !is_refused);
        }
    }
}
