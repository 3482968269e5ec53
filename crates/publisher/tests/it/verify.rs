//! Bills recomputed from the journal.

use roadstead_core::BillProblem;
use roadstead_publisher::{AgentEvent, VerifiedBill, VerifyError, verify_job};

use crate::world::{World, amount, at};

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
    let job = place.job;
    let expected =
        VerifiedBill { job, receipts: 70, metered: paid, due: paid, paid, until: at(700) };
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
