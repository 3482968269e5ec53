//! Whole bills, recomputed after the end.

use alloy_primitives::B256;
use roadstead_core::{BillProblem, FinishedJob, Recomputed, protocol::RefusalCode, verify_bill};
use roadstead_types::{Bill, Job, Receipt, SignedReceipt, TokenAmount, Voucher};

use crate::fixture::{DEPOSIT, Fixture, OPENED, amount, at, bill_of};

struct Case {
    market: Fixture,
    receipts: Vec<SignedReceipt>,
    voucher: Option<Voucher>,
    deposit: u128,
    paid: u128,
}

impl Case {
    /// Five receipts, all accepted and paid.
    fn honest() -> Self {
        let market = Fixture::new();
        let chain = market.chain(5);
        let receipts = chain.iter().map(|receipt| market.signed(*receipt)).collect();
        let voucher = Some(market.full(&chain[4]));
        Self { receipts, voucher, deposit: DEPOSIT, paid: chain[4].cumulative.units(), market }
    }

    fn verify(&self) -> Result<Recomputed, BillProblem> {
        let paid = amount(self.paid);
        verify_bill(&FinishedJob {
            domain: &self.market.domain,
            job: self.market.job,
            terms: &self.market.terms,
            tariff: &self.market.tariff,
            operator: Some(self.market.operator.address()),
            opened_at: OPENED,
            deposit: amount(self.deposit),
            state: Job { deposit: paid, paid, paid_until: at(300), close_at: Job::CLOSED },
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
    let expected = Recomputed { receipts: 5, until: at(300), metered: all, due: all };
    assert_eq!(case.verify(), Ok(expected));
    case.paid += 1;
    assert_eq!(case.verify(), paid(all, case.paid));
    // Each settlement may round a unit off, and there were at most five.
    case.paid = all.units() - 5;
    assert_eq!(case.verify(), Ok(expected));
    case.paid = all.units() - 6;
    assert_eq!(case.verify(), paid(all, case.paid));
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
    assert_eq!(broken(0, &|r| r.from.0 = OPENED.0 - 61), (0, RefusalCode::Time));
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
    case.paid = fee - 6;
    assert_eq!(case.verify(), paid(amount(fee), fee - 6));
    // A job that never ran.
    case.receipts.clear();
    case.voucher = None;
    case.paid = 0;
    let nothing = Recomputed { receipts: 0, until: OPENED, metered: amount(0), due: amount(0) };
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
