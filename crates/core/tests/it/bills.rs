//! Whole bills, recomputed after the end.

use alloy_primitives::B256;
use roadstead_core::{BillProblem, FinishedJob, Recomputed, protocol::RefusalCode, verify_bill};
use roadstead_types::{Bill, Job, Receipt, SignedReceipt, Timestamp, TokenAmount, Voucher};

use crate::fixture::{DEPOSIT, Fixture, OPENED, amount, at, bill_of};

struct Case {
    market: Fixture,
    receipts: Vec<SignedReceipt>,
    voucher: Option<Voucher>,
    opened_at: Timestamp,
    deposit: u128,
    paid: u128,
    paid_until: Timestamp,
}

impl Case {
    /// Five receipts, all accepted and paid.
    fn honest() -> Self {
        let market = Fixture::new();
        let chain = market.chain(5);
        let receipts = chain.iter().map(|receipt| market.signed(*receipt)).collect();
        let voucher = Some(market.full(&chain[4]));
        Self {
            receipts,
            voucher,
            opened_at: OPENED,
            deposit: DEPOSIT,
            paid: chain[4].cumulative.units(),
            paid_until: at(300),
            market,
        }
    }

    fn verify(&self) -> Result<Recomputed, BillProblem> {
        let paid = amount(self.paid);
        verify_bill(&FinishedJob {
            domain: &self.market.domain,
            job: self.market.job,
            terms: &self.market.terms,
            tariff: &self.market.tariff,
            operator: Some(self.market.operator.address()),
            opened_at: self.opened_at,
            deposit: amount(self.deposit),
            state: Job { deposit: paid, paid, paid_until: self.paid_until, close_at: Job::CLOSED },
            receipts: &self.receipts,
            voucher: self.voucher.as_ref(),
        })
    }

    fn receipt(&self, index: usize) -> Receipt {
        self.receipts[index].receipt
    }
}

fn paid(due: TokenAmount, paid: u128) -> Result<Recomputed, BillProblem> {
    Err(BillProblem::Paid { due, paid: amount(paid) })
}

#[test]
fn an_honest_bill_is_recomputed_to_the_unit() {
    let mut case = Case::honest();
    let all = amount(case.paid);
    let unclaimed = amount(0);
    let expected = Recomputed { receipts: 5, until: at(300), metered: all, due: all, unclaimed };
    assert_eq!(case.verify(), Ok(expected));
    case.paid += 1;
    assert_eq!(case.verify(), paid(all, case.paid));
    // What was accepted and never settled is the publisher's luck.
    case.paid = all.units() - 600;
    assert_eq!(case.verify(), Ok(Recomputed { unclaimed: amount(600), ..expected }));
}

