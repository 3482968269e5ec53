//! Settlements: when vouchers become money, and how a job ends.

use roadstead_core::{JobAccount, LAST_VOUCHER, SettlePolicy, Settlement, Sighting};
use roadstead_types::{Bill, Job, Seconds, Timestamp, TokenAmount};

use crate::fixture::{DEPOSIT, Fixture, READY, amount, at, bill_of};

/// Neither value nor age makes anything due.
const NEVER: SettlePolicy = SettlePolicy { value: TokenAmount::MAX, age: Seconds(u32::MAX) };

fn settlement(
    market: &Fixture,
    account: &JobAccount,
    slot: &Job,
    policy: &SettlePolicy,
    now: Timestamp,
) -> Settlement {
    account.settlement(&market.terms, slot, policy, now, now)
}

#[test]
fn vouchers_become_money_by_value_and_by_age() {
    let market = Fixture::new();
    let (account, receipts) = market.accepted(2, 2);
    let voucher = market.full(&receipts[1]);
    let slot = market.slot(DEPOSIT);
    let due = receipts[1].cumulative.units();
    let decide = |value, age, slot: &Job, now| {
        let policy = SettlePolicy { value: amount(value), age: Seconds(age) };
        settlement(&market, &account, slot, &policy, now)
    };
    let yes = Settlement::Settle(voucher);
    assert_eq!(decide(due, u32::MAX, &slot, at(120)), yes);
    assert_eq!(decide(due + 1, u32::MAX, &slot, at(120)), Settlement::None);
    // What the start fee paid is not due again.
    let prepaid = Job { paid: amount(1), ..slot };
    assert_eq!(decide(due, u32::MAX, &prepaid, at(120)), Settlement::None);
    // Ten seconds passed between the opening and the first use.
    assert_eq!(decide(due + 1, 200, &slot, at(189)), Settlement::None);
    assert_eq!(decide(due + 1, 200, &slot, at(190)), yes);
    // Half the notice, whatever the policy says.
    let half = 43_200 - 10;
    assert_eq!(decide(due + 1, u32::MAX, &slot, at(half - 1)), Settlement::None);
    assert_eq!(decide(due + 1, u32::MAX, &slot, at(half)), yes);
    // Nothing is left to pay, or it was paid.
    let paid = Job { paid: amount(due), paid_until: at(120), ..slot };
    assert_eq!(decide(0, 0, &paid, at(half)), Settlement::None);
    // Nobody leaves, so the whole job is not given up however little is owed.
    assert_eq!(decide(0, 0, &slot, at(120)), yes);
    // At once when the publisher leaves.
    let closing = Job { close_at: at(86_400), ..slot };
    assert_eq!(decide(due + 1, u32::MAX, &closing, at(120)), yes);
}

#[test]
fn a_bill_ahead_of_the_blocks_waits_for_them() {
    let market = Fixture::new();
    let (mut account, receipts) = market.accepted(2, 2);
    let slot = market.slot(DEPOSIT);
    let eager = SettlePolicy { value: amount(1), age: Seconds(0) };
    let decide = |account: &JobAccount, head| {
        account.settlement(&market.terms, &slot, &eager, head, at(120))
    };
    assert_eq!(decide(&account, at(119)), Settlement::None);
    assert_eq!(decide(&account, at(120)), Settlement::Settle(market.full(&receipts[1])));
    account.finish(at(120));
    assert_eq!(decide(&account, at(119)), Settlement::None);
    assert_eq!(decide(&account, at(120)), Settlement::SettleAndClose(market.full(&receipts[1])));
}

#[test]
fn a_short_bill_is_settled_for_its_age_alone() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(2);
    let slot = market.slot(DEPOSIT);
    let short = amount(receipts[1].cumulative.units() - 1);
    let voucher = market.voucher(Bill { cumulative: short, ..bill_of(&receipts[1]) });
    market.take(&mut account, &voucher, &receipts[1], &slot);
    let policy = SettlePolicy { value: amount(1), age: Seconds(500) };
    assert_eq!(settlement(&market, &account, &slot, &policy, at(489)), Settlement::None);
    assert_eq!(settlement(&market, &account, &slot, &policy, at(490)), Settlement::Settle(voucher));
}

