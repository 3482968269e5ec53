//! The one rule of the contracts, as the clients compute it.

use alloy_primitives::{B256, U256};
use proptest::prelude::*;
use roadstead_core::{Unpayable, advance, cost_of, due_for, rate_per_hour};
use roadstead_types::{Bill, Job, Resources, Seconds, Terms, Timestamp, TokenAmount};

use crate::fixture::{Fixture, OPENED, amount};

fn terms(rate: u128, start_fee: u128) -> Terms {
    let terms = Fixture::new().terms;
    Terms { rate_per_hour: amount(rate), start_fee: amount(start_fee), ..terms }
}

fn later(seconds: u32) -> Timestamp {
    OPENED.after(Seconds(seconds))
}

fn bill(cumulative: u128, seconds: u32) -> Bill {
    Bill { cumulative: amount(cumulative), until: later(seconds), usage_root: B256::ZERO }
}

fn slot(deposit: u128, paid: u128) -> Job {
    Job { deposit: amount(deposit), paid: amount(paid), paid_until: OPENED, ..Job::default() }
}

#[test]
fn each_bound_cuts_a_bill() {
    let now = later(1_000);
    let paid = |terms: &Terms, job: &Job, bill: &Bill| advance(terms, job, bill, now);
    // In full.
    assert_eq!(paid(&terms(3_600, 0), &slot(900, 5), &bill(100, 100)), Ok(amount(100)));
    // The rate: what was paid and a unit a second.
    assert_eq!(paid(&terms(3_600, 0), &slot(900, 5), &bill(200, 100)), Ok(amount(105)));
    // Rounded down.
    assert_eq!(paid(&terms(3_599, 0), &slot(900, 5), &bill(200, 100)), Ok(amount(104)));
    // The deposit.
    assert_eq!(paid(&terms(3_600, 0), &slot(50, 5), &bill(200, 100)), Ok(amount(50)));
    // The start fee, where the rate allows less, and never above the deposit.
    assert_eq!(paid(&terms(3_600, 300), &slot(900, 5), &bill(290, 100)), Ok(amount(290)));
    assert_eq!(paid(&terms(3_600, 300), &slot(900, 5), &bill(310, 100)), Ok(amount(300)));
    assert_eq!(paid(&terms(3_600, 300), &slot(250, 5), &bill(310, 100)), Ok(amount(250)));
}

#[test]
fn what_pays_nothing_says_why() {
    let (now, terms) = (later(1_000), terms(3_600, 30));
    let open = slot(900, 40);
    let result = |job: &Job, bill: &Bill| advance(&terms, job, bill, now).unwrap_err();
    for status in [Job { paid_until: Timestamp(0), ..open }, Job { close_at: Job::CLOSED, ..open }]
    {
        assert_eq!(result(&status, &bill(100, 100)), Unpayable::NotLive);
    }
    let (until, paid_until) = (OPENED, OPENED);
    assert_eq!(result(&open, &bill(100, 0)), Unpayable::TooEarly { until, paid_until });
    let until = later(1_001);
    assert_eq!(result(&open, &bill(100, 1_001)), Unpayable::TooLate { until, latest: now });
    assert_eq!(advance(&terms, &open, &bill(100, 1_000), now), Ok(amount(100)));
    let (closing, latest) = (Job { close_at: later(500), ..open }, later(500));
    let until = later(501);
    assert_eq!(result(&closing, &bill(100, 501)), Unpayable::TooLate { until, latest });
    assert_eq!(advance(&terms, &closing, &bill(100, 500), now), Ok(amount(100)));
    assert_eq!(result(&open, &bill(40, 100)), Unpayable::Nothing);
    assert_eq!(result(&slot(40, 40), &bill(100, 100)), Unpayable::Nothing);
    assert_eq!(advance(&terms, &open, &bill(41, 1), now), Ok(amount(41)));
}

