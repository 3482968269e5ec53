//! Accounts: when a job is read, paused and ended, and what becomes of one that was lost.

use alloy_primitives::{B256, keccak256};
use roadstead_abi::{receipt_digest, receipt_root, recover};
use roadstead_core::{JobAccount, PauseReason, ReceiptHead, Sighting, check_chain};
use roadstead_types::{
    Bill, Job, JobId, Receipt, Resources, Seconds, SignedReceipt, Tariff, Terms,
};

use crate::fixture::{DEPOSIT, Fixture, READY, amount, at, bill_of};

#[test]
fn receipts_are_a_chain_of_readings() {
    let market = Fixture::new();
    let (account, receipts) = market.account(5);
    assert_eq!(receipts, market.chain(5));
    assert_eq!(account.head(), Some(&ReceiptHead::from(&receipts[4])));
}

#[test]
fn a_reading_is_due_after_an_interval_of_running() {
    let market = Fixture::new();
    let (mut account, _) = market.account(1);
    assert!(!account.is_reading_due(at(119)));
    assert!(account.is_reading_due(at(120)) && account.is_reading_due(at(9_000)));
    account.set_paused(true);
    assert!(!account.is_reading_due(at(120)) && !account.is_redating_due(at(120)));
    account.set_paused(false);
    account.see(at(121), Sighting::Stopped(None));
    assert!(!account.is_reading_due(at(500)));
    account.restarted(at(500));
    assert!(account.is_reading_due(at(500)));
    account.finish(at(501)).unwrap();
    assert!(!account.is_reading_due(at(9_000)));
}

#[test]
fn no_receipt_is_made_of_a_sum_that_no_contract_can_hold() {
    let reservation = Resources { memory: u64::MAX, ..Resources::default() };
    let prices = Resources { memory: u128::MAX, ..Resources::default() };
    let tariff = Tariff { interval: Seconds(60), reservation, prices };
    let mut account = JobAccount::open(JobId::default(), tariff, READY);
    account.see(at(60), Sighting::Running(Default::default()));
    assert_eq!(account.read(at(60)), None);
    assert_eq!(account.head(), None);
    // And nothing that is shown of it is beyond its range.
    let slot = Job { deposit: amount(5), paid_until: READY, ..Job::default() };
    assert_eq!(account.pause_reason(&slot), Some(PauseReason::Exhausted));
    assert_eq!(account.runway(&slot), Seconds(0));
}

#[test]
fn two_receipts_may_wait() {
    let market = Fixture::new();
    let slot = market.slot(DEPOSIT);
    let reason = |receipts, take| market.accepted(receipts, take).0.pause_reason(&slot);
    assert_eq!(reason(1, 0), None);
    assert_eq!(reason(2, 0), Some(PauseReason::Unaccepted));
    assert_eq!(reason(2, 1), None);
    assert_eq!(reason(3, 1), Some(PauseReason::Unaccepted));
    assert_eq!(reason(3, 3), None);
    // As long as the start fee covers them, any number.
    let prepaid = Job { paid: market.chain(3)[2].cumulative, ..slot };
    assert_eq!(market.account(3).0.pause_reason(&prepaid), None);
    assert_eq!(market.account(4).0.pause_reason(&prepaid), Some(PauseReason::Unaccepted));
}

#[test]
fn one_long_reading_is_given_time_to_be_accepted() {
    let market = Fixture::new();
    let (mut account, _) = market.account(0);
    account.see(at(7_200), Sighting::Running(market.counters(7_200)));
    account.read(at(7_200)).unwrap();
    assert_eq!(account.pause_reason(&market.slot(DEPOSIT)), None);
}

#[test]
fn what_is_not_accepted_in_full_counts_with_what_waits() {
    let market = Fixture::new();
    let slot = market.slot(DEPOSIT);
    let interval = market.chain(1)[0].cumulative.units();
    let short_of = |missing: u128, more: bool| {
        let (mut account, receipts) = market.account(3);
        let cumulative = amount(receipts[2].cumulative.units() - missing);
        let voucher = market.voucher(Bill { cumulative, ..bill_of(&receipts[2]) });
        market.take(&mut account, &voucher, &receipts[2], &slot);
        if more {
            account.see(at(240), Sighting::Running(market.counters(240)));
            account.read(at(240)).unwrap();
        }
        account.pause_reason(&slot)
    };
    assert_eq!(short_of(2 * interval - 1, false), None);
    assert_eq!(short_of(2 * interval, false), Some(PauseReason::Unaccepted));
    assert_eq!(short_of(interval - 1, true), None);
    assert_eq!(short_of(interval, true), Some(PauseReason::Unaccepted));
}

