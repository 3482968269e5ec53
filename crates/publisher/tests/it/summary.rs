//! What is known of the jobs that an agent looks after.

use roadstead_core::protocol::RefusalCode;
use roadstead_publisher::{AgentEvent, SummaryError, adopt, job_summaries};
use roadstead_types::{JobStatus, TokenAmount};

use crate::world::{DOMAIN, PER_SECOND, World, amount, at};

#[tokio::test(start_paused = true)]
async fn a_job_is_summed_up_from_journal_and_chain() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let other = world.job(5_000).await;
    let ports = world.agent_ports();
    let [first] = &job_summaries(&ports, Some(place.job)).await.unwrap()[..] else {
        panic!("one is asked for");
    };
    assert_eq!((first.job, &first.plan, first.status), (place.job, &place.plan, JobStatus::Open));
    assert_eq!((first.accepted, first.receipts), (TokenAmount::ZERO, 0));
    assert_eq!((first.deposit, first.paid), (amount(1_000_000), TokenAmount::ZERO));

    place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    place.host.paid_up(place.job).await;
    place.host.read_as(place.job, at(20), |receipt| receipt.cumulative = amount(9_999)).await;
    let refused = |event: &AgentEvent| matches!(event, AgentEvent::Refused { .. }).then_some(());
    agent.next(refused).await;
    agent.end().await;
    world.chain.close(other.job, amount(20));

    let mut summaries = job_summaries(&ports, None).await.unwrap();
    summaries.sort_by_key(|summary| summary.job != place.job);
    let [first, second] = &summaries[..] else { panic!("{summaries:?}") };
    assert_eq!((first.job, second.job), (place.job, other.job));
    assert_eq!((first.accepted, first.receipts), (amount(20 * PER_SECOND), 1));
    let refusal = first.refusal.as_ref().unwrap();
    assert_eq!((refusal.seq, refusal.code), (1, RefusalCode::Sum));
    assert_eq!((second.status, second.paid), (JobStatus::Closed, amount(20)));
    assert_eq!((second.receipts, second.refusal.as_ref()), (0, None));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_prepared_alone_is_told_from_one_that_is_open() {
    let mut world = World::new().await;
    let host = world.host();
    let place = world.unknown_job(&host, 1_000);
    let ports = world.agent_ports();
    assert!(job_summaries(&ports, None).await.unwrap().is_empty());
    assert!(job_summaries(&ports, Some(place.job)).await.unwrap().is_empty());
    adopt(&ports.journal, &DOMAIN, &place.plan).await.unwrap();
    // It was opened in a block that is no longer there.
    world.chain.undo();
    let [prepared] = &job_summaries(&ports, Some(place.job)).await.unwrap()[..] else {
        panic!("it is known");
    };
    assert_eq!((prepared.status, prepared.deposit), (JobStatus::Absent, TokenAmount::ZERO));

    world.chain.set_lost(true);
    let failed = job_summaries(&ports, None).await;
    assert!(matches!(failed, Err(SummaryError::Read(_))), "{failed:?}");
}
