//! Receipts as an agent judges them: each code by an honest receipt that was altered in one place.

use alloy_primitives::{Address, B256};
use roadstead_abi::{receipt_digest, receipt_root};
use roadstead_core::{
    Circumstances, Follower, MAX_AHEAD, Verdict,
    protocol::{ReceiptRefusal, RefusalCode},
};
use roadstead_types::{
    Domain, JobId, Receipt, Resource, Seconds, Signature, SignedReceipt, Timestamp, TokenAmount,
};

use crate::fixture::{Fixture, OPENED, amount, at, bill_of, replaced};

const LIMIT: u128 = 1_000_000;

/// A follower that accepted so many receipts of an honest chain.
fn follower(market: &Fixture, accepted: usize) -> (Follower, Vec<Receipt>) {
    let chain = market.chain(6);
    let mut follower = Follower::new(market.job, market.tariff);
    for receipt in &chain[..accepted] {
        take(market, &mut follower, receipt, &market.circumstances(LIMIT, receipt.to));
    }
    (follower, chain)
}

/// What an agent does with a receipt that it accepts.
fn take(market: &Fixture, follower: &mut Follower, receipt: &Receipt, given: &Circumstances<'_>) {
    let signed = market.signed(*receipt);
    match follower.examine(&signed, None, given) {
        Verdict::Accepted { bill, shortage } => {
            follower.accept(&signed, market.voucher(bill), shortage);
        }
        other => panic!("{other:?}"),
    }
}

/// The code under which the third receipt of a chain is refused, and what is accepted instead.
fn code_of(
    market: &Fixture,
    alter: impl FnOnce(&mut Receipt),
) -> (RefusalCode, Option<TokenAmount>) {
    let (follower, chain) = follower(market, 2);
    let mut receipt = chain[2];
    alter(&mut receipt);
    judge(market, &follower, &market.signed(receipt))
}

