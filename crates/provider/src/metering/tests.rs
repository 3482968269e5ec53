use roadstead_core::{Duty, JobEvent, PauseReason, Presence, Refusal, Settlement, ports::Phase};
use roadstead_types::Timestamp;

use super::*;
use crate::fixture::{RESERVATION, World, amount, at};

const RUNNING: Option<Phase> = Some(Phase::Running);
const FROZEN: Option<Phase> = Some(Phase::Frozen);

async fn running() -> World {
    let mut world = World::new().await;
    world.deploy().await;
    world.at(0).await;
    world
}

#[tokio::test]
async fn however_often_newer_receipts_are_claimed_it_delays_signing_once() {
    let mut world = running().await;
    world.at(55).await;
    for seconds in 56..110 {
        // Taken back and claimed again between two looks at the meter.
        world.sync(&world.signer, None, None).await;
        world.sync(&world.signer, Some(9), None).await;
        world.at(seconds).await;
        assert_eq!(world.receipts().await, [], "after {seconds} s");
    }
    world.at(117).await;
    assert_eq!(world.billed().await, 117 * RESERVATION.memory, "nothing is forgiven");
    for seconds in 118..178 {
        world.sync(&world.signer, None, None).await;
        world.sync(&world.signer, Some(99), None).await;
        world.at(seconds).await;
    }
    let tos: Vec<Timestamp> =
        world.receipts().await.iter().map(|signed| signed.receipt.to).collect();
    assert_eq!(tos, [at(117), at(177)]);
    assert_eq!(world.phase().await, FROZEN);
}

#[tokio::test]
async fn a_claim_that_is_made_at_the_end_forgives_nothing() {
    let mut world = running().await;
    world.at(50).await;
    world.sync(&world.signer, Some(9), None).await;
    world.order_away().await;
    world.at(109).await;
    assert!(!world.is_final(), "they may still be shown");
    world.at(111).await;
    assert!(world.is_final());
    assert_eq!(world.billed().await, 111 * RESERVATION.memory);
}

#[tokio::test]
async fn what_ends_before_each_reading_pays_for_the_time_that_it_ran() {
    let mut world = running().await;
    let mut time = 0;
    for _ in 0..20 {
        for seconds in [1, 30, 54] {
            world.at(time + seconds).await;
            if !world.receipts().await.is_empty() {
                world.accept_newest().await;
            }
            world.host.ledger.saw_running(world.job);
        }
        world.at(time + 55).await;
        world.engine.exit(&world.id(), 0);
        world.host.stopped(world.job).await;
        time += 60;
        world.at(time).await;
        world.deploy().await;
    }
    world.order_away().await;
    world.tend().await;
    assert_eq!(world.billed().await, 20 * 54 * RESERVATION.memory);
}

#[tokio::test]
async fn what_ends_and_is_ordered_away_at_once_pays_for_the_time_that_it_ran() {
    let mut world = running().await;
    world.at(54).await;
    world.host.ledger.saw_running(world.job);
    world.engine.exit(&world.id(), 0);
    world.order_away().await;
    world.at(55).await;
    assert!(world.is_final());
    assert_eq!(world.billed().await, 54 * RESERVATION.memory);
}

#[tokio::test]
async fn a_job_is_given_up_only_where_a_top_up_would_have_been_read() {
    let mut world = World::with(1_300, 0).await;
    world.deploy().await;
    for seconds in [0, 61, 122] {
        world.at(seconds).await;
    }
    world.accept_newest().await;
    world.tend().await;
    let facts = world.facts();
    let reason = facts.account.unwrap().pause_reason(&facts.slot);
    assert_eq!(reason, Some(PauseReason::Exhausted));
    assert_eq!(world.phase().await, FROZEN);
    // The next process hears the time before it has read what happened meanwhile.
    world.ends().await;
    world.chain.happens(at(2_000), JobEvent::ToppedUp { deposit: amount(100_000) });
    world.sees_head(at(90_000));
    assert_ne!(world.need(), Some(Need::LastReceipt));
    world.tend().await;
    assert!(!world.is_final());
    world.deploy().await;
    world.at(90_001).await;
    assert_eq!(world.phase().await, RUNNING);
    // And where nobody comes, it ends.
    let mut world = World::with(1_300, 0).await;
    world.deploy().await;
    for seconds in [0, 61, 122] {
        world.at(seconds).await;
    }
    world.at(122 + 3_599).await;
    assert!(!world.is_final());
    world.at(122 + 3_601).await;
    assert!(world.is_final());
}