#[test]
fn the_last_voucher_is_waited_for_and_then_the_best_one_taken() {
    let market = Fixture::new();
    let (mut account, receipts) = market.accepted(2, 1);
    let slot = market.slot(DEPOSIT);
    let decide = |account: &JobAccount, slot: &Job, seconds| {
        settlement(&market, account, slot, &NEVER, at(seconds))
    };
    account.end(at(125));
    assert_eq!(decide(&account, &slot, 130), Settlement::None);
    // The instance took long to stop: the wait begins with the last receipt.
    account.see(at(180), Sighting::Running(market.counters(180)));
    let last = account.finish(at(180)).unwrap();
    let best = market.full(&receipts[0]);
    assert_eq!(decide(&account, &slot, 180 + LAST_VOUCHER.0 - 1), Settlement::None);
    assert_eq!(decide(&account, &slot, 180 + LAST_VOUCHER.0), Settlement::Settle(best));
    // The notice is as good as over.
    let closing = Job { close_at: at(240), ..slot };
    assert_eq!(decide(&account, &closing, 179), Settlement::None);
    assert_eq!(decide(&account, &closing, 180), Settlement::Settle(best));
    // What was paid is paid; the rest is left alone.
    let paid = Job { paid: best.bill.cumulative, paid_until: at(60), ..slot };
    assert_eq!(decide(&account, &paid, 9_000), Settlement::None);
    // It comes after all.
    market.take(&mut account, &market.full(&last), &last, &paid);
    let close = Settlement::SettleAndClose(market.full(&last));
    assert_eq!(decide(&account, &paid, 9_000), close);
    assert_eq!(decide(&account, &slot, 181), close);
}

#[test]
fn a_job_that_cannot_be_stopped_is_paid_for_all_the_same() {
    let market = Fixture::new();
    let (mut account, receipts) = market.accepted(2, 1);
    let slot = market.slot(DEPOSIT);
    account.end(at(120));
    let best = Settlement::Settle(market.full(&receipts[0]));
    assert_eq!(settlement(&market, &account, &slot, &NEVER, at(179)), Settlement::None);
    assert_eq!(settlement(&market, &account, &slot, &NEVER, at(180)), best);
    // And a policy holds while it is being ended.
    let eager = SettlePolicy { value: amount(1), ..NEVER };
    assert_eq!(settlement(&market, &account, &slot, &eager, at(121)), best);
}

#[test]
fn where_nothing_more_is_due_the_rest_is_given_back() {
    let market = Fixture::new();
    let slot = market.slot(DEPOSIT);
    let finished = |receipts, taken: usize| {
        let (mut account, receipts) = market.accepted(receipts, taken);
        account.finish(READY);
        (account, receipts)
    };
    let decide =
        |account: &JobAccount, slot: &Job| settlement(&market, account, slot, &NEVER, at(300));
    // Nothing was ever used.
    assert_eq!(decide(&finished(0, 0).0, &slot), Settlement::Decline);
    // All of it was paid: by a settlement, or by the start fee.
    let (account, receipts) = finished(2, 2);
    let paid = Job { paid: receipts[1].cumulative, paid_until: at(120), ..slot };
    assert_eq!(decide(&account, &paid), Settlement::Decline);
    assert_eq!(decide(&account, &Job { paid: amount(9_999), ..slot }), Settlement::Decline);
    assert_eq!(
        decide(&finished(2, 0).0, &Job { paid: amount(9_999), ..slot }),
        Settlement::Decline
    );
    // The whole deposit is paid: nobody has anything to wait for, however much is owed.
    let (account, receipts) = finished(2, 1);
    let deposit = receipts[0].cumulative;
    let exhausted = market.slot(deposit.units());
    let last = Settlement::SettleAndClose(market.full(&receipts[0]));
    assert_eq!(settlement(&market, &account, &exhausted, &NEVER, at(121)), last);
    let exhausted = Job { paid: deposit, paid_until: at(60), ..exhausted };
    assert_eq!(decide(&account, &exhausted), Settlement::Decline);
}

#[test]
fn nothing_is_done_about_a_job_that_is_over_or_never_was() {
    let market = Fixture::new();
    let slot = market.slot(DEPOSIT);
    let (mut account, _) = market.accepted(2, 2);
    let eager = SettlePolicy { value: amount(0), age: Seconds(0) };
    for is_final in [false, true] {
        if is_final {
            account.finish(at(120));
        }
        let over = [Job { close_at: Job::CLOSED, ..slot }, Job::default()];
        for slot in over {
            assert_eq!(settlement(&market, &account, &slot, &eager, at(500)), Settlement::None);
        }
        // A bill for after the notice is worth nothing, and is not worth a transaction.
        let late = Job { close_at: at(119), ..slot };
        assert_eq!(settlement(&market, &account, &late, &eager, at(500)), Settlement::None);
    }
}

#[test]
fn a_short_last_voucher_is_settled_and_the_rest_left() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(2);
    let slot = market.slot(DEPOSIT);
    let short = amount(receipts[1].cumulative.units() - 1);
    let voucher = market.voucher(Bill { cumulative: short, ..bill_of(&receipts[1]) });
    market.take(&mut account, &voucher, &receipts[1], &slot);
    account.finish(at(120));
    assert_eq!(settlement(&market, &account, &slot, &NEVER, at(179)), Settlement::None);
    assert_eq!(settlement(&market, &account, &slot, &NEVER, at(180)), Settlement::Settle(voucher));
    let paid = Job { paid: short, paid_until: at(120), ..slot };
    assert_eq!(settlement(&market, &account, &paid, &NEVER, at(9_000)), Settlement::None);
}
