//! Jobs that are over, and receipts that are still missing.

use std::time::Duration;

use roadstead_core::protocol::{JobPhase, State};
use roadstead_publisher::{AgentEvent, verify_job};
use roadstead_types::{JobId, TokenAmount};
use tokio::time::{Instant, sleep};

use crate::world::{Place, World, amount, at};

fn finished(event: &AgentEvent) -> Option<(JobId, TokenAmount)> {
    match event {
        AgentEvent::Finished { job, paid } => Some((*job, *paid)),
        _ => None,
    }
}

/// A job that is over and of which the agent has one of three receipts.
async fn missed() -> (World, Place, TokenAmount) {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    place.host.paid_up(place.job).await;
    agent.end().await;
    place.host.read(place.job, at(20)).await;
    let last = place.host.read(place.job, at(30)).await;
    let paid = last.receipt.cumulative;
    world.chain.close(place.job, paid);
    (world, place, paid)
}

#[tokio::test(start_paused = true)]
async fn the_last_receipts_are_fetched_once_after_the_close() {
    let (world, place, paid) = missed().await;
    let mut agent = world.start();
    assert_eq!(agent.next(finished).await, (place.job, paid));
    assert_eq!(world.kept(place.job).await, place.host.receipts(place.job));
    let asked = place.host.requests().len();
    sleep(Duration::from_secs(7_200)).await;
    let told = agent.end().await;
    assert!(!told.iter().any(|event| finished(event).is_some()), "told once: {told:?}");
    assert_eq!(verify_job(&world.publisher(), place.job).await.unwrap().receipts, 3);

    // Nor does the next agent ask.
    let agent = world.start();
    sleep(Duration::from_secs(7_200)).await;
    assert_eq!(place.host.requests().len(), asked);
    let told = agent.end().await;
    assert!(!told.iter().any(|event| finished(event).is_some()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_asked_until_it_has_seen_the_end() {
    let (world, place, paid) = missed().await;
    place.host.lie(|state: &mut State| state.phase = JobPhase::Draining);
    let mut agent = world.start();
    sleep(Duration::from_secs(60)).await;
    let told = agent.told();
    assert!(!told.iter().any(|event| finished(event).is_some()), "{told:?}");
    place.host.be_honest();
    let asked = Instant::now();
    assert_eq!(agent.next(finished).await, (place.job, paid));
    assert!(asked.elapsed() <= Duration::from_secs(64), "{:?}", asked.elapsed());
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_gone_is_given_up_until_the_next_start() {
    let (mut world, place, paid) = missed().await;
    place.host.deny(Some(roadstead_core::protocol::Denial::Forbidden));
    let mut agent = world.start();
    // It looks for the rest while the close gets final.
    let other = world.job(1_000_000).await;
    for deposit in 1..200 {
        world.chain.top_up(other.job, amount(1_000_000 + deposit));
        sleep(Duration::from_secs(2)).await;
    }
    let (_, book) = world.journal.book().await.unwrap().unwrap();
    assert!(book.job(place.job).is_none(), "its end cannot be undone any more");
    let before = place.host.requests().len();
    sleep(Duration::from_secs(1_800)).await;
    let asked = place.host.requests().len() - before;
    assert!((3..=10).contains(&asked), "{asked} questions in half an hour");
    assert_eq!(agent.next(finished).await, (place.job, paid));
    let before = place.host.requests().len();
    sleep(Duration::from_secs(7_200)).await;
    assert_eq!(place.host.requests().len(), before, "nothing more is asked");
    let told = agent.end().await;
    assert!(
        !told
            .iter()
            .any(|event| matches!(event, AgentEvent::Lost { job, .. } if *job == place.job))
    );

    world.restart_machine().await;
    place.host.deny(None);
    let mut agent = world.start();
    assert_eq!(agent.next(finished).await, (place.job, paid));
    assert_eq!(world.kept(place.job).await, place.host.receipts(place.job));
    agent.end().await;
}
