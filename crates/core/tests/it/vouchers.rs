//! Vouchers as a provider takes them: what counts, what changes nothing, and what is refused.

use alloy_primitives::{Address, B256, U256};
use roadstead_abi::{receipt_root, voucher_digest};
use roadstead_core::{JobAccount, PauseReason, Sighting, VoucherProblem, advance};
use roadstead_types::{
    Bill, Domain, Job, JobId, Receipt, Seconds, Signature, Terms, Timestamp, Voucher,
};

use crate::fixture::{DEPOSIT, Fixture, READY, amount, at, bill_of};

fn accept(
    market: &Fixture,
    account: &mut JobAccount,
    voucher: &Voucher,
    receipt: &Receipt,
) -> Result<bool, VoucherProblem> {
    account.accept(voucher, receipt, &market.domain, &market.terms, &market.slot(DEPOSIT))
}

/// What becomes of one voucher for the second of three receipts.
fn outcome(market: &Fixture, voucher: &Voucher) -> Result<bool, VoucherProblem> {
    let (mut account, receipts) = market.account(3);
    let before = account.clone();
    let outcome = accept(market, &mut account, voucher, &receipts[1]);
    assert_eq!(outcome == Ok(true), account != before, "only what is new changes anything");
    outcome
}

#[test]
fn an_honest_voucher_counts_once() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(3);
    let slot = market.slot(DEPOSIT);
    assert_eq!((account.unaccepted(), account.owed(&slot)), (3, receipts[2].cumulative));
    let voucher = market.full(&receipts[1]);
    assert_eq!(accept(&market, &mut account, &voucher, &receipts[1]), Ok(true));
    assert_eq!(account.accepted(), Some((1, &voucher)));
    assert_eq!(account.unaccepted(), 1);
    let rest = receipts[2].cumulative.saturating_sub(receipts[1].cumulative);
    assert_eq!(account.owed(&slot), rest);

    // The same again, and an older one.
    assert_eq!(accept(&market, &mut account, &voucher, &receipts[1]), Ok(false));
    let older = market.full(&receipts[0]);
    assert_eq!(accept(&market, &mut account, &older, &receipts[0]), Ok(false));
    // Less for the same receipt.
    let less = Bill { cumulative: amount(1), ..voucher.bill };
    assert_eq!(accept(&market, &mut account, &market.voucher(less), &receipts[1]), Ok(false));
    assert_eq!(account.accepted(), Some((1, &voucher)));
}

