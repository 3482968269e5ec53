//! What a network, a crash or a provider can do to an agent.

use std::time::Duration;

use roadstead_abi::{receipt_root, voucher_digest};
use roadstead_core::{
    ports::Signer,
    protocol::{Denial, RefusalCode, Request, Restore, State},
};
use roadstead_publisher::{AgentEvent, FollowError, TalkError};
use roadstead_types::{Bill, JobId, SignedReceipt, Voucher};
use tokio::time::{Instant, sleep};

use crate::{
    link::{Fault, Point},
    world::{DOMAIN, World, amount, at, wallet},
};

fn lost(event: &AgentEvent) -> Option<JobId> {
    match event {
        AgentEvent::Lost { job, .. } => Some(*job),
        _ => None,
    }
}

fn connected(event: &AgentEvent) -> Option<JobId> {
    match event {
        AgentEvent::Connected { job } => Some(*job),
        _ => None,
    }
}

/// A small generator: the same seed, the same faults.
fn faults(seed: u64) -> impl Iterator<Item = Fault> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(match state % 9 {
            0 => Fault::LoseQuestion,
            1 => Fault::LoseAnswer,
            2 => Fault::Double,
            3 => Fault::Stale,
            4 => Fault::Reorder,
            5 => Fault::Cut,
            6 => Fault::Deny(Denial::Forbidden),
            7 => Fault::Deny(Denial::Busy),
            _ => Fault::None,
        })
    })
}

#[tokio::test(start_paused = true)]
async fn whatever_the_network_does_every_receipt_is_accepted_once() {
    for seed in 1..=24 {
        let mut world = World::new().await;
        let place = world.job(1_000_000).await;
        let (early, late) = (3 + u32::try_from(seed).unwrap() % 5, 8);
        for interval in 1..=early {
            place.host.read(place.job, at(interval * 10)).await;
        }
        world.link.spoil(faults(seed).take(30));
        let agent = world.start();
        place.host.paid_up(place.job).await;
        for interval in early + 1..=late {
            place.host.read(place.job, at(interval * 10)).await;
            place.host.paid_up(place.job).await;
        }
        agent.end().await;
        let receipts = place.host.receipts(place.job);
        assert_eq!(world.kept(place.job).await, receipts, "seed {seed}");
        let expected = vouchers_for(&receipts).await;
        let brought = place.host.vouchers(place.job);
        assert!(brought.iter().all(|each| expected.contains(each)), "seed {seed}");
        assert_eq!(brought.last(), expected.last(), "seed {seed}");
        assert!(world.journal.evidence(place.job).await.unwrap().is_empty(), "seed {seed}");
        assert_eq!(world.follower(place.job).await.refusal(), None, "seed {seed}");
    }
}