#[test]
fn every_receipt_is_checked() {
    let broken = |index: usize, alter: &dyn Fn(&mut Receipt)| {
        let mut case = Case::honest();
        let mut receipt = case.receipt(index);
        alter(&mut receipt);
        case.receipts[index] = case.market.signed(receipt);
        match case.verify() {
            Err(BillProblem::Receipt { seq, code }) => (seq, code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken(2, &|r| r.seq = 7), (7, RefusalCode::Order));
    assert_eq!(broken(2, &|r| r.prev = B256::ZERO), (2, RefusalCode::Order));
    assert_eq!(broken(2, &|r| r.from = at(119)), (2, RefusalCode::Time));
    assert_eq!(broken(0, &|r| r.from = r.to), (0, RefusalCode::Time));
    assert_eq!(broken(2, &|r| r.total.cpu += 1), (2, RefusalCode::Growth));
    assert_eq!(broken(2, &|r| r.cumulative = amount(1)), (2, RefusalCode::Sum));
    // The next one does not follow from an altered one.
    assert_eq!(broken(2, &|r| r.to = at(181)), (3, RefusalCode::Order));

    let mut case = Case::honest();
    case.receipts[3] = case.market.signed_by(&case.market.stranger, case.receipt(3));
    let refused = BillProblem::Receipt { seq: 3, code: RefusalCode::Signature };
    assert_eq!(case.verify(), Err(refused));
    let mut case = Case::honest();
    case.receipts.remove(2);
    assert_eq!(case.verify(), Err(BillProblem::Receipt { seq: 3, code: RefusalCode::Order }));
    let mut case = Case::honest();
    case.receipts.insert(2, case.receipts[1]);
    assert_eq!(case.verify(), Err(BillProblem::Receipt { seq: 1, code: RefusalCode::Order }));
}

#[test]
fn the_voucher_is_the_signers_and_of_one_of_the_receipts() {
    let mut case = Case::honest();
    let bill = bill_of(&case.receipt(4));
    let wrong = [
        Bill { cumulative: amount(bill.cumulative.units() + 1), ..bill },
        Bill { until: at(301), ..bill },
        Bill { usage_root: B256::ZERO, ..bill },
    ];
    for bill in wrong {
        case.voucher = Some(case.market.voucher(bill));
        assert_eq!(case.verify(), Err(BillProblem::Voucher));
    }
    let signature = case.market.full(&case.receipt(3)).signature;
    case.voucher = Some(Voucher { bill, signature });
    assert_eq!(case.verify(), Err(BillProblem::Voucher));
}

#[test]
fn what_was_never_accepted_is_not_due() {
    // The agent was gone at the end: the last two receipts are left.
    let mut case = Case::honest();
    let earlier = case.receipt(2);
    let all = case.receipt(4).cumulative;
    case.voucher = Some(case.market.full(&earlier));
    case.paid = earlier.cumulative.units();
    let found = case.verify().unwrap();
    assert_eq!((found.metered, found.due, found.receipts), (all, earlier.cumulative, 5));
    case.paid += 1;
    assert_eq!(case.verify(), paid(earlier.cumulative, case.paid));
    // Or accepted only a part of the last one.
    let short = Bill { cumulative: amount(all.units() - 50), ..bill_of(&case.receipt(4)) };
    case.voucher = Some(case.market.voucher(short));
    case.paid = short.cumulative.units();
    assert_eq!(case.verify().map(|found| found.due), Ok(short.cumulative));
}

#[test]
fn the_start_fee_is_the_least_where_it_was_taken() {
    let mut case = Case::honest();
    let all = case.paid;
    let fee = all + 500;
    case.market.terms.start_fee = amount(fee);
    case.paid = fee;
    assert_eq!(case.verify().map(|found| found.due), Ok(amount(fee)));
    // It was not taken.
    case.paid = all;
    assert_eq!(case.verify().map(|found| found.due), Ok(amount(all)));
    // More than was accepted is the fee, and that is one sum.
    case.paid = fee + 1;
    assert_eq!(case.verify(), paid(amount(fee), fee + 1));
    // A part of it was left.
    case.paid = fee - 6;
    assert_eq!(case.verify().map(|found| found.unclaimed), Ok(amount(6)));
    // A job that never ran.
    case.receipts.clear();
    case.voucher = None;
    case.paid = 0;
    let (metered, due, unclaimed) = (amount(0), amount(0), amount(0));
    let nothing = Recomputed { receipts: 0, until: OPENED, metered, due, unclaimed };
    assert_eq!(case.verify(), Ok(nothing));
    case.paid = fee;
    assert_eq!(case.verify(), Ok(Recomputed { due: amount(fee), ..nothing }));
}

#[test]
fn no_more_than_the_deposit_is_due() {
    let mut case = Case::honest();
    let all = case.paid;
    case.deposit = all - 700;
    let short = Bill { cumulative: amount(all - 700), ..bill_of(&case.receipt(4)) };
    case.voucher = Some(case.market.voucher(short));
    case.paid = all - 700;
    let found = case.verify().unwrap();
    assert_eq!((found.metered, found.due), (amount(all), amount(all - 700)));
    case.voucher = None;
    assert_eq!(case.verify(), Ok(found));
}

#[test]
fn a_dispute_ends_in_what_was_right() {
    let mut case = Case::honest();
    let honest = case.receipt(4);
    let right = honest.cumulative;
    // More than was reserved, a sum that is too high, and one that is too low.
    let mut greedy = honest;
    greedy.total.cpu += 1_000_000;
    greedy.cumulative = case.market.due(&greedy.total);
    let dear = Receipt { cumulative: amount(right.units() + 900), ..honest };
    let cheap = amount(right.units() - 50);
    for (wrong, accepted) in
        [(greedy, right), (dear, right), (Receipt { cumulative: cheap, ..honest }, cheap)]
    {
        case.receipts[4] = case.market.signed(wrong);
        let short = Bill { cumulative: accepted, ..bill_of(&wrong) };
        case.voucher = Some(case.market.voucher(short));
        case.paid = accepted.units();
        let (receipts, until, unclaimed) = (5, at(300), amount(0));
        let (metered, due) = (accepted, accepted);
        let expected = Recomputed { receipts, until, metered, due, unclaimed };
        assert_eq!(case.verify(), Ok(expected));
        case.paid += 1;
        assert_eq!(case.verify(), paid(accepted, case.paid));
        // A voucher for more than is right is none that an agent signs.
        let more = Bill { cumulative: amount(accepted.units() + 1), ..short };
        case.voucher = Some(case.market.voucher(more));
        assert_eq!(case.verify(), Err(BillProblem::Voucher));
    }
    // What was not accepted at all, and what others follow on, stays wrong.
    let sum = |seq| Err(BillProblem::Receipt { seq, code: RefusalCode::Sum });
    case.receipts[4] = case.market.signed(dear);
    case.voucher = Some(case.market.full(&case.receipt(3)));
    assert_eq!(case.verify(), sum(4));
    let mut case = Case::honest();
    let wrong = Receipt { cumulative: amount(1_000_000), ..case.receipt(3) };
    case.receipts[3] = case.market.signed(wrong);
    let short = Bill { cumulative: honest.cumulative, ..bill_of(&wrong) };
    case.voucher = Some(case.market.voucher(short));
    assert_eq!(case.verify(), sum(3));
}

#[test]
fn an_opening_that_moved_later_makes_no_bill_wrong() {
    for later in [50, 100, 10_000] {
        let mut case = Case::honest();
        case.opened_at = Timestamp(OPENED.0 + later);
        case.paid -= 600;
        assert_eq!(case.verify().map(|found| found.unclaimed), Ok(amount(600)));
        case.paid += 601;
        assert_eq!(case.verify(), paid(case.receipt(4).cumulative, case.paid));
    }
}

#[test]
fn receipts_that_are_missing_are_no_wrong_bill() {
    let mut case = Case::honest();
    case.receipts.truncate(3);
    case.voucher = Some(case.market.full(&case.receipt(2)));
    assert_eq!(case.verify(), Err(BillProblem::Missing { receipts: 3 }));
    // Of all that was paid for there is a receipt.
    case.paid_until = at(180);
    assert_eq!(case.verify(), paid(case.receipt(2).cumulative, case.paid));
    case.receipts.clear();
    case.voucher = None;
    assert_eq!(case.verify(), Err(BillProblem::Missing { receipts: 0 }));
}
