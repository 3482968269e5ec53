use roadstead_core::{Duty, JobEvent, Presence, ports::Phase, protocol::Response};
use roadstead_types::SignedReceipt;

use super::*;
use crate::{
    fixture::{RESERVATION, World, at},
    metering::Need,
};

async fn running_for(seconds: &[u32]) -> World {
    let mut world = World::new().await;
    world.deploy().await;
    world.at(0).await;
    for seconds in seconds {
        world.at(*seconds).await;
        world.accept_newest().await;
    }
    world
}

fn receipts_of(signed: &[SignedReceipt]) -> Vec<Receipt> {
    signed.iter().map(|signed| signed.receipt).collect()
}

#[tokio::test]
async fn a_process_that_ends_between_start_and_readiness_leaves_an_account_to_go_on_with() {
    let mut world = World::new().await;
    world.deploy_up_to_the_start().await;
    world.restarts().await;
    world.deploy().await;
    assert!(world.facts().gap.is_none(), "nothing was lost");
    world.at(5).await;
    for seconds in [66, 127] {
        world.at(seconds).await;
        world.accept_newest().await;
    }
    assert_eq!(world.billed().await, 122 * RESERVATION.memory);
    assert_eq!(world.phase().await, Some(Phase::Running));
}

#[tokio::test]
async fn where_journal_and_engine_are_lost_number_0_is_signed_once() {
    let mut world = running_for(&[]).await;
    world.at(61).await;
    let lost = world.receipts().await;
    assert_eq!(lost.len(), 1);
    world.loses_instance().await;
    world.loses_journal().await;
    // The journal is new in the process after that, too.
    world.restarts().await;
    world.deploy().await;
    for seconds in [100, 165, 230] {
        world.at(seconds).await;
        // Anybody but the signer may say what they like.
        world.sync(&world.publisher, None, None).await;
        assert_eq!(world.receipts().await, []);
    }
    assert_eq!(world.phase().await, Some(Phase::Frozen), "nor does it serve for nothing");
    assert!(world.sync(&world.signer, Some(0), None).await.restore);
    world.sync(&world.signer, None, None).await;
    world.tend().await;
    assert_eq!(world.receipts().await, [], "what was said to be held is not taken back");
    assert!(matches!(world.restore(&lost).await, Response::State(_)));
    world.at(240).await;
    let receipts = receipts_of(&world.receipts().await);
    assert_eq!((receipts.len(), receipts[0]), (2, lost[0].receipt));
    assert_eq!((receipts[1].seq, receipts[1].from, receipts[1].to), (1, at(61), at(240)));
}

#[tokio::test]
async fn where_journal_and_engine_are_lost_the_signer_may_hold_nothing() {
    let mut world = World::new().await;
    world.loses_journal().await;
    world.deploy().await;
    assert!(world.facts().gap.is_some());
    world.at(10).await;
    let state = world.sync(&world.signer, None, None).await;
    assert!(!state.restore && state.note.is_none());
    world.at(11).await;
    world.at(72).await;
    assert_eq!(world.billed().await, 61 * RESERVATION.memory);
}

#[tokio::test]
async fn receipts_that_are_said_to_be_held_before_the_start_are_waited_for() {
    let mut world = running_for(&[]).await;
    world.at(61).await;
    let lost = world.receipts().await;
    world.loses_instance().await;
    world.loses_journal().await;
    world.restarts().await;
    world.sync(&world.signer, Some(0), None).await;
    world.deploy().await;
    assert!(world.sync(&world.signer, Some(0), None).await.restore);
    for seconds in [100, 165, 230] {
        world.at(seconds).await;
        assert_eq!(world.receipts().await, []);
    }
    assert!(matches!(world.restore(&lost).await, Response::State(_)));
    assert_eq!(world.receipts().await, lost);
}

#[tokio::test]
async fn where_the_journal_alone_is_lost_nothing_is_begun_anew() {
    for has_ended in [false, true] {
        let mut world = running_for(&[61]).await;
        let lost = world.receipts().await;
        if has_ended {
            world.engine.exit(&world.id(), 0);
        }
        world.loses_journal().await;
        world.deploy().await;
        assert!(world.sync(&world.signer, None, None).await.restore, "it ended: {has_ended}");
        world.at(130).await;
        assert_eq!(world.receipts().await, []);
        assert!(matches!(world.restore(&lost).await, Response::State(_)));
        world.tend().await;
        world.at(191).await;
        assert_eq!(world.receipts().await[0], lost[0]);
        assert_eq!(world.receipts().await.len(), 2);
    }
}

#[tokio::test]
async fn with_lost_receipts_a_close_gives_nothing_back_before_its_notice_ends() {
    let mut world = running_for(&[61, 122]).await;
    let lost = world.receipts().await;
    world.loses_journal().await;
    world.deploy().await;
    assert!(world.facts().missing_since().is_some());
    world.happens(130, JobEvent::Closing { close_at: at(130 + 86_400) });
    assert_eq!(world.duty(Presence::Running), Some(Duty::Remove));
    for seconds in [130, 1_000, 80_000] {
        world.at(seconds).await;
        assert_eq!(world.duty(Presence::Absent), None, "after {seconds} s");
    }
    // They come back, and are paid.
    assert!(matches!(world.restore(&lost).await, Response::State(_)));
    world.loses_instance().await;
    world.at(80_010).await;
    world.accept_newest().await;
    assert_eq!(world.duty(Presence::Absent), Some(Duty::SettleAndClose));
}

#[tokio::test]
async fn an_order_counts_before_there_is_an_account_and_after_a_restart() {
    let mut world = World::new().await;
    world.order_away().await;
    assert_eq!(world.duty(Presence::Absent), Some(Duty::Decline));
    world.restarts().await;
    assert_eq!(world.duty(Presence::Absent), Some(Duty::Decline));
    // A deployment that was under way.
    world.deploy().await;
    world.tend().await;
    assert!(world.is_final());
    assert_eq!(world.duty(Presence::Running), Some(Duty::Remove));
}

#[tokio::test]
async fn an_order_counts_between_the_start_and_readiness() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        world.deploy_up_to_the_start().await;
        world.order_away().await;
        if restarts {
            world.restarts().await;
        }
        world.ready().await;
        assert_eq!(world.need(), Some(Need::LastReceipt), "restarts: {restarts}");
        world.at(10).await;
        assert!(world.is_final());
        assert_eq!(world.duty(Presence::Running), Some(Duty::Remove));
        assert_eq!(world.duty(Presence::Partial), Some(Duty::Remove));
    }
}

#[tokio::test]
async fn orders_and_vouchers_outlive_receipts_that_come_back() {
    let mut world = running_for(&[61]).await;
    let backup = world.facts().account.unwrap();
    let known = world.receipts().await;
    world.at(122).await;
    let all = world.receipts().await;
    world.loses_journal().await;
    world.journal.restore_account(world.job, &backup, &known).await.unwrap();
    world.restarts().await;
    world.deploy().await;
    world.order_away().await;
    world.sync(&world.signer, Some(1), None).await;
    assert!(matches!(world.restore(&all).await, Response::State(_)));
    let account = world.facts().account.unwrap();
    assert_eq!(account.accepted(), backup.accepted(), "nor is a voucher forgotten");
    world.at(200).await;
    assert!(world.is_final());
    assert_eq!(world.receipts().await[..2], all);
    assert_eq!(world.duty(Presence::Running), Some(Duty::Remove));
}