#[test]
fn sums_are_rounded_once_and_at_their_end() {
    let third =
        |units: u64| Resources { cpu: units, memory: units, storage: units, ..Default::default() };
    let prices = Resources::from_fn(|_| 333_333_333_334);
    // Three parts of a third and a bit: below a unit each, and a unit together.
    assert_eq!(due_for(&third(1), &prices), Some(amount(1)));
    assert_eq!(due_for(&Resources { cpu: 1, ..Default::default() }, &prices), Some(amount(0)));
    let (most, dear) = (Resources::from_fn(|_| u64::MAX), Resources::from_fn(|_| u128::MAX));
    assert_eq!(due_for(&most, &dear), None);
}

proptest! {
    #[test]
    fn the_rule_is_its_formula(
        rate in prop_oneof![0u128..10_000, 0..(1u128 << 96)],
        start_fee in 0u128..500,
        deposit in prop_oneof![0u128..2_000, 0..(1u128 << 96)],
        paid_share in 0u128..=100,
        cumulative in prop_oneof![0u128..2_500, 0..(1u128 << 96)],
        span in -5i64..5_000,
        ahead in -5i64..50,
        closing in prop::option::of(-5i64..50),
    ) {
        let paid = deposit / 100 * paid_share;
        let mut job = slot(deposit, paid);
        let until = Timestamp(u32::try_from(i64::from(OPENED.0) + span).unwrap());
        let shifted = |by: i64| Timestamp(u32::try_from(i64::from(until.0) + by).unwrap());
        let now = shifted(ahead);
        job.close_at = closing.map(shifted).unwrap_or_default();
        let bill = Bill { cumulative: amount(cumulative), until, usage_root: B256::ZERO };

        let seconds = U256::from(until.0.saturating_sub(OPENED.0));
        let by_rate = U256::from(paid) + U256::from(rate) * seconds / U256::from(3_600);
        let limit = by_rate.max(U256::from(start_fee)).min(U256::from(deposit));
        let target = limit.min(U256::from(cumulative));
        let is_in_time = span > 0 && ahead >= 0 && closing.is_none_or(|by| by >= 0);
        let expected = (is_in_time && target > U256::from(paid)).then_some(target);

        let found = advance(&terms(rate, start_fee), &job, &bill, now).ok();
        prop_assert_eq!(found.map(|paid| U256::from(paid.units())), expected);
    }

    /// However a job is settled: no more than the start fee and the rate over the time.
    #[test]
    fn settlements_never_pass_the_start_fee_and_the_rate(
        rate in 0u128..100_000,
        start_fee in 0u128..500,
        claims_fee in any::<bool>(),
        steps in prop::collection::vec((0u32..4_000, 0u128..40_000), 1..40),
    ) {
        let terms = terms(rate, start_fee);
        let mut job = slot(1_000_000, if claims_fee { start_fee } else { 0 });
        let (mut now, mut cumulative) = (0, 0);
        for (passed, more) in steps {
            now += passed;
            cumulative += more;
            if let Ok(paid) = advance(&terms, &job, &bill(cumulative, now), later(now)) {
                prop_assert!(paid > job.paid && paid <= job.deposit);
                (job.paid, job.paid_until) = (paid, later(now));
            }
            let bound = start_fee + rate * u128::from(now) / 3_600;
            prop_assert!(job.paid <= amount(bound));
        }
    }

    /// What is due for use within the reservation never passes the rate, wherever it is rounded.
    #[test]
    fn what_is_due_is_within_the_rate(
        reserved in prop::array::uniform6(0u64..100_000),
        price in prop::array::uniform6(0u128..1 << 60),
        share in prop::array::uniform6(0u64..=100),
        seconds in 0u32..1_000_000,
    ) {
        let (mut a, mut b, mut c) = (reserved.iter(), price.iter(), share.iter());
        let reservation = Resources::from_fn(|_| *a.next().unwrap());
        let prices = Resources::from_fn(|_| *b.next().unwrap());
        let used = Resources::from_fn(|each| {
            reservation.get(each) * u64::from(seconds) * c.next().unwrap() / 100
        });
        let rate = rate_per_hour(&reservation, &prices).unwrap();
        let due = due_for(&used, &prices).unwrap();
        prop_assert!(due <= cost_of(rate, Seconds(seconds)));
        let on_chain = U256::from(rate.units()) * U256::from(seconds) / U256::from(3_600);
        prop_assert!(due <= TokenAmount::try_from(on_chain).unwrap());
    }
}