#[test]
fn the_deposit_is_to_cover_one_more_interval() {
    let market = Fixture::new();
    let (account, receipts) = market.accepted(2, 2);
    let billed = receipts[1].cumulative.units();
    let interval = market.chain(1)[0].cumulative.units();
    let reason =
        |deposit, paid| account.pause_reason(&Job { paid: amount(paid), ..market.slot(deposit) });
    assert_eq!(reason(billed + interval, 0), None);
    assert_eq!(reason(billed + interval - 1, 0), Some(PauseReason::Exhausted));
    // What was taken in advance covers use as the rest does.
    assert_eq!(reason(billed + interval, billed + interval), None);
    let slot = Job { paid: amount(billed + interval), ..market.slot(billed + interval) };
    assert_eq!(account.runway(&slot), market.tariff.interval);
    assert_eq!(account.runway(&market.slot(billed)), Seconds(0));
}

#[test]
fn a_free_job_is_never_paused_for_money() {
    let mut market = Fixture::new();
    market.tariff.prices = Resources::default();
    let (account, _) = market.account(9);
    let slot = market.slot(1);
    assert_eq!((account.pause_reason(&slot), account.runway(&slot)), (None, Seconds(u32::MAX)));
    assert_eq!(account.note(&slot, at(1_000)), None);
}

#[test]
fn a_publisher_is_told_before_it_bites() {
    let market = Fixture::new();
    let slot = market.slot(DEPOSIT);
    let note = |account: &JobAccount, slot: &Job| account.note(slot, at(1_000)).unwrap_or_default();
    let (account, receipts) = market.account(1);
    assert!(note(&account, &slot).contains("1 receipts wait"));
    assert_eq!(account.note(&slot, receipts[0].to), None, "it was signed just now");
    let (mut account, _) = market.accepted(1, 1);
    assert_eq!(account.note(&slot, at(1_000)), None);
    let low = market.slot(receipts[0].cumulative.units() + 2_328 * 3);
    assert!(note(&account, &low).contains("the deposit lasts for 180 s"));
    account.set_paused(true);
    assert!(note(&account, &market.slot(2_328)).contains("the deposit is used up"));
}

#[test]
fn the_grace_time_runs_out_for_the_exhausted_alone() {
    let market = Fixture::new();
    let (mut account, receipts) = market.accepted(1, 1);
    let (used_up, grace) = (market.slot(receipts[0].cumulative.units()), Seconds(100));
    assert!(!account.is_given_up(&used_up, at(500), grace, Seconds(1_000)), "it is not paused yet");
    account.set_paused(true);
    assert!(!account.is_given_up(&used_up, at(159), grace, Seconds(1_000)));
    assert!(account.is_given_up(&used_up, at(160), grace, Seconds(1_000)));
    assert!(!account.is_given_up(&market.slot(DEPOSIT), at(160), grace, Seconds(1_000)));
}

#[test]
fn the_last_receipt_holds_all_that_was_used() {
    let market = Fixture::new();
    let counters = market.counters(90);
    for (last, frozen) in [
        (Sighting::Running(counters), false),
        (Sighting::Stopped(Some(counters)), false),
        (Sighting::Frozen(counters), true),
    ] {
        let (mut account, receipts) = market.account(1);
        account.see(at(90), last);
        account.set_paused(frozen);
        let receipt = account.finish(at(90)).unwrap();
        assert_eq!((receipt.seq, receipt.from, receipt.to), (1, at(60), at(90)));
        assert_eq!(receipt.total.cpu, 500 * 90, "{last:?}");
        assert!(account.is_final() && account.is_ending());
        assert_eq!((account.finish(at(100)), account.read(at(100))), (None, None));
        assert!(receipts[0].cumulative < receipt.cumulative);
    }
    // Where no second has passed there is nothing to read.
    let (mut account, _) = market.account(1);
    assert_eq!(account.finish(at(60)), None);
    assert!(account.is_final());
}

