//! Leaving a job: by order, and by notice where that does not do.

use std::{sync::Mutex, time::Duration};

use roadstead_core::{
    ports::ChainError,
    protocol::{Denial, OrderKind},
};
use roadstead_publisher::{
    CloseError, CloseEvent, Closed, Ending, NoticeReason, Ports, TalkError, close,
};
use roadstead_types::{JobStatus, Terms};
use tokio::time::{Instant, sleep};

use crate::{
    link::Fault,
    world::{Place, World, amount},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Closes, and gives what was told of it.
async fn leave(ports: &Ports, terms: &Terms) -> (Result<Closed, CloseError>, Vec<CloseEvent>) {
    let told = Mutex::new(Vec::new());
    let closed = close(ports, terms, 0, PATIENCE, |event| told.lock().unwrap().push(event)).await;
    (closed, told.into_inner().unwrap())
}

async fn world() -> (World, Place) {
    let mut world = World::new().await;
    let place = world.job(1_000).await;
    (world, place)
}

#[tokio::test(start_paused = true)]
async fn a_provider_closes_by_order() {
    let (world, place) = world().await;
    place.host.obey(place.job, amount(300));
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    let (job, paid, refund) = (place.job, amount(300), amount(700));
    assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Order });
    assert!(matches!(told[..], [CloseEvent::Ordered]), "{told:?}");

    let (again, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert_eq!(again.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Order });
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(place.host.orders(place.job).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_order_survives_a_bad_network() {
    let (world, place) = world().await;
    place.host.obey(place.job, amount(300));
    world.link.spoil([Fault::LoseQuestion, Fault::LoseAnswer]);
    let (closed, _) = leave(&world.publisher(), &place.plan.terms).await;
    let Closed::Closed { how: Ending::Order, .. } = closed.unwrap() else {
        panic!("it was ordered");
    };
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_denied_becomes_a_notice() {
    let (world, place) = world().await;
    place.host.deny(Some(Denial::Forbidden));
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert!(matches!(closed, Ok(Closed::NoticeRuns { .. })), "{closed:?}");
    assert!(
        matches!(
            told[..],
            [CloseEvent::NoticeGiven { why: NoticeReason::Denied(Denial::Forbidden) }]
        ),
        "{told:?}"
    );
    assert_eq!(world.slot(place.job).await.status(), JobStatus::Closing);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_take_the_order_yet_is_asked_again() {
    for (denial, seconds) in [(Denial::Forbidden, 3), (Denial::Busy, 40)] {
        let (world, place) = world().await;
        place.host.obey(place.job, amount(300));
        place.host.deny(Some(denial));
        let host = place.host.clone();
        let relents = tokio::spawn(async move {
            sleep(Duration::from_secs(seconds)).await;
            host.deny(None);
        });
        let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
        let Ok(Closed::Closed { how: Ending::Order, .. }) = closed else { panic!("{closed:?}") };
        assert!(matches!(told[..], [CloseEvent::Ordered]), "{told:?}");
        relents.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_busy_for_long_is_given_notice() {
    let (world, place) = world().await;
    place.host.deny(Some(Denial::Busy));
    let begun = Instant::now();
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert!(matches!(closed, Ok(Closed::NoticeRuns { .. })), "{closed:?}");
    let [CloseEvent::NoticeGiven { why: NoticeReason::Denied(Denial::Busy) }] = told[..] else {
        panic!("{told:?}");
    };
    assert!(begun.elapsed() < Duration::from_secs(60 + 5) + PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn events_that_make_no_sense_keep_no_notice_from_being_given() {
    let (world, place) = world().await;
    place.host.set_up(false);
    world.chain.set_broken(true);
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert!(matches!(closed, Ok(Closed::NoticeRuns { .. })), "{closed:?}");
    assert!(matches!(told[..], [CloseEvent::NoticeGiven { .. }]), "{told:?}");
    assert_eq!(world.slot(place.job).await.status(), JobStatus::Closing);

    // What is closed all the same is waited for no longer than it takes to be confirmed.
    world.chain.close(place.job, amount(20));
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    let Err(CloseError::Unread { paid, source, .. }) = closed else { panic!("{closed:?}") };
    assert_eq!(paid, amount(20));
    assert!(matches!(source, Some(ChainError::Malformed { .. })), "{source:?}");
    assert!(told.is_empty(), "{told:?}");

    world.chain.set_broken(false);
    let (closed, _) = leave(&world.publisher(), &place.plan.terms).await;
    let (job, paid, refund) = (place.job, amount(20), amount(980));
    assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Notice });
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_confirmed_late_is_waited_for() {
    let (world, place) = world().await;
    world.chain.set_broken(true);
    world.chain.close(place.job, amount(20));
    let ports = world.publisher();
    let terms = place.plan.terms.clone();
    let leaving = tokio::spawn(async move { leave(&ports, &terms).await });
    sleep(PATIENCE + Duration::from_secs(60)).await;
    world.chain.set_broken(false);
    let (closed, _) = leaving.await.unwrap();
    assert!(matches!(closed, Ok(Closed::Closed { .. })), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn only_the_publisher_gives_orders() {
    let (world, place) = world().await;
    place.host.obey(place.job, amount(300));
    let signer = std::sync::Arc::new(crate::world::wallet(2));
    let ports = Ports { wallet: signer, ..world.publisher() };
    let (_, told) = leave(&ports, &place.plan.terms).await;
    assert!(
        matches!(
            told[..],
            [CloseEvent::NoticeGiven { why: NoticeReason::Denied(Denial::Forbidden) }]
        ),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_takes_the_order_and_does_nothing_is_given_notice() {
    let (world, place) = world().await;
    let begun = Instant::now();
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert!(matches!(closed, Ok(Closed::NoticeRuns { .. })), "{closed:?}");
    let [CloseEvent::Ordered, CloseEvent::NoticeGiven { why: NoticeReason::Silent }] = told[..]
    else {
        panic!("{told:?}");
    };
    let waited = begun.elapsed();
    assert!((Duration::from_secs(90)..Duration::from_secs(95)).contains(&waited), "{waited:?}");
    let orders = place.host.orders(place.job);
    assert!(orders.len() > 5, "the order is repeated");
    assert!(orders.iter().all(|order| order == &orders[0]), "and stays one order");
    assert_eq!((orders[0].job, orders[0].kind), (place.job, OrderKind::Close));

    // A notice that runs is not given again, nor is anything ordered.
    let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
    assert!(matches!(closed, Ok(Closed::NoticeRuns { .. })), "{closed:?}");
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(place.host.orders(place.job).len(), orders.len());

    world.chain.close(place.job, amount(0));
    let (closed, _) = leave(&world.publisher(), &place.plan.terms).await;
    let (job, paid, refund) = (place.job, amount(0), amount(1_000));
    assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Notice });
}

#[tokio::test(start_paused = true)]
async fn a_provider_out_of_reach_is_given_notice_soon() {
    let (world, place) = world().await;
    place.host.set_up(false);
    let begun = Instant::now();
    let ports = world.publisher();
    let terms = place.plan.terms.clone();
    let leaving = tokio::spawn(async move { leave(&ports, &terms).await });
    // It sees the notice and ends the job.
    while world.slot(place.job).await.status() == JobStatus::Open {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    world.chain.close(place.job, amount(20));
    let (closed, told) = leaving.await.unwrap();
    let (job, paid, refund) = (place.job, amount(20), amount(980));
    assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Notice });
    let [CloseEvent::NoticeGiven { why: NoticeReason::Unreachable(TalkError::Link(_)) }] = told[..]
    else {
        panic!("{told:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn after_the_notice_whoever_closes_ends_the_job() {
    for is_outrun in [false, true] {
        let (world, place) = world().await;
        place.host.set_up(false);
        let (closed, _) = leave(&world.publisher(), &place.plan.terms).await;
        let Ok(Closed::NoticeRuns { close_at, .. }) = closed else { panic!("{closed:?}") };
        // Before its end nothing is sent.
        let early = leave(&world.publisher(), &place.plan.terms).await.0;
        assert!(matches!(early, Ok(Closed::NoticeRuns { .. })), "{early:?}");
        assert_eq!(world.chain.calls(), ["beginClose"]);

        sleep(Duration::from(close_at.since(world.chain.now()))).await;
        if is_outrun {
            world.chain.set_outrun();
        }
        let (closed, told) = leave(&world.publisher(), &place.plan.terms).await;
        let (job, paid, refund) = (place.job, amount(0), amount(1_000));
        assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund, how: Ending::Notice });
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(world.chain.calls(), ["finalize"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_was_cannot_be_closed() {
    let (world, place) = world().await;
    let never = Terms { salt: 99, ..place.plan.terms };
    let (closed, told) = leave(&world.publisher(), &never).await;
    assert!(matches!(closed, Err(CloseError::Absent { .. })), "{closed:?}");
    assert!(told.is_empty());
}