fn judge(
    market: &Fixture,
    follower: &Follower,
    signed: &SignedReceipt,
) -> (RefusalCode, Option<TokenAmount>) {
    match follower.examine(signed, None, &market.circumstances(LIMIT, at(180))) {
        Verdict::Refused { refusal, bill } => {
            assert_eq!(refusal.seq, signed.receipt.seq);
            if let Some(bill) = bill {
                assert_eq!((bill.until, bill.cumulative), (signed.receipt.to, refusal.accepted));
                assert_eq!(bill.usage_root, receipt_root(&signed.receipt));
            }
            (refusal.code, bill.map(|bill| bill.cumulative))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_honest_chain_is_accepted_in_full() {
    let market = Fixture::new();
    let (follower, chain) = follower(&market, 6);
    assert_eq!(follower.head().map(|head| head.seq), Some(5));
    assert_eq!(follower.voucher(), Some(&market.full(&chain[5])));
    assert_eq!(follower.refusal(), None);
}

#[test]
fn a_receipt_is_the_providers_or_its_operators() {
    let market = Fixture::new();
    let (follower, chain) = follower(&market, 2);
    let receipt = chain[2];
    let given = market.circumstances(LIMIT, at(180));
    let by_operator = market.signed_by(&market.operator, receipt);
    assert!(matches!(follower.examine(&by_operator, None, &given), Verdict::Accepted { .. }));
    let alone = Circumstances { operator: None, ..given };
    assert!(matches!(follower.examine(&by_operator, None, &alone), Verdict::Refused { .. }));

    let refused = (RefusalCode::Signature, None);
    for key in [&market.stranger, &market.publisher, &market.signer] {
        assert_eq!(judge(&market, &follower, &market.signed_by(key, receipt)), refused);
    }
    let honest = market.signed(receipt);
    let altered = SignedReceipt { receipt: Receipt { seq: 3, ..receipt }, ..honest };
    assert_eq!(judge(&market, &follower, &altered), refused);
    let empty = SignedReceipt { signature: Signature([0; 65]), ..honest };
    assert_eq!(judge(&market, &follower, &empty), refused);

    let elsewhere = [
        Domain { contract: Address::repeat_byte(9), ..market.domain },
        Domain { chain: 1, ..market.domain },
    ];
    for domain in elsewhere {
        let signature = market.provider.sign(&receipt_digest(&domain, &receipt));
        assert_eq!(judge(&market, &follower, &SignedReceipt { receipt, signature }), refused);
    }
    let other = JobId(B256::repeat_byte(9));
    assert_eq!(code_of(&market, |receipt| receipt.job = other), refused);
}

#[test]
fn receipts_follow_each_other() {
    let market = Fixture::new();
    let refused = (RefusalCode::Order, None);
    assert_eq!(code_of(&market, |receipt| receipt.seq = 3), refused);
    assert_eq!(code_of(&market, |receipt| receipt.seq = 1), refused);
    assert_eq!(code_of(&market, |receipt| receipt.seq = u32::MAX), refused);
    assert_eq!(code_of(&market, |receipt| receipt.prev = B256::repeat_byte(1)), refused);
    // The first one follows the job itself.
    let (fresh, chain) = follower(&market, 0);
    let first = Receipt { prev: B256::ZERO, ..chain[0] };
    assert_eq!(judge(&market, &fresh, &market.signed(first)), refused);
    assert_eq!(judge(&market, &fresh, &market.signed(chain[1])), refused);
    // One that was accepted long ago.
    let (follower, chain) = follower(&market, 2);
    assert_eq!(judge(&market, &follower, &market.signed(chain[0])), refused);
}

#[test]
fn intervals_join_and_lie_between_the_opening_and_now() {
    let market = Fixture::new();
    let refused = (RefusalCode::Time, None);
    assert_eq!(code_of(&market, |receipt| receipt.from = at(119)), refused);
    assert_eq!(code_of(&market, |receipt| receipt.from = at(121)), refused);
    assert_eq!(code_of(&market, |receipt| receipt.to = receipt.from), refused);
    assert_eq!(code_of(&market, |receipt| receipt.to = at(0)), refused);
    assert_eq!(code_of(&market, |receipt| receipt.to = Timestamp(u32::MAX)), refused);

    let (follower, chain) = follower(&market, 0);
    // Before the first receipt a reorganisation may move the opening to a later block, by a minute at most.
    let early = Receipt { from: Timestamp(OPENED.0 - 61), ..chain[0] };
    assert_eq!(judge(&market, &follower, &market.signed(early)), refused);
    let given = market.circumstances(LIMIT, at(60));
    for from in [OPENED, Timestamp(OPENED.0 - 60)] {
        let signed = market.signed(Receipt { from, ..chain[0] });
        let verdict = follower.examine(&signed, None, &given);
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }
}

#[test]
fn a_clock_may_be_ahead_by_a_minute() {
    let market = Fixture::new();
    let (follower, chain) = follower(&market, 0);
    let signed = market.signed(chain[0]);
    let now = Timestamp(at(60).0 - MAX_AHEAD.0);
    let in_time = follower.examine(&signed, None, &market.circumstances(LIMIT, now));
    assert!(matches!(in_time, Verdict::Accepted { .. }));
    let before = Timestamp(now.0 - 1);
    match follower.examine(&signed, None, &market.circumstances(LIMIT, before)) {
        Verdict::Refused { refusal, bill: None } => assert_eq!(refusal.code, RefusalCode::Time),
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_resource_grows_by_more_than_was_reserved() {
    let market = Fixture::new();
    let honest = market.chain(3)[2];
    for resource in Resource::ALL {
        let most = honest.total.get(resource);
        let (code, accepted) = code_of(&market, |receipt| {
            receipt.total = replaced(&receipt.total, resource, most + 1);
            receipt.cumulative = market.due(&receipt.total);
        });
        assert_eq!((code, accepted), (RefusalCode::Growth, Some(honest.cumulative)), "{resource}");

        // A meter does not run backwards; what it showed before stays accepted.
        let before = market.chain(2)[1];
        let (code, _) = code_of(&market, |receipt| {
            let less = before.total.get(resource) - 1;
            receipt.total = replaced(&receipt.total, resource, less);
            receipt.cumulative = market.due(&receipt.total);
        });
        assert_eq!(code, RefusalCode::Growth, "{resource}");
    }
    let (code, accepted) = code_of(&market, |receipt| {
        receipt.total.memory = u64::MAX;
        receipt.cumulative = TokenAmount::MAX;
    });
    assert_eq!((code, accepted), (RefusalCode::Growth, Some(honest.cumulative)));
}

#[test]
fn a_sum_is_right_to_the_unit() {
    let market = Fixture::new();
    let right = market.chain(3)[2].cumulative.units();
    let (code, accepted) = code_of(&market, |receipt| receipt.cumulative = amount(right + 1));
    assert_eq!((code, accepted), (RefusalCode::Sum, Some(amount(right))));
    // Of a sum that is too low, no more than it says.
    let (code, accepted) = code_of(&market, |receipt| receipt.cumulative = amount(right - 1));
    assert_eq!((code, accepted), (RefusalCode::Sum, Some(amount(right - 1))));
    // Below what was accepted before, nothing is signed.
    let (code, accepted) = code_of(&market, |receipt| receipt.cumulative = amount(1));
    assert_eq!((code, accepted), (RefusalCode::Sum, None));
}

#[test]
fn a_refused_receipt_changes_nothing_but_the_refusal() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let wrong = Receipt { cumulative: amount(999_999), ..chain[2] };
    let given = market.circumstances(LIMIT, at(180));
    let Verdict::Refused { refusal, bill: Some(bill) } =
        follower.examine(&market.signed(wrong), None, &given)
    else {
        panic!("it is not refused");
    };
    follower.refuse(&market.signed(wrong), refusal.clone(), Some(market.voucher(bill)));
    assert_eq!(follower.head().map(|head| head.seq), Some(1));
    assert_eq!((follower.refusal(), follower.accepted()), (Some(&refusal), refusal.accepted));

    // What the provider builds on it is refused as well, and the reason stays the first one.
    let next = Receipt { prev: receipt_root(&wrong), ..chain[3] };
    let Verdict::Refused { refusal: consequence, bill: None } =
        follower.examine(&market.signed(next), None, &given)
    else {
        panic!("it is not refused");
    };
    assert_eq!(consequence.code, RefusalCode::Order);
    follower.refuse(&market.signed(next), consequence, None);
    assert_eq!(follower.refusal(), Some(&refusal));
}

#[test]
fn the_same_receipt_later_is_right() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let given = |now| market.circumstances(LIMIT, now);
    let signed = market.signed(chain[2]);
    let Verdict::Refused { refusal, .. } = follower.examine(&signed, None, &given(at(0))) else {
        panic!("it is not refused");
    };
    follower.refuse(&signed, refusal, None);
    take(&market, &mut follower, &chain[2], &given(at(180)));
    assert_eq!((follower.refusal(), follower.accepted()), (None, chain[2].cumulative));
}

#[test]
fn above_the_deposit_a_short_voucher_is_signed_and_a_full_one_after_a_top_up() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let deposit = chain[2].cumulative.units() - 1;
    let given = market.circumstances(deposit, at(180));
    take(&market, &mut follower, &chain[2], &given);
    let refusal = follower.refusal().unwrap().clone();
    assert_eq!((refusal.code, refusal.accepted), (RefusalCode::Deposit, amount(deposit)));
    assert_eq!(follower.accepted(), amount(deposit));
    assert_eq!(follower.examine_head(&given), None);

    // Half of what is missing, and then all of it: same date, same receipt.
    let short = *follower.voucher().unwrap();
    let full = bill_of(&chain[2]);
    let Some(Verdict::Accepted { bill, shortage: None }) =
        follower.examine_head(&market.circumstances(deposit + 1, at(180)))
    else {
        panic!("nothing more is accepted");
    };
    assert_eq!(bill, full);
    assert_eq!((short.bill.until, short.bill.usage_root), (bill.until, bill.usage_root));
    follower.accept_more(market.voucher(bill), None);
    assert_eq!((follower.refusal(), follower.voucher()), (None, Some(&market.voucher(full))));
    assert_eq!(follower.examine_head(&market.circumstances(LIMIT, at(180))), None);
    take(&market, &mut follower, &chain[3], &market.circumstances(LIMIT, at(240)));
}

#[test]
fn a_top_up_that_is_too_small_leaves_a_shortage() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let first = follower.accepted().units();
    take(&market, &mut follower, &chain[2], &market.circumstances(first + 10, at(180)));
    let verdict = follower.examine_head(&market.circumstances(first + 20, at(180)));
    let Some(Verdict::Accepted { bill, shortage: Some(shortage) }) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!((bill.cumulative, shortage.accepted), (amount(first + 20), amount(first + 20)));
    assert_eq!((shortage.seq, shortage.code), (2, RefusalCode::Deposit));
}

#[test]
fn the_agents_own_limit_is_kept_too_and_never_takes_back_what_was_accepted() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let own = |limit| Circumstances { is_deposit: false, ..market.circumstances(limit, at(400)) };
    let accepted = follower.accepted();
    take(&market, &mut follower, &chain[2], &own(accepted.units() + 5));
    assert_eq!(follower.refusal().unwrap().code, RefusalCode::Limit);
    assert_eq!(follower.accepted(), amount(accepted.units() + 5));
    // Lowered to nothing: later receipts are accepted for no more money.
    take(&market, &mut follower, &chain[3], &own(0));
    assert_eq!(follower.accepted(), amount(accepted.units() + 5));
    assert_eq!(follower.voucher().unwrap().bill.until, chain[3].to);
}