/// The vouchers that an agent must sign for these receipts, each whole.
async fn vouchers_for(receipts: &[SignedReceipt]) -> Vec<Voucher> {
    let mut vouchers = Vec::new();
    for SignedReceipt { receipt, .. } in receipts {
        let (cumulative, until) = (receipt.cumulative, receipt.to);
        let bill = Bill { cumulative, until, usage_root: receipt_root(receipt) };
        let digest = voucher_digest(&DOMAIN, receipt.job, &bill);
        let signature = wallet(2).sign(&digest).await.unwrap();
        vouchers.push(Voucher { bill, signature });
    }
    vouchers
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_killed_anywhere_signs_the_same_bytes() {
    for point in [Point::BeforeQuestion, Point::BeforeAnswer, Point::AfterSignature] {
        for nth in 1..=5 {
            let mut world = World::new().await;
            let place = world.job(1_000_000).await;
            for interval in 1..=3 {
                place.host.read(place.job, at(interval * 10)).await;
            }
            let was_killed = world.run_into(point, nth).await;
            // A session and three bills are signed.
            assert_eq!(was_killed, point != Point::AfterSignature || nth <= 4, "{point:?} {nth}");
            world.restart_machine().await;
            let agent = world.start();
            place.host.paid_up(place.job).await;
            place.host.read(place.job, at(40)).await;
            place.host.paid_up(place.job).await;
            agent.end().await;

            let receipts = place.host.receipts(place.job);
            assert_eq!(world.kept(place.job).await, receipts, "{point:?} {nth}");
            let expected = vouchers_for(&receipts).await;
            let brought = place.host.vouchers(place.job);
            assert!(brought.iter().all(|each| expected.contains(each)), "{point:?} {nth}");
            assert_eq!(brought.last(), expected.last(), "{point:?} {nth}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_lost_its_disk_signs_the_same_bytes() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    for interval in 1..=70 {
        place.host.read(place.job, at(interval * 10)).await;
    }
    let agent = world.start();
    let voucher = place.host.paid_up(place.job).await;
    agent.end().await;
    let kept = world.kept(place.job).await;

    world.lose_disk(&[&place.plan]).await;
    let mut agent = world.start();
    let newest = |event: &AgentEvent| match event {
        AgentEvent::Accepted { receipt, .. } => (receipt.seq == 69).then_some(()),
        _ => None,
    };
    agent.next(newest).await;
    assert_eq!(world.follower(place.job).await.voucher(), Some(&voucher));
    assert_eq!(world.kept(place.job).await, kept);
    assert_eq!(place.host.voucher(place.job), Some(voucher));
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn two_receipts_with_one_number_end_the_signing_and_are_kept() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let first = place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    let voucher = place.host.paid_up(place.job).await;

    let mut receipt = first.receipt;
    receipt.to = at(12);
    let second = place.host.sign(receipt).await;
    place.host.lie(move |state| state.receipts.insert(0, second));
    place.host.set_note(place.job, Some("something new"));
    let equivocation = |event: &AgentEvent| match event {
        AgentEvent::Equivocation { seq, .. } => Some(*seq),
        _ => None,
    };
    assert_eq!(agent.next(equivocation).await, 0);
    let mut evidence = world.journal.evidence(place.job).await.unwrap();
    evidence.sort_by_key(|signed| signed.receipt.to);
    assert_eq!(evidence, [first, second]);

    place.host.be_honest();
    place.host.read(place.job, at(20)).await;
    sleep(Duration::from_secs(300)).await;
    assert_eq!(place.host.vouchers(place.job), [voucher], "nothing more is signed");
    let codes: Vec<_> = place.host.refusals(place.job).iter().map(|each| each.code).collect();
    assert_eq!(codes, [RefusalCode::Equivocation]);
    let told = agent.end().await;
    assert!(!told.iter().any(|event| equivocation(event).is_some()), "told once: {told:?}");

    // Nor after a restart.
    let agent = world.start();
    sleep(Duration::from_secs(300)).await;
    agent.end().await;
    assert_eq!(place.host.vouchers(place.job), [voucher]);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_lost_its_journal_gets_its_receipts_back() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    for interval in 1..=150 {
        place.host.read(place.job, at(interval * 10)).await;
    }
    let mut agent = world.start();
    let voucher = place.host.paid_up(place.job).await;
    let lost = place.host.lose_journal(place.job);
    agent.next(|event| matches!(event, AgentEvent::Restored { .. }).then_some(())).await;
    assert_eq!(place.host.receipts(place.job), lost);
    assert_eq!(place.host.voucher(place.job), Some(voucher));
    let batches = place.host.requests().into_iter().filter_map(|request| match request {
        Request::Restore(Restore { receipts, more, voucher, .. }) => {
            Some((receipts.len(), more, voucher))
        }
        _ => None,
    });
    let expected = [(64, true, None), (64, true, None), (22, false, Some(voucher))];
    assert_eq!(batches.collect::<Vec<_>>(), expected);

    place.host.read(place.job, at(2_000)).await;
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_has_nothing_to_get_back_is_told_so() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.lose_journal(place.job);
    let mut agent = world.start();
    agent.next(|event| matches!(event, AgentEvent::Restored { .. }).then_some(())).await;
    place.host.read(place.job, at(10)).await;
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_its_receipts_without_end_is_answered_rarely() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    place.host.paid_up(place.job).await;
    place.host.set_forgetful(place.job, true);
    place.host.lose_journal(place.job);
    agent.next(lost).await;
    let before = place.host.requests().len();
    sleep(Duration::from_secs(3_600)).await;
    let asked = place.host.requests().len() - before;
    assert!((50..250).contains(&asked), "{asked} questions in an hour");
    let told = agent.told();
    assert!(told.is_empty(), "{told:?}");

    place.host.set_forgetful(place.job, false);
    agent.next(|event| matches!(event, AgentEvent::Restored { .. }).then_some(())).await;
    place.host.read(place.job, at(20)).await;
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_senseless_provider_harms_no_other() {
    type Lie = fn(&mut State);
    let lies: [Lie; 2] = [
        |state| state.job = JobId::default(),
        |state| state.receipts = vec![state.receipts[0]; 65],
    ];
    for lie in lies {
        let mut world = World::new().await;
        let (hostile, good) = (world.job(1_000_000).await, world.job(1_000_000).await);
        hostile.host.read(hostile.job, at(10)).await;
        hostile.host.lie(lie);
        let mut agent = world.start();
        let senseless = |event: &AgentEvent| match event {
            AgentEvent::Lost { job, error: FollowError::Talk(TalkError::Senseless { .. }) } => {
                Some(*job)
            }
            _ => None,
        };
        assert_eq!(agent.next(senseless).await, hostile.job);
        for interval in 1..=10 {
            good.host.read(good.job, at(interval * 10)).await;
            good.host.paid_up(good.job).await;
        }
        assert!(hostile.host.vouchers(hostile.job).is_empty());
        let told = agent.told();
        assert!(!told.iter().any(|event| lost(event).is_some()), "{told:?}");
        hostile.host.be_honest();
        hostile.host.paid_up(hostile.job).await;
        agent.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_is_lost_and_not_connected() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    world.link.spoil([Fault::Hang, Fault::Hang]);
    let mut agent = world.start();
    sleep(Duration::from_secs(30)).await;
    // Wakes the task, which asks again.
    world.chain.top_up(place.job, amount(2_000_000));
    sleep(Duration::from_secs(30)).await;
    let told = agent.told();
    assert!(!told.iter().any(|event| connected(event).is_some()), "{told:?}");
    let slow = |event: &AgentEvent| {
        matches!(event, AgentEvent::Lost { error: FollowError::TooSlow, .. }).then_some(())
    };
    agent.next(slow).await;
    assert_eq!(agent.next(connected).await, place.job);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_out_of_reach_is_tried_rarely_told_once_and_harms_no_other() {
    let mut world = World::new().await;
    let (gone, good) = (world.job(1_000_000).await, world.job(1_000_000).await);
    gone.host.set_up(false);
    let begun = Instant::now();
    let mut agent = world.start();
    assert_eq!(agent.next(lost).await, gone.job);
    for interval in 1..=12 {
        good.host.read(good.job, at(interval * 10)).await;
        good.host.paid_up(good.job).await;
        sleep(Duration::from_secs(300)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3_600));
    let told = agent.told();
    assert!(!told.iter().any(|event| lost(event).is_some()), "told once: {told:?}");

    gone.host.set_up(true);
    gone.host.read(gone.job, at(10)).await;
    assert_eq!(agent.next(connected).await, gone.job);
    gone.host.paid_up(gone.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_job_ends_the_pause() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.set_up(false);
    let mut agent = world.start();
    agent.next(lost).await;
    sleep(Duration::from_secs(600)).await;
    place.host.set_up(true);
    let back = Instant::now();
    world.chain.top_up(place.job, amount(2_000_000));
    agent.next(connected).await;
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_asks_for_another_session_and_then_less_and_less() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let mut agent = world.start();
    agent.next(connected).await;
    // The provider has forgotten the session: nobody hears of it.
    place.host.set_up(true);
    place.host.read(place.job, at(10)).await;
    place.host.paid_up(place.job).await;
    assert_eq!(place.host.greetings(), 2);
    let told = agent.told();
    assert!(!told.iter().any(|event| lost(event).is_some()), "{told:?}");

    place.host.deny(Some(Denial::Forbidden));
    place.host.set_note(place.job, Some("wakes the question that is held"));
    agent.next(lost).await;
    let before = place.host.requests().len();
    sleep(Duration::from_secs(3_600)).await;
    let asked = place.host.requests().len() - before;
    assert!((50..=80).contains(&asked), "{asked} questions in an hour");
    place.host.deny(None);
    place.host.read(place.job, at(20)).await;
    agent.next(connected).await;
    place.host.paid_up(place.job).await;
    agent.end().await;
}
