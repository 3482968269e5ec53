//! What a provider owes a job to do next, from the job's terms and its state on chain alone.
//!
//! ```text
//!  open ── start fee due ──> ClaimStartFee
//!  open ── nothing due ────> nothing
//!  closing ────────────────> Decline: gives back at once what was not paid
//!  closed, absent ─────────> nothing
//! ```
//!
//! Level-triggered: the answer depends on where the job stands, not on how it came there, so asking again after a
//! crash or a reorganisation is always right.

use roadstead_types::{Job, JobStatus, Terms, TokenAmount};

/// A transaction that the provider should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Take the prepaid part of the bill.
    ClaimStartFee,
    /// Close the job and give everything unpaid back.
    Decline,
}

/// What to do next about a job, if anything.
pub fn duty_of(terms: &Terms, job: &Job) -> Option<Duty> {
    match job.status() {
        JobStatus::Open if !start_fee_due(terms, job).is_zero() => Some(Duty::ClaimStartFee),
        JobStatus::Closing => Some(Duty::Decline),
        JobStatus::Open | JobStatus::Absent | JobStatus::Closed => None,
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
    fn a_job_that_is_left_is_given_back_and_never_charged_again() {
        assert_eq!(duty_of(&terms(300), &job(1_000, 0, 1_800_003_600)), Some(Duty::Decline));
        assert_eq!(duty_of(&terms(300), &job(1_000, 0, 1)), None);
    }

    proptest! {
        #[test]
        fn doing_the_duty_leaves_no_duty(
            start_fee in 0u128..2_000,
            deposit in 1u128..2_000,
            paid in 0u128..2_000,
            closing in any::<bool>(),
        ) {
            let terms = terms(start_fee);
            let close_at = if closing { 1_800_003_600 } else { 0 };
            let mut state = job(deposit, paid.min(deposit), close_at);
            for _ in 0..2 {
                match duty_of(&terms, &state) {
                    Some(Duty::ClaimStartFee) => {
                        let due = start_fee_due(&terms, &state);
                        prop_assert!(!due.is_zero());
                        state.paid = state.paid.checked_add(due).unwrap();
                        prop_assert!(state.paid <= state.deposit);
                    }
                    Some(Duty::Decline) => {
                        state.deposit = state.paid;
                        state.close_at = Job::CLOSED;
                    }
                    None => break,
                }
            }
            prop_assert_eq!(duty_of(&terms, &state), None);
        }
    }
}
