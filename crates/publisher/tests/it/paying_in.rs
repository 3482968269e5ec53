//! Adding to a deposit.

use alloy_primitives::{B256, U256, keccak256};
use roadstead_core::ports::Resumed;
use roadstead_publisher::{TopUpError, top_up};
use roadstead_types::JobId;

use crate::world::{World, amount};

#[tokio::test(start_paused = true)]
async fn each_call_adds_once_and_asks_for_no_more_than_it_takes() {
    let mut world = World::new().await;
    let place = world.job(1_000).await;
    world.chain.set_tokens(amount(500));
    let ports = world.publisher();
    for deposit in [1_200, 1_400] {
        let added = top_up(&ports, place.job, amount(200)).await.unwrap();
        assert_eq!(
            (added.job, added.added, added.deposit),
            (place.job, amount(200), amount(deposit))
        );
        assert_eq!(world.chain.calls(), ["approve", "topUp"]);
    }
    assert_eq!(world.slot(place.job).await.deposit, amount(1_400));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_where_it_cannot_be_used_or_paid() {
    let mut world = World::new().await;
    let place = world.job(1_000).await;
    world.chain.set_tokens(amount(100));
    let ports = world.publisher();
    let refused = top_up(&ports, place.job, amount(101)).await;
    let Err(TopUpError::NotEnoughTokens { amount: wanted, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(wanted, amount(101));
    let never = top_up(&ports, JobId::default(), amount(1)).await;
    assert!(matches!(never, Err(TopUpError::NotLive { .. })), "{never:?}");

    world.chain.give_notice(&place.plan.terms);
    let leaving = top_up(&ports, place.job, amount(1)).await;
    assert!(matches!(leaving, Err(TopUpError::NoticeRuns { .. })), "{leaving:?}");
    world.chain.close(place.job, amount(0));
    let over = top_up(&ports, place.job, amount(1)).await;
    assert!(matches!(over, Err(TopUpError::NotLive { .. })), "{over:?}");
    assert!(world.chain.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_added_at_once_does_not_share_an_allowance() {
    let mut world = World::new().await;
    let (first, second) = (world.job(1_000).await, world.job(1_000).await);
    world.chain.set_tokens(amount(1_000));
    let ports = world.publisher();
    let (one, other) = tokio::join!(
        top_up(&ports, first.job, amount(300)),
        top_up(&ports, second.job, amount(400))
    );
    assert_eq!((one.unwrap().deposit, other.unwrap().deposit), (amount(1_300), amount(1_400)));
    assert_eq!(world.chain.calls(), ["approve", "topUp", "approve", "topUp"]);
}

/// A top-up that an earlier process signed.
fn resumed(job: JobId, units: u64, took_effect: bool) -> Resumed {
    let selector = &keccak256("topUp(bytes32,uint96)")[..4];
    let input = [selector, job.0.as_slice(), &U256::from(units).to_be_bytes::<32>()].concat();
    let transaction = B256::with_last_byte(u8::try_from(units).unwrap());
    Resumed { call: "topUp".into(), input: input.into(), transaction, took_effect }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_process_added_is_told_once_and_nothing_is_added() {
    let mut world = World::new().await;
    let (place, other) = (world.job(1_000).await, world.job(1_000).await);
    world.chain.set_tokens(amount(500));
    let ports = world.publisher();
    let earlier =
        [resumed(other.job, 9, true), resumed(place.job, 8, false), resumed(place.job, 7, true)];
    ports.resumed.lock().unwrap().extend(earlier);
    let told = top_up(&ports, place.job, amount(200)).await.unwrap();
    assert_eq!((told.resumed, told.added, told.deposit), (true, amount(7), amount(1_000)));
    assert_eq!(told.transaction, B256::with_last_byte(7));
    assert!(world.chain.calls().is_empty());

    let added = top_up(&ports, place.job, amount(200)).await.unwrap();
    assert_eq!((added.resumed, added.added, added.deposit), (false, amount(200), amount(1_200)));
    // It is told where there is nothing to add to any more, too.
    world.chain.close(other.job, amount(0));
    let told = top_up(&ports, other.job, amount(200)).await.unwrap();
    assert_eq!((told.resumed, told.added), (true, amount(9)));
}