#[test]
fn nothing_is_accepted_above_the_rate_of_the_terms() {
    let mut market = Fixture::new();
    market.terms.rate_per_hour = amount(3_600);
    let mut follower = Follower::new(market.job, market.tariff);
    let first = market.chain(1)[0];
    take(&market, &mut follower, &first, &market.circumstances(LIMIT, at(60)));
    // A unit a second since the opening, which was ten seconds before the instance was ready.
    assert_eq!(follower.accepted(), amount(70));
    assert_eq!(follower.refusal().unwrap().code, RefusalCode::Rate);
}

#[test]
fn two_receipts_with_one_number_end_all_vouchers() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let given = market.circumstances(LIMIT, at(600));
    let known = Some(receipt_root(&chain[1]));
    // Signed again with another key, it is the same one.
    let again = market.signed_by(&market.operator, chain[1]);
    assert_eq!(follower.examine(&again, known, &given), Verdict::Known);
    // Somebody else's forgery is no evidence.
    let other = Receipt { to: at(121), ..chain[1] };
    let forged = market.signed_by(&market.stranger, other);
    match follower.examine(&forged, known, &given) {
        Verdict::Refused { refusal, .. } => assert_eq!(refusal.code, RefusalCode::Signature),
        verdict => panic!("{verdict:?}"),
    }
    let verdict = follower.examine(&market.signed(other), known, &given);
    let Verdict::Refused { refusal, bill: None } = verdict else { panic!("{verdict:?}") };
    assert_eq!(refusal.code, RefusalCode::Equivocation);
    let before = follower.voucher().copied();
    follower.refuse(&market.signed(other), refusal.clone(), None);
    assert!(follower.has_evidence());

    // Whatever comes now, and whoever forgets to ask.
    let honest = market.signed(chain[2]);
    let refused = Verdict::Refused { refusal: refusal.clone(), bill: None };
    assert_eq!(follower.examine(&honest, None, &given), refused);
    assert_eq!(follower.examine(&again, known, &given), refused);
    follower.accept(&honest, market.full(&chain[2]), None);
    follower.accept_more(market.full(&chain[2]), None);
    let another = ReceiptRefusal { seq: 2, ..refusal.clone() };
    follower.refuse(&honest, another, None);
    assert_eq!((follower.refusal(), follower.voucher()), (Some(&refusal), before.as_ref()));
    assert_eq!(follower.examine_head(&given), None);
}

