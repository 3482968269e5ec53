//! What a provider owes a job to do next, from the job's terms, its state on chain and what of it is on this machine.
//!
//! ```text
//!   the job is      and wanted here                       and not wanted: refused, closing, closed, undone
//!   not here        Deploy                                Decline while it is live: gives back what was not paid
//!   half here       Deploy                                Remove
//!   running         ClaimStartFee while some is due       Remove
//! ```
//!
//! Level-triggered: the answer depends on where things stand, not on how they came there, so asking again after a
//! crash or a reorganisation is always right.

use roadstead_types::{Job, JobStatus, Terms, TokenAmount};

/// What the provider should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Fetch, open and run it.
    Deploy,
    /// Stop it and remove everything of it.
    Remove,
    /// Take the prepaid part of the bill.
    ClaimStartFee,
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
    /// Its instance runs.
    Running,
}

/// What to do next about a job, if anything. `is_refused` says that the provider never serves it.
pub fn duty_of(terms: &Terms, job: &Job, presence: Presence, is_refused: bool) -> Option<Duty> {
    let status = job.status();
    if status == JobStatus::Open && !is_refused {
        return match presence {
            Presence::Absent | Presence::Partial => Some(Duty::Deploy),
            Presence::Running if start_fee_due(terms, job).is_zero() => None,
            Presence::Running => Some(Duty::ClaimStartFee),
        };
    }
    match (presence, status) {
        (Presence::Partial | Presence::Running, _) => Some(Duty::Remove),
        (Presence::Absent, JobStatus::Open | JobStatus::Closing) => Some(Duty::Decline),
        (Presence::Absent, JobStatus::Absent | JobStatus::Closed) => None,
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
    use roadstead_types::{Seconds, Timestamp};

    use super::*;

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

    #[test]
    fn the_start_fee_is_taken_only_while_the_job_runs() {
        let due = |presence| duty_of(&terms(300), &job(1_000, 0, 0), presence, false);
        assert_eq!(due(Presence::Absent), Some(Duty::Deploy));
        assert_eq!(due(Presence::Partial), Some(Duty::Deploy));
        assert_eq!(due(Presence::Running), Some(Duty::ClaimStartFee));
        let paid = duty_of(&terms(300), &job(1_000, 300, 0), Presence::Running, false);
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
            let due = |presence| duty_of(&terms(300), &state, presence, is_refused);
            assert_eq!(due(Presence::Running), Some(Duty::Remove), "{state:?}");
            assert_eq!(due(Presence::Partial), Some(Duty::Remove), "{state:?}");
            assert_eq!(due(Presence::Absent), then, "{state:?}");
        }
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
                match duty_of(&terms, &state, presence, is_refused) {
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
                    None => break,
                }
            }
            prop_assert_eq!(duty_of(&terms, &state, presence, is_refused), None);
            let is_served = presence == Presence::Running;
            prop_assert_eq!(is_served, !closing && !is_refused);
        }
    }
}