#[test]
fn a_signature_is_the_signers_and_in_its_one_form() {
    let market = Fixture::new();
    let bill = bill_of(&market.account(2).1[1]);
    let good = market.voucher(bill);
    assert_eq!(outcome(&market, &good), Ok(true));

    let refused = Err(VoucherProblem::Signature);
    let with = |change: &dyn Fn(&mut [u8; 65])| {
        let mut bytes = good.signature.0;
        change(&mut bytes);
        Voucher { bill, signature: Signature(bytes) }
    };
    // The other signature of the same key over the same digest: n - s, and the other parity.
    let order: U256 =
        "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().unwrap();
    let high = with(&|bytes| {
        let s = U256::from_be_slice(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        bytes[64] = 55 - bytes[64];
    });
    assert_eq!(outcome(&market, &high), refused);
    for v in [0, 1, 26, 29, 35, 255] {
        assert_eq!(outcome(&market, &with(&|bytes| bytes[64] = v)), refused, "{v}");
    }
    // As `v` of 0 or 1 it would be the right one.
    assert_eq!(outcome(&market, &with(&|bytes| bytes[64] -= 27)), refused);
    assert_eq!(outcome(&market, &with(&|bytes| bytes[64] = 55 - bytes[64])), refused);
    assert_eq!(outcome(&market, &with(&|bytes| *bytes = [0; 65])), refused);
    let nearly = with(&|bytes| {
        *bytes = [0; 65];
        bytes[64] = 27;
    });
    assert_eq!(outcome(&market, &nearly), refused);
    assert_eq!(outcome(&market, &with(&|bytes| bytes[0] ^= 1)), refused);

    let digest = voucher_digest(&market.domain, market.job, &bill);
    for key in [&market.stranger, &market.publisher, &market.provider] {
        assert_eq!(outcome(&market, &Voucher { bill, signature: key.sign(&digest) }), refused);
    }
    // Nobody's signature is not that of a signer who is nobody.
    let mut nobody = market.clone();
    nobody.terms.signer = Address::ZERO;
    assert_eq!(outcome(&nobody, &with(&|bytes| *bytes = [0; 65])), refused);
}

#[test]
fn a_voucher_counts_for_its_job_and_in_its_market() {
    let market = Fixture::new();
    let bill = bill_of(&market.account(2).1[1]);
    let other = JobId(B256::repeat_byte(9));
    let digests = [
        voucher_digest(&market.domain, other, &bill),
        voucher_digest(&Domain { chain: 1, ..market.domain }, market.job, &bill),
        voucher_digest(
            &Domain { contract: Address::repeat_byte(9), ..market.domain },
            market.job,
            &bill,
        ),
    ];
    for digest in digests {
        let voucher = Voucher { bill, signature: market.signer.sign(&digest) };
        assert_eq!(outcome(&market, &voucher), Err(VoucherProblem::Signature));
    }
    // Before anything is compared, the signature is.
    let (mut account, receipts) = market.account(2);
    let full = market.full(&receipts[1]);
    assert_eq!(accept(&market, &mut account, &full, &receipts[1]), Ok(true));
    let garbage = Voucher { signature: Signature([0; 65]), ..full };
    let refused = Err(VoucherProblem::Signature);
    assert_eq!(accept(&market, &mut account, &garbage, &receipts[1]), refused);
}

#[test]
fn a_voucher_follows_from_its_receipt() {
    let market = Fixture::new();
    let receipt = market.account(2).1[1];
    let honest = bill_of(&receipt);
    let of = |bill: Bill| outcome(&market, &market.voucher(bill));
    let root = Bill { usage_root: B256::repeat_byte(3), ..honest };
    assert_eq!(of(root), Err(VoucherProblem::Unknown));
    for until in [Timestamp(honest.until.0 - 1), honest.until.after(Seconds(1))] {
        assert_eq!(of(Bill { until, ..honest }), Err(VoucherProblem::Differs));
    }
    let more = amount(honest.cumulative.units() + 1);
    assert_eq!(of(Bill { cumulative: more, ..honest }), Err(VoucherProblem::Differs));
    let less = amount(honest.cumulative.units() - 1);
    assert_eq!(of(Bill { cumulative: less, ..honest }), Ok(true));

    // A receipt of another job, however right the voucher for it is.
    let foreign = Receipt { job: JobId(B256::repeat_byte(9)), ..receipt };
    let voucher = market.voucher(Bill { usage_root: receipt_root(&foreign), ..honest });
    let (mut account, _) = market.account(3);
    let refused = Err(VoucherProblem::Unknown);
    assert_eq!(accept(&market, &mut account, &voucher, &foreign), refused);
}

#[test]
fn what_was_accepted_is_not_taken_back() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(3);
    let first = market.full(&receipts[1]);
    assert_eq!(accept(&market, &mut account, &first, &receipts[1]), Ok(true));
    let less = amount(first.bill.cumulative.units() - 1);
    let later = market.voucher(Bill { cumulative: less, ..bill_of(&receipts[2]) });
    let refused = Err(VoucherProblem::Less);
    assert_eq!(accept(&market, &mut account, &later, &receipts[2]), refused);
    // For no more money it counts: nothing is taken back.
    let equal = market.voucher(Bill { cumulative: first.bill.cumulative, ..bill_of(&receipts[2]) });
    assert_eq!(accept(&market, &mut account, &equal, &receipts[2]), Ok(true));
}

#[test]
fn nothing_counts_that_the_deposit_does_not_hold() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(1);
    let voucher = market.full(&receipts[0]);
    let billed = receipts[0].cumulative.units();
    let mut take = |deposit| {
        let slot = market.slot(deposit);
        account.accept(&voucher, &receipts[0], &market.domain, &market.terms, &slot)
    };
    assert_eq!(take(billed - 1), Err(VoucherProblem::Unpayable));
    // The top-up was seen meanwhile.
    assert_eq!(take(billed), Ok(true));
}

#[test]
fn a_job_that_is_over_takes_no_voucher_and_one_that_ends_takes_none_too_late() {
    let market = Fixture::new();
    let (account, receipts) = market.account(3);
    let (receipt, voucher) = (receipts[2], market.full(&receipts[2]));
    let take = |terms: &Terms, slot: Job| {
        account.clone().accept(&voucher, &receipt, &market.domain, terms, &slot)
    };
    let open = market.slot(DEPOSIT);
    let unpayable = Err(VoucherProblem::Unpayable);
    assert_eq!(take(&market.terms, Job { paid_until: Timestamp(0), ..open }), unpayable);
    assert_eq!(take(&market.terms, Job { close_at: Job::CLOSED, ..open }), unpayable);
    // Two intervals before the end of the notice, and a second later.
    let ends = |seconds| Job { close_at: receipt.to.after(Seconds(seconds)), ..open };
    assert_eq!(take(&market.terms, ends(120)), Ok(true));
    assert_eq!(take(&market.terms, ends(119)), unpayable);
    // With a notice of less than four intervals, the first half of it is never cut.
    let short = Terms { notice: Seconds(100), ..market.terms.clone() };
    assert_eq!(take(&short, ends(50)), Ok(true));
    assert_eq!(take(&short, ends(49)), unpayable);
}

