//! Bills recomputed from the journal.

use roadstead_core::BillProblem;
use roadstead_publisher::{AgentEvent, VerifiedBill, VerifyError, verify_job};

use crate::world::{PER_SECOND, World, amount, at};

#[tokio::test(start_paused = true)]
async fn a_finished_job_is_recomputed_from_its_receipts() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let ports = world.publisher();
    for interval in 1..=70 {
        place.host.read(place.job, at(interval * 10)).await;
    }
    let mut agent = world.start();
    let voucher = place.host.paid_up(place.job).await;
    let early = verify_job(&ports, place.job).await;
    assert!(matches!(early, Err(VerifyError::NotOver { .. })), "{early:?}");

    world.chain.top_up(place.job, amount(2_000_000));
    let paid = voucher.bill.cumulative;
    world.chain.close(place.job, paid);
    agent.next(|event| matches!(event, AgentEvent::Finished { .. }).then_some(())).await;
    agent.end().await;
    let verified = verify_job(&ports, place.job).await.unwrap();
    let (job, unclaimed) = (place.job, amount(0));
    let (metered, due, until) = (paid, paid, at(700));
    let expected = VerifiedBill { job, receipts: 70, metered, due, unclaimed, paid, until };
    assert_eq!(verified, expected);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_metered_was_not_due() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    let due = place.host.paid_up(place.job).await.bill.cumulative;
    agent.end().await;
    let paid = amount(due.units() + 1);
    world.chain.close(place.job, paid);
    let wrong = verify_job(&world.publisher(), place.job).await;
    let Err(VerifyError::Wrong(problem)) = wrong else { panic!("{wrong:?}") };
    assert_eq!(problem, BillProblem::Paid { due, paid });
}

#[tokio::test(start_paused = true)]
async fn without_a_plan_nothing_can_be_recomputed() {
    let mut world = World::new().await;
    let host = world.host();
    let place = world.unknown_job(&host, 1_000);
    world.chain.close(place.job, amount(0));
    let unknown = verify_job(&world.publisher(), place.job).await;
    assert!(matches!(unknown, Err(VerifyError::NoPlan { .. })), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_disputed_bill_comes_to_what_was_right() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    place.host.paid_up(place.job).await;
    place.host.read_as(place.job, at(20), |receipt| receipt.cumulative = amount(9_999)).await;
    let paid = place.host.paid_up(place.job).await.bill.cumulative;
    assert_eq!(paid, amount(20 * PER_SECOND));
    agent.end().await;
    world.chain.close(place.job, paid);
    let verified = verify_job(&world.publisher(), place.job).await.unwrap();
    assert_eq!((verified.receipts, verified.until), (2, at(20)));
    assert_eq!((verified.metered, verified.due, verified.unclaimed), (paid, paid, amount(0)));
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_and_not_settled_is_unclaimed() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    let paid = place.host.paid_up(place.job).await.bill.cumulative;
    place.host.read(place.job, at(20)).await;
    let due = place.host.paid_up(place.job).await.bill.cumulative;
    agent.end().await;
    world.chain.close(place.job, paid);
    let verified = verify_job(&world.publisher(), place.job).await.unwrap();
    assert_eq!((verified.due, verified.paid), (due, paid));
    assert_eq!(verified.unclaimed, due.saturating_sub(paid));
}

#[tokio::test(start_paused = true)]
async fn without_its_receipts_a_bill_is_not_called_wrong() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    let paid = place.host.paid_up(place.job).await.bill.cumulative;
    agent.end().await;
    world.chain.close(place.job, paid);
    world.lose_disk(&[&place.plan]).await;
    let missing = verify_job(&world.publisher(), place.job).await;
    assert!(matches!(missing, Err(VerifyError::Missing { receipts: 0, .. })), "{missing:?}");

    // The next agent fetches them.
    let mut agent = world.start();
    agent.next(|event| matches!(event, AgentEvent::Finished { .. }).then_some(())).await;
    agent.end().await;
    let verified = verify_job(&world.publisher(), place.job).await.unwrap();
    assert_eq!((verified.receipts, verified.due), (1, paid));
}