#[tokio::test]
async fn time_is_billed_and_a_freeze_is_made_without_counters() {
    let mut world = World::new().await;
    world.engine.hide_usage(true);
    world.deploy().await;
    world.at(0).await;
    for seconds in [61, 121] {
        world.at(seconds).await;
    }
    assert_eq!(world.billed().await, 121 * RESERVATION.memory);
    for seconds in [182, 242] {
        world.at(seconds).await;
    }
    assert_eq!(world.billed().await, 242 * RESERVATION.memory);
    assert_eq!(world.phase().await, FROZEN, "two receipts wait");
    world.accept_newest().await;
    world.at(250).await;
    assert_eq!(world.phase().await, RUNNING);
    assert!(!world.facts().account.unwrap().is_paused());
    world.at(371).await;
    assert_eq!(world.billed().await, (242 + 371 - 250) * RESERVATION.memory);
}

#[tokio::test]
async fn what_is_taken_over_without_counters_is_billed_from_then_on() {
    let mut world = World::new().await;
    world.deploy_up_to_the_start().await;
    world.engine.hide_usage(true);
    world.restarts().await;
    world.deploy().await;
    world.at(10).await;
    world.at(131).await;
    assert_eq!(world.billed().await, 121 * RESERVATION.memory);
}

#[tokio::test]
async fn what_ran_while_the_provider_was_down_is_billed_where_the_job_closes() {
    let mut world = running().await;
    world.at(61).await;
    world.restarts().await;
    world.happens(36_000, JobEvent::Closing { close_at: at(36_000 + 86_400) });
    world.at(36_000).await;
    assert!(world.is_final());
    assert_eq!(world.billed().await, 36_000 * RESERVATION.memory);
}

#[tokio::test]
async fn counters_of_what_ended_while_the_provider_was_down_are_billed() {
    let mut world = running().await;
    world.engine.spend(&world.id(), 500, 7, 9);
    world.engine.exit(&world.id(), 0);
    world.restarts().await;
    world.at(100).await;
    world.deploy().await;
    world.order_away().await;
    world.tend().await;
    let total = world.receipts().await.pop().unwrap().receipt.total;
    assert_eq!((total.cpu, total.network_in, total.network_out), (500, 7, 9));
    let mut world = running().await;
    world.engine.spend(&world.id(), 500, 7, 9);
    world.engine.exit(&world.id(), 0);
    world.restarts().await;
    world.happens(100, JobEvent::Closing { close_at: at(86_500) });
    world.tend().await;
    let total = world.receipts().await.pop().unwrap().receipt.total;
    assert_eq!((total.cpu, total.network_in, total.network_out), (500, 7, 9));
}

#[tokio::test]
async fn a_job_that_ran_and_is_refused_comes_to_its_end() {
    let mut world = running().await;
    world.at(61).await;
    world.accept_newest().await;
    world.loses_instance().await;
    world.restarts().await;
    world.at(70).await;
    let refusal = Refusal::Version { found: 2 };
    world.host.tell(ProviderEvent::Refused { job: world.job, refusal });
    world.tend().await;
    assert!(world.is_final());
    assert_eq!(world.duty(Presence::Partial), Some(Duty::Remove));
    let last = world.receipts().await.pop().unwrap().receipt;
    let voucher = world.voucher(&last).await;
    world.sync(&world.signer, Some(last.seq), Some(voucher)).await;
    assert_eq!(world.duty(Presence::Absent), Some(Duty::SettleAndClose));
    let facts = world.facts();
    let (head, now) = world.host.ledger.times().unwrap();
    let account = facts.account.unwrap();
    let paid = account.settlement(&facts.terms, &facts.slot, &world.offer.settle, head, now);
    assert_eq!(paid, Settlement::SettleAndClose(voucher));
    assert_eq!(voucher.bill.cumulative, amount(610));
}

#[tokio::test]
async fn a_job_that_cannot_be_started_is_declined_and_pays_nothing() {
    let mut world = World::with(100_000, 500).await;
    world.engine.refuse("its program is missing");
    let failed = world.host.deploy(&world.order(), false).await.unwrap_err();
    let refusal = failed.refusal().unwrap();
    assert!(world.facts().account.is_some(), "it was prepared");
    world.host.tell(ProviderEvent::Refused { job: world.job, refusal });
    world.at(100).await;
    assert!(world.is_final());
    assert_eq!(world.duty(Presence::Partial), Some(Duty::Remove));
    assert_eq!(world.duty(Presence::Absent), Some(Duty::Decline));
    // So does the next process.
    world.restarts().await;
    assert_eq!(world.duty(Presence::Absent), Some(Duty::Decline));
    assert_eq!(world.engine.starts(&world.id()), 0);
}
