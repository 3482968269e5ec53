//! What is accepted, what is not, and why.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use roadstead_core::protocol::{ReceiptRefusal, RefusalCode};
use roadstead_publisher::{AgentEvent, AgentLimits};
use roadstead_types::{JobId, Receipt, Resources, Timestamp};
use tokio::time::sleep;

use crate::world::{PER_SECOND, World, amount, at};

fn refused(event: &AgentEvent) -> Option<(JobId, ReceiptRefusal)> {
    match event {
        AgentEvent::Refused { job, refusal } => Some((*job, refusal.clone())),
        _ => None,
    }
}

fn units(seconds: u32) -> u128 {
    u128::from(seconds) * PER_SECOND
}

#[tokio::test(start_paused = true)]
async fn of_a_wrong_sum_the_right_one_is_accepted() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    place.host.paid_up(place.job).await;
    place.host.read_as(place.job, at(20), |receipt| receipt.cumulative = amount(9_999)).await;
    let (_, refusal) = agent.next(refused).await;
    let accepted = amount(units(20));
    assert_eq!(refusal, ReceiptRefusal { seq: 1, code: RefusalCode::Sum, accepted });
    let short = place.host.paid_up(place.job).await;
    assert_eq!((short.bill.cumulative, short.bill.until), (accepted, at(20)));
    assert_eq!(world.follower(place.job).await.head().unwrap().seq, 0);

    // What follows on it is not accepted either, and is said once.
    place.host.read(place.job, at(30)).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(place.host.voucher(place.job), Some(short));
    assert_eq!(place.host.refusals(place.job), [refusal]);
    let told = agent.end().await;
    assert!(!told.iter().any(|event| refused(event).is_some()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn of_too_much_use_what_was_reserved_is_accepted() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place
        .host
        .read_as(place.job, at(10), |receipt| {
            receipt.total.cpu *= 2;
            receipt.cumulative = amount(units(10) + 50);
        })
        .await;
    let mut agent = world.start();
    let (_, refusal) = agent.next(refused).await;
    let accepted = amount(units(10));
    assert_eq!(refusal, ReceiptRefusal { seq: 0, code: RefusalCode::Growth, accepted });
    assert_eq!(place.host.paid_up(place.job).await.bill.cumulative, accepted);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_receipt_from_the_future_is_accepted_when_its_time_has_come() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let ahead = Timestamp(world.chain.now().0 + 200);
    place.host.read(place.job, ahead).await;
    let mut agent = world.start();
    let (_, refusal) = agent.next(refused).await;
    assert_eq!((refusal.seq, refusal.code), (0, RefusalCode::Time));
    assert_eq!(place.host.voucher(place.job), None);
    assert_eq!(place.host.paid_up(place.job).await.bill.until, ahead);
    assert!(world.chain.now().0 + 60 >= ahead.0, "not before");
    assert_eq!(world.follower(place.job).await.refusal(), None);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_receipt_out_of_order_is_refused() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let right = place.host.read(place.job, at(10)).await;
    let mut wrong = right.receipt;
    wrong.seq = 1;
    place.host.replace_newest(place.job, place.host.sign(wrong).await);
    let mut agent = world.start();
    let (_, refusal) = agent.next(refused).await;
    assert_eq!((refusal.seq, refusal.code), (1, RefusalCode::Order));
    assert_eq!(place.host.voucher(place.job), None);
    place.host.replace_newest(place.job, right);
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_deposit_is_accepted_until_it_is_topped_up() {
    let mut world = World::new().await;
    let place = world.job(units(15)).await;
    place.host.read(place.job, at(10)).await;
    place.host.read(place.job, at(20)).await;
    let mut agent = world.start();
    let (_, refusal) = agent.next(refused).await;
    let accepted = amount(units(15));
    assert_eq!(refusal, ReceiptRefusal { seq: 1, code: RefusalCode::Deposit, accepted });
    assert_eq!(place.host.paid_up(place.job).await.bill.cumulative, accepted);

    // What was short is made up for, as far as there is money.
    world.chain.top_up(place.job, amount(units(18)));
    let voucher = place.host.worth(place.job, amount(units(18))).await;
    assert_eq!(voucher.bill.until, at(20));
    let (_, refusal) = agent.next(refused).await;
    let accepted = amount(units(18));
    assert_eq!(refusal, ReceiptRefusal { seq: 1, code: RefusalCode::Deposit, accepted });
    world.chain.top_up(place.job, amount(units(100)));
    let voucher = place.host.worth(place.job, amount(units(20))).await;
    assert_eq!(voucher.bill.until, at(20));
    assert_eq!(world.follower(place.job).await.refusal(), None);
    place.host.read(place.job, at(30)).await;
    assert_eq!(place.host.paid_up(place.job).await.bill.cumulative, amount(units(30)));
    assert_eq!(world.follower(place.job).await.refusal(), None);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_for_each_job_and_one_for_all() {
    let mut world = World::new().await;
    world.limits = AgentLimits { per_job: Some(amount(units(25))), all: Some(amount(units(40))) };
    let (first, second) = (world.job(1_000_000).await, world.job(1_000_000).await);
    first.host.read(first.job, at(20)).await;
    first.host.read(first.job, at(30)).await;
    let mut agent = world.start();
    let accepted = amount(units(25));
    let limit = |seq, accepted| ReceiptRefusal { seq, code: RefusalCode::Limit, accepted };
    assert_eq!(agent.next(refused).await, (first.job, limit(1, accepted)));
    assert_eq!(first.host.paid_up(first.job).await.bill.cumulative, accepted);

    second.host.read(second.job, at(10)).await;
    assert_eq!(second.host.paid_up(second.job).await.bill.cumulative, amount(units(10)));
    second.host.read(second.job, at(20)).await;
    assert_eq!(agent.next(refused).await, (second.job, limit(1, amount(units(15)))));
    agent.end().await;

    // What was accepted counts after a restart as well.
    let agent = world.start();
    second.host.read(second.job, at(30)).await;
    let short = second.host.paid_up(second.job).await;
    assert_eq!(short.bill.cumulative, amount(units(15)));
    agent.end().await;

    // A higher limit makes up for what was short.
    world.limits.all = Some(amount(units(48)));
    let agent = world.start();
    second.host.worth(second.job, amount(units(23))).await;
    assert_eq!(first.host.voucher(first.job).unwrap().bill.cumulative, amount(units(25)));
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_a_refused_receipt_is_not_billed_twice() {
    let mut world = World::new().await;
    world.limits = AgentLimits { per_job: None, all: Some(amount(units(40))) };
    let (first, second) = (world.job(1_000_000).await, world.job(1_000_000).await);
    let wrong = |receipt: &mut Receipt| receipt.cumulative = amount(units(30) + 1);
    let wrong = first.host.read_as(first.job, at(30), wrong).await;
    let agent = world.start();
    let short = first.host.paid_up(first.job).await;
    assert_eq!(short.bill.cumulative, amount(units(30)));
    agent.end().await;

    // The same number again after a restart, with almost nothing in it.
    world.restart_machine().await;
    let mut cheap = Receipt { to: at(1), cumulative: amount(0), ..wrong.receipt };
    cheap.total = Resources::default();
    let cheap = first.host.sign(cheap).await;
    first.host.lie(move |state| state.receipts = vec![cheap]);
    let mut agent = world.start();
    let equivocation = |event: &AgentEvent| match event {
        AgentEvent::Equivocation { seq, .. } => Some(*seq),
        _ => None,
    };
    assert_eq!(agent.next(equivocation).await, 0);
    let mut evidence = world.journal.evidence(first.job).await.unwrap();
    evidence.sort_by_key(|signed| signed.receipt.to);
    assert_eq!(evidence, [cheap, wrong]);
    assert_eq!(world.follower(first.job).await.voucher(), Some(&short));

    // What was signed for the first job is gone for the second.
    second.host.read(second.job, at(30)).await;
    let rest = second.host.paid_up(second.job).await;
    assert_eq!(rest.bill.cumulative, amount(units(10)));
    assert_eq!(first.host.vouchers(first.job), [short]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_lost_its_journal_gets_a_disputed_receipt_back() {
    for honest in [0, 1, 64] {
        let mut world = World::new().await;
        let place = world.job(1_000_000).await;
        for interval in 1..=honest {
            place.host.read(place.job, at(interval * 10)).await;
        }
        let end = at((honest + 1) * 10);
        place.host.read_as(place.job, end, |receipt| receipt.cumulative = amount(99_999)).await;
        let mut agent = world.start();
        let short = place.host.paid_up(place.job).await;
        let lost = place.host.lose_journal(place.job);
        agent.next(|event| matches!(event, AgentEvent::Restored { .. }).then_some(())).await;
        assert_eq!(place.host.receipts(place.job), lost, "{honest}");
        assert_eq!(place.host.voucher(place.job), Some(short), "{honest}");
        agent.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_counts_once_however_often_more_of_it_is_accepted() {
    let mut world = World::new().await;
    let place = world.job(units(15)).await;
    place.host.read(place.job, at(20)).await;
    let mut agent = world.start();
    place.host.worth(place.job, amount(units(15))).await;
    let told = |event: &AgentEvent| match event {
        AgentEvent::Accepted { receipt, accepted, .. } => Some((false, receipt.seq, *accepted)),
        AgentEvent::MadeUp { receipt, accepted, .. } => Some((true, receipt.seq, *accepted)),
        _ => None,
    };
    assert_eq!(agent.next(told).await, (false, 0, amount(units(15))));
    for deposit in [18, 30] {
        world.chain.top_up(place.job, amount(units(deposit)));
        assert_eq!(agent.next(told).await, (true, 0, amount(units(deposit.min(20)))));
    }
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_without_end_are_told_once_and_asked_for_rarely() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let right = place.host.read(place.job, at(10)).await;
    let mut wrong = Vec::new();
    for seq in 2..1_000 {
        wrong.push(place.host.sign(Receipt { seq, ..right.receipt }).await);
    }
    let asked = AtomicUsize::new(0);
    place.host.lie(move |state| {
        let nth = asked.fetch_add(1, Ordering::Relaxed);
        state.revision = 1_000 + u64::try_from(nth).unwrap();
        state.receipts = vec![wrong[nth % wrong.len()]];
    });
    let mut agent = world.start();
    assert_eq!(agent.next(refused).await.1.code, RefusalCode::Order);
    let before = place.host.requests().len();
    sleep(Duration::from_secs(3_600)).await;
    let asked = place.host.requests().len() - before;
    assert!((50..90).contains(&asked), "{asked} questions in an hour");
    let told = agent.told();
    assert!(!told.iter().any(|event| refused(event).is_some()), "{told:?}");
    place.host.be_honest();
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn receipts_of_a_second_each_fill_no_disk() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    for second in 1..=200 {
        place.host.read(place.job, at(second)).await;
    }
    let mut agent = world.start();
    assert_eq!(agent.next(refused).await.1.code, RefusalCode::Time);
    let kept = world.kept(place.job).await.len();
    // The last one is number 80: two for each of eight intervals of ten seconds, and 64.
    assert_eq!(kept, 81);
    agent.end().await;
}