#[test]
fn a_follower_is_the_same_after_it_was_written_down() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    take(&market, &mut follower, &chain[2], &market.circumstances(5_000, at(180)));
    let kept = serde_json::to_string(&follower).unwrap();
    assert_eq!(serde_json::from_str::<Follower>(&kept).unwrap(), follower);
}

#[test]
fn a_long_interval_has_a_long_bound() {
    let market = Fixture::new();
    let follower = Follower::new(market.job, market.tariff);
    let total = market.full_use(86_400);
    let to = at(86_400);
    let cumulative = market.due(&total);
    let receipt = Receipt { to, total, cumulative, ..market.chain(1)[0] };
    let given = market.circumstances(u128::from(u64::MAX), to.after(Seconds(1)));
    match follower.examine(&market.signed(receipt), None, &given) {
        Verdict::Accepted { bill, shortage: None } => assert_eq!(bill, bill_of(&receipt)),
        other => panic!("{other:?}"),
    }
}

/// Judges a receipt and takes in that it is refused.
fn refuse(
    market: &Fixture,
    follower: &mut Follower,
    receipt: Receipt,
    given: &Circumstances<'_>,
) -> ReceiptRefusal {
    let signed = market.signed(receipt);
    match follower.examine(&signed, None, given) {
        Verdict::Refused { refusal, bill } => {
            follower.refuse(&signed, refusal.clone(), bill.map(|bill| market.voucher(bill)));
            refusal
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_number_of_a_refused_receipt_is_used_up() {
    type Case = (RefusalCode, fn(&mut Receipt));
    let market = Fixture::new();
    let given = market.circumstances(LIMIT, at(400));
    let honest = market.chain(3)[2];
    let cases: [Case; 5] = [
        (RefusalCode::Order, |receipt| receipt.prev = B256::ZERO),
        (RefusalCode::Time, |receipt| receipt.to = at(4_000)),
        (RefusalCode::Time, |receipt| receipt.from = at(119)),
        (RefusalCode::Growth, |receipt| receipt.total.cpu += 1),
        (RefusalCode::Sum, |receipt| receipt.cumulative = amount(900_000)),
    ];
    for (code, alter) in cases {
        let (mut follower, _) = follower(&market, 2);
        let mut wrong = honest;
        alter(&mut wrong);
        assert_eq!(refuse(&market, &mut follower, wrong, &given).code, code);
        assert_eq!(follower.refused(), Some(&market.signed(wrong)));
        // It comes again with every answer.
        let before = follower.clone();
        assert_eq!(refuse(&market, &mut follower, wrong, &given).code, code);
        assert_eq!(follower, before);
        let kept = serde_json::to_string(&follower).unwrap();
        let mut follower: Follower = serde_json::from_str(&kept).unwrap();
        // A stranger's receipt proves nothing.
        let forged = market.signed_by(&market.stranger, honest);
        assert_eq!(judge(&market, &follower, &forged), (RefusalCode::Signature, None));
        // A right one proves that the number was signed twice.
        let voucher = follower.voucher().copied();
        let refusal = refuse(&market, &mut follower, honest, &given);
        assert_eq!((refusal.seq, refusal.code), (2, RefusalCode::Equivocation));
        assert!(follower.has_evidence());
        assert_eq!(follower.voucher().copied(), voucher);
    }
}

#[test]
fn a_receipt_that_does_not_follow_is_told_of_once() {
    let market = Fixture::new();
    let (mut follower, chain) = follower(&market, 2);
    let given = market.circumstances(LIMIT, at(400));
    refuse(&market, &mut follower, Receipt { seq: 7, ..chain[2] }, &given);
    assert_eq!(follower.refused(), None, "its number is not the next one");
    let before = follower.clone();
    for seq in [1, 9, 10, u32::MAX] {
        refuse(&market, &mut follower, Receipt { seq, ..chain[2] }, &given);
        assert_eq!(follower, before);
    }
    take(&market, &mut follower, &chain[2], &given);
    assert_eq!(follower.refusal(), None);
}

#[test]
fn after_the_first_receipt_the_opening_may_move_by_any_time() {
    let market = Fixture::new();
    for later in [61, 200, 100_000] {
        let (mut follower, chain) = follower(&market, 1);
        let opened_at = OPENED.after(Seconds(later));
        let given = Circumstances { opened_at, ..market.circumstances(LIMIT, at(400)) };
        for receipt in &chain[1..] {
            take(&market, &mut follower, receipt, &given);
        }
        assert_eq!(follower.head().map(|head| head.seq), Some(5));
        // The contract pays from the opening that stands.
        let (code, before) = (follower.refusal().unwrap().code, chain[0].cumulative);
        assert_eq!(code, RefusalCode::Rate);
        assert!(follower.accepted() >= before && follower.accepted() < chain[5].cumulative);
        // Nor are the receipts too many because it moved.
        let count = 200;
        let mut moved = Follower::new(market.job, market.tariff);
        for receipt in market.chain(count) {
            let given = Circumstances { now: receipt.to, ..given };
            let begun = market.circumstances(LIMIT, receipt.to);
            take(&market, &mut moved, &receipt, if receipt.seq == 0 { &begun } else { &given });
        }
    }
}

#[test]
fn receipts_of_a_second_each_are_too_many() {
    let market = Fixture::new();
    let mut follower = Follower::new(market.job, market.tariff);
    let mut prev = market.job.0;
    let given = market.circumstances(LIMIT, at(10_000));
    let receipt_at = |seq: u32, prev| {
        let total = market.full_use(u64::from(seq + 1));
        let (from, to, cumulative) = (at(seq), at(seq + 1), market.due(&total));
        Receipt { job: market.job, seq, from, to, total, cumulative, prev }
    };
    // Ten seconds passed before the first, and sixty are an interval.
    let most = 66;
    for seq in 0..=most {
        let receipt = receipt_at(seq, prev);
        take(&market, &mut follower, &receipt, &given);
        prev = receipt_root(&receipt);
    }
    let refused = (RefusalCode::Time, None);
    assert_eq!(judge(&market, &follower, &market.signed(receipt_at(most + 1, prev))), refused);
    // One that took its time is not.
    let mut long = receipt_at(most + 1, prev);
    long.to = at(150);
    assert!(matches!(
        follower.examine(&market.signed(long), None, &given),
        Verdict::Accepted { .. }
    ));
}