#[test]
fn an_account_is_the_same_after_it_was_written_down() {
    let mut market = Fixture::new();
    market.tariff.prices.accelerator = u128::MAX;
    market.tariff.reservation.accelerator = 0;
    let (mut account, _) = market.accepted(3, 2);
    account.set_paused(true);
    account.end(at(200));
    let kept = serde_json::to_string(&account).unwrap();
    assert_eq!(serde_json::from_str::<JobAccount>(&kept).unwrap(), account);
}

fn signed(market: &Fixture, receipts: &[Receipt]) -> Vec<SignedReceipt> {
    receipts.iter().map(|receipt| market.signed(*receipt)).collect()
}

fn check(
    market: &Fixture,
    head: Option<&ReceiptHead>,
    receipts: &[SignedReceipt],
) -> Result<Option<ReceiptHead>, u32> {
    let is_own = |signed: &SignedReceipt| {
        let digest = receipt_digest(&market.domain, &signed.receipt);
        recover(&digest, &signed.signature) == Some(market.terms.provider)
    };
    check_chain(market.job, head, receipts, is_own).map_err(|broken| broken.seq)
}

#[test]
fn an_account_goes_on_from_receipts_that_came_back() {
    let market = Fixture::new();
    let (_, receipts) = market.account(4);
    let chain = signed(&market, &receipts);
    let middle = check(&market, None, &chain[..2]).unwrap();
    assert_eq!(middle, Some((&receipts[1]).into()));
    let head = check(&market, middle.as_ref(), &chain[2..]).unwrap();
    assert_eq!(head, Some((&receipts[3]).into()));
    assert_eq!(check(&market, head.as_ref(), &[]), Ok(head));

    let mut account = JobAccount::restored(market.tariff, &receipts[3]);
    assert_eq!(account.head(), head.as_ref());
    assert!(!account.is_reading_due(at(9_000)), "its instance was not seen yet");
    account.see(at(400), Sighting::Running(market.counters(400)));
    account.see(at(460), Sighting::Running(market.counters(460)));
    let next = account.read(at(460)).unwrap();
    // The time between is not charged.
    let expected = Receipt {
        seq: 4,
        from: at(240),
        to: at(460),
        total: market.full_use(300),
        cumulative: market.due(&market.full_use(300)),
        prev: receipt_root(&receipts[3]),
        job: market.job,
    };
    assert_eq!(next, expected);
    let voucher = market.full(&receipts[3]);
    market.take(&mut account, &voucher, &receipts[3], &market.slot(DEPOSIT));
    assert_eq!(account.unaccepted(), 1);
}

#[test]
fn receipts_of_others_do_not_come_back() {
    let market = Fixture::new();
    let (_, receipts) = market.account(4);
    let broken = |change: &dyn Fn(&mut Vec<Receipt>)| {
        let mut changed = receipts.clone();
        change(&mut changed);
        check(&market, None, &signed(&market, &changed))
    };
    assert_eq!(broken(&|all| all.swap(1, 2)), Err(2));
    assert_eq!(broken(&|all| all.retain(|each| each.seq != 1)), Err(2));
    assert_eq!(broken(&|all| all.retain(|each| each.seq != 0)), Err(1));
    assert_eq!(broken(&|all| all.insert(1, all[0])), Err(0));
    assert_eq!(broken(&|all| all[2].prev = B256::ZERO), Err(2));
    assert_eq!(broken(&|all| all[2].from = at(121)), Err(2));
    assert_eq!(broken(&|all| all[2].to = all[2].from), Err(2));
    assert_eq!(broken(&|all| all[0].job = JobId(keccak256("another"))), Err(0));
    let mut forged = signed(&market, &receipts);
    forged[2] = market.signed_by(&market.stranger, receipts[2]);
    assert_eq!(check(&market, None, &forged), Err(2));
    // After the last number there is none.
    let last = ReceiptHead { seq: u32::MAX, ..(&receipts[0]).into() };
    assert_eq!(check(&market, Some(&last), &signed(&market, &receipts[1..2])), Err(1));
}

#[test]
fn the_terms_rate_may_be_higher_than_what_full_use_costs() {
    let market = Fixture::new();
    let terms = Terms { rate_per_hour: roadstead_types::TokenAmount::MAX, ..market.terms.clone() };
    let (mut account, receipts) = market.account(2);
    let slot = market.slot(DEPOSIT);
    let voucher = market.full(&receipts[1]);
    let taken = account.accept(&voucher, &receipts[1], &market.domain, &terms, &slot);
    assert_eq!((taken, account.pause_reason(&slot)), (Ok(true), None));
}