/// A bill that the contract would cut counts for what it would pay, and the rest as if it was not accepted.
#[test]
fn beyond_the_rate_of_the_terms_a_voucher_counts_for_what_is_paid() {
    let mut market = Fixture::new();
    market.terms.rate_per_hour = amount(3_600);
    let (mut account, receipts) = market.account(3);
    let slot = market.slot(DEPOSIT);
    let voucher = market.full(&receipts[2]);
    assert_eq!(accept(&market, &mut account, &voucher, &receipts[2]), Ok(true));
    // It would pay a unit a second, far less than two intervals cost.
    assert_eq!(account.pause_reason(&slot), Some(PauseReason::Unaccepted));
}

/// The contract rounds what the time allows down at each settlement. An honest voucher that is short of a unit because of
/// that is worth its money: refusing it would pause the job for ever.
#[test]
fn rounding_on_the_chain_refuses_no_honest_voucher() {
    let market = Fixture::new();
    let mut account = JobAccount::open(market.job, market.tariff, READY);
    let read = |account: &mut JobAccount, seconds: u32| {
        account.see(at(seconds), Sighting::Running(market.counters(seconds.into())));
        account.read(at(seconds)).unwrap()
    };
    let first = read(&mut account, 61);
    assert_eq!(accept(&market, &mut account, &market.full(&first), &first), Ok(true));
    // Settled at 2366.8 units, so for 2366; at 2405.6, 38.8 later, 2405 are due and 2366 + 38 allowed.
    let settled = Job { paid: amount(2_366), paid_until: at(61), ..market.slot(DEPOSIT) };
    let second = read(&mut account, 62);
    let bill = bill_of(&second);
    let paid = advance(&market.terms, &settled, &bill, bill.until);
    assert_eq!((paid, bill.cumulative), (Ok(amount(2_404)), amount(2_405)));
    let voucher = market.voucher(bill);
    let taken = account.accept(&voucher, &second, &market.domain, &market.terms, &settled);
    assert_eq!((taken, account.pause_reason(&settled)), (Ok(true), None));
    assert!(account.owed(&settled).is_zero());
}

#[test]
fn after_a_short_voucher_the_full_one_counts() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(3);
    let full = bill_of(&receipts[2]);
    let short = Bill { cumulative: amount(full.cumulative.units() - 6_000), ..full };
    let slot = market.slot(DEPOSIT);
    assert_eq!(accept(&market, &mut account, &market.voucher(short), &receipts[2]), Ok(true));
    assert_eq!(account.owed(&slot), amount(6_000));
    assert_eq!(account.pause_reason(&slot), Some(PauseReason::Unaccepted));
    assert_eq!(accept(&market, &mut account, &market.voucher(full), &receipts[2]), Ok(true));
    assert_eq!(account.pause_reason(&slot), None);
    assert_eq!(accept(&market, &mut account, &market.voucher(short), &receipts[2]), Ok(false));
}

/// The short voucher was settled, so nothing is paid for its date any more: the full one counts for nothing yet, and a
/// paused job reads its meter once more, for a receipt of a later time.
#[test]
fn after_a_short_voucher_was_settled_a_later_receipt_brings_the_rest() {
    let market = Fixture::new();
    let (mut account, receipts) = market.account(3);
    let full = bill_of(&receipts[2]);
    let short = amount(full.cumulative.units() - 6_000);
    let first = market.voucher(Bill { cumulative: short, ..full });
    assert_eq!(accept(&market, &mut account, &first, &receipts[2]), Ok(true));
    account.see(at(181), Sighting::Frozen(market.counters(180)));
    account.set_paused(true);
    assert!(!account.is_redating_due(at(1_000)), "nobody says that more is accepted");

    let settled = Job { paid: short, paid_until: full.until, ..market.slot(DEPOSIT) };
    let take = |account: &mut JobAccount, bill: Bill, receipt: &Receipt| {
        let voucher = market.voucher(bill);
        account.accept(&voucher, receipt, &market.domain, &market.terms, &settled).unwrap()
    };
    assert!(take(&mut account, full, &receipts[2]));
    assert_eq!(account.pause_reason(&settled), Some(PauseReason::Unaccepted));
    assert!(account.owed(&settled).is_zero(), "all was accepted");
    assert!(!account.is_redating_due(at(239)));
    assert!(account.is_redating_due(at(240)) && !account.is_reading_due(at(240)));

    account.see(at(240), Sighting::Frozen(market.counters(180)));
    let still = account.read(at(240)).unwrap();
    assert_eq!((still.total, still.cumulative), (receipts[2].total, full.cumulative));
    assert!(!account.is_redating_due(at(300)), "one waits to be accepted");
    assert!(take(&mut account, bill_of(&still), &still));
    // 60 s at 38.8 a second are 2328 of the 6000: below the bound of two intervals, and yet not all.
    assert_eq!(account.pause_reason(&settled), None);
    assert!(account.is_redating_due(at(300)));
    let later = account.read(at(340)).unwrap();
    assert!(take(&mut account, bill_of(&later), &later));
    assert!(!account.is_redating_due(at(1_000)), "160 s pay all of it");
}
