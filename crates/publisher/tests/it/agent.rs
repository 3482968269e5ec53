//! The agent with nothing against it.

use std::time::Duration;

use roadstead_core::protocol::{Denial, JobSync, RefusalCode, Request};
use roadstead_publisher::{AdoptError, AgentEvent, adopt};
use roadstead_types::{Domain, JobPlan, Resources};
use tokio::time::{Instant, sleep};

use crate::{
    host::Host,
    world::{DOMAIN, PER_SECOND, World, amount, at, wallet},
};

fn syncs(host: &Host) -> Vec<JobSync> {
    let sync = |request| match request {
        Request::Sync(sync) => Some(sync),
        _ => None,
    };
    host.requests().into_iter().filter_map(sync).collect()
}

#[tokio::test(start_paused = true)]
async fn each_receipt_gets_its_voucher() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let mut agent = world.start();
    agent.next(|event| matches!(event, AgentEvent::Following { .. }).then_some(())).await;
    agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    for interval in 1..=5 {
        let signed = place.host.read(place.job, at(interval * 10)).await;
        let voucher = place.host.paid_up(place.job).await;
        assert_eq!(voucher.bill.cumulative, amount(u128::from(interval) * 10 * PER_SECOND));
        assert_eq!(signed.receipt.cumulative, voucher.bill.cumulative);
    }
    assert_eq!(place.host.vouchers(place.job).len(), 5);
    assert_eq!(world.kept(place.job).await, place.host.receipts(place.job));
    let told = agent.end().await;
    let accepted = told.iter().filter(|event| matches!(event, AgentEvent::Accepted { .. }));
    assert_eq!(accepted.count(), 5, "{told:?}");
    assert!(!told.iter().any(|event| matches!(event, AgentEvent::Lost { .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn after_being_away_one_voucher_covers_all() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    for interval in 1..=5 {
        place.host.read(place.job, at(interval * 10)).await;
    }
    let agent = world.start();
    let voucher = place.host.paid_up(place.job).await;
    assert_eq!(voucher.bill.until, at(50));
    assert_eq!(place.host.vouchers(place.job), [voucher]);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_backlog_comes_in_pieces() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    for interval in 1..=150 {
        place.host.read(place.job, at(interval * 10)).await;
    }
    let agent = world.start();
    place.host.paid_up(place.job).await;
    assert_eq!(place.host.vouchers(place.job).len(), 3, "64, 64 and 22 receipts");
    assert_eq!(world.kept(place.job).await, place.host.receipts(place.job));
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_goes_on_from_its_journal() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let agent = world.start();
    place.host.paid_up(place.job).await;
    agent.end().await;

    world.restart_machine().await;
    let (cursor, book) = world.journal.book().await.unwrap().unwrap();
    assert_eq!((cursor.next(), book.jobs().count()), (1, 1), "nothing of the chain is read twice");
    let before = syncs(&place.host).len();
    place.host.read(place.job, at(20)).await;
    let agent = world.start();
    place.host.paid_up(place.job).await;
    let again = &syncs(&place.host)[before];
    assert_eq!(again.head.map(|(seq, _)| seq), Some(0), "it still knows the first receipt");
    assert_eq!(again.voucher.as_ref(), place.host.vouchers(place.job).first());
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_is_ignored_until_it_is_adopted() {
    let mut world = World::new().await;
    let host = world.host();
    let place = world.unknown_job(&host, 1_000_000);
    place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    let ignored = |event: &AgentEvent| match event {
        AgentEvent::Ignored { job } => Some(*job),
        _ => None,
    };
    assert_eq!(agent.next(ignored).await, place.job);
    sleep(Duration::from_secs(100)).await;
    assert!(agent.told().is_empty(), "told once");
    assert!(host.requests().is_empty());

    let elsewhere = Domain { chain: 1, ..DOMAIN };
    let refused = adopt(&world.journal, &elsewhere, &place.plan).await;
    assert!(matches!(refused, Err(AdoptError::Another)), "{refused:?}");
    adopt(&world.journal, &DOMAIN, &place.plan).await.unwrap();
    host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_is_known_is_replaced_by_no_other() {
    let mut world = World::new().await;
    let place = world.job(1_000).await;
    adopt(&world.journal, &DOMAIN, &place.plan).await.unwrap();
    let mut cheaper = place.plan.clone();
    cheaper.tariff.prices = Resources::default();
    let moved = JobPlan { source: "http://elsewhere".into(), ..place.plan.clone() };
    for other in [cheaper, moved] {
        let refused = adopt(&world.journal, &DOMAIN, &other).await;
        assert!(matches!(refused, Err(AdoptError::Known { .. })), "{refused:?}");
    }
    assert_eq!(world.journal.plans().await.unwrap(), [place.plan]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_its_terms_do_not_cover_is_refused() {
    let mut world = World::new().await;
    let host = world.host();
    let plan = world.unknown_job(&host, 1_000).plan;
    let mut dear = plan.clone();
    dear.tariff.prices.cpu = u128::MAX;
    let mut dearer = plan.clone();
    dearer.tariff.reservation.cpu += 1_000_000;
    for dear in [dear, dearer] {
        let refused = adopt(&world.journal, &DOMAIN, &dear).await;
        assert!(matches!(refused, Err(AdoptError::TooDear { .. })), "{refused:?}");
    }
    for source in ["x".repeat(257), "http://a\u{1b}[2J".into()] {
        let refused = adopt(&world.journal, &DOMAIN, &JobPlan { source, ..plan.clone() }).await;
        assert!(matches!(refused, Err(AdoptError::Source { .. })), "{refused:?}");
    }
    assert_eq!(world.journal.plans().await.unwrap(), []);
    adopt(&world.journal, &DOMAIN, &JobPlan { source: "x".repeat(256), ..plan }).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_state_is_told_when_it_says_something_new() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let mut agent = world.start();
    let note = |event: &AgentEvent| match event {
        AgentEvent::State { state, .. } => Some(state.note.clone()),
        _ => None,
    };
    assert_eq!(agent.next(note).await, None);
    place.host.read(place.job, at(10)).await;
    place.host.paid_up(place.job).await;
    place.host.set_note(place.job, Some("the deposit is nearly used up"));
    assert_eq!(agent.next(note).await.unwrap(), "the deposit is nearly used up");
    sleep(Duration::from_secs(300)).await;
    let told = agent.end().await;
    assert!(!told.iter().any(|event| note(event).is_some()), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_job_is_finished_and_followed_again_when_that_is_undone() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.read(place.job, at(10)).await;
    let mut agent = world.start();
    let paid = place.host.paid_up(place.job).await.bill.cumulative;
    world.chain.close(place.job, paid);
    let finished = |event: &AgentEvent| match event {
        AgentEvent::Finished { job, paid } => Some((*job, *paid)),
        _ => None,
    };
    assert_eq!(agent.next(finished).await, (place.job, paid));
    let asked = place.host.requests().len();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(place.host.requests().len(), asked, "nothing more is asked");
    assert!(!agent.told().iter().any(|event| finished(event).is_some()), "told once");

    world.chain.undo();
    agent.next(|event| matches!(event, AgentEvent::Following { .. }).then_some(())).await;
    place.host.read(place.job, at(20)).await;
    let paid = place.host.paid_up(place.job).await.bill.cumulative;
    world.chain.close(place.job, paid);
    assert_eq!(agent.next(finished).await, (place.job, paid));
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_opening_is_undone_is_left_alone() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let agent = world.start();
    place.host.read(place.job, at(10)).await;
    place.host.paid_up(place.job).await;
    world.chain.undo();
    sleep(Duration::from_secs(5)).await;
    let asked = place.host.requests().len();
    sleep(Duration::from_secs(300)).await;
    assert_eq!(place.host.requests().len(), asked);
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_are_renewed_before_they_end() {
    let mut world = World::new().await;
    let place = world.job(100_000_000).await;
    let mut agent = world.start();
    for interval in 1..=60 {
        sleep(Duration::from_secs(240)).await;
        place.host.read(place.job, at(interval * 100)).await;
        place.host.paid_up(place.job).await;
    }
    let greetings = place.host.greetings();
    assert!((4..=6).contains(&greetings), "{greetings} in four hours");
    assert_eq!(place.host.denied(), 0);
    let told = agent.told();
    assert!(!told.iter().any(|event| matches!(event, AgentEvent::Lost { .. })), "{told:?}");
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn bills_are_accepted_while_the_chain_is_away() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let mut agent = world.start();
    agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    world.chain.set_lost(true);
    agent.next(|event| matches!(event, AgentEvent::ChainLost { .. }).then_some(())).await;
    sleep(Duration::from_secs(600)).await;
    // The chain's own time has gone on, and the receipt is of then.
    place.host.read(place.job, world.chain.now()).await;
    place.host.paid_up(place.job).await;
    // The provider is found again without the registry.
    place.host.set_up(false);
    place.host.read(place.job, world.chain.now()).await;
    agent.next(|event| matches!(event, AgentEvent::Lost { .. }).then_some(())).await;
    place.host.set_up(true);
    agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    world.chain.set_lost(false);
    agent.next(|event| matches!(event, AgentEvent::ChainBack).then_some(())).await;
    let told = agent.end().await;
    assert!(!told.iter().any(|event| matches!(event, AgentEvent::ChainLost { .. })), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_sign_and_a_stranger_may_not() {
    let mut world = World::new().await;
    let host = world.host_as(|host| host.pen = wallet(50));
    let place = world.job_at(&host, 1_000_000).await;
    host.read(place.job, at(10)).await;
    let mut agent = world.start();
    let refused = |event: &AgentEvent| match event {
        AgentEvent::Refused { refusal, .. } => Some(refusal.code),
        _ => None,
    };
    assert_eq!(agent.next(refused).await, RefusalCode::Signature);
    assert_eq!(host.voucher(place.job), None);
    world.chain.set_operator(host.wallet.address(), wallet(50).address());
    host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_moved_is_found_by_the_registry() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    let mut agent = world.start();
    agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    place.host.set_up(false);
    agent.next(|event| matches!(event, AgentEvent::Lost { .. }).then_some(())).await;
    place.host.move_to(5_555);
    place.host.set_up(true);
    world.register(&place.host);
    place.host.read(place.job, at(10)).await;
    place.host.paid_up(place.job).await;
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_may_read_of_a_job_later_than_its_agent() {
    let mut world = World::new().await;
    let place = world.job(1_000_000).await;
    place.host.deny(Some(Denial::Forbidden));
    let mut agent = world.start();
    sleep(Duration::from_secs(20)).await;
    place.host.deny(None);
    let back = Instant::now();
    let lost = |event: &AgentEvent| matches!(event, AgentEvent::Lost { .. });
    let told = agent.told();
    assert!(!told.iter().any(lost), "{told:?}");
    agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
    agent.end().await;

    // One that never does is told of.
    place.host.deny(Some(Denial::Forbidden));
    let begun = Instant::now();
    let mut agent = world.start();
    agent.next(|event| lost(event).then_some(())).await;
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_bears_more_jobs_than_questions() {
    let count = 60;
    let mut world = World::new().await;
    let host = world.host();
    let mut places = Vec::new();
    for _ in 0..count {
        places.push(world.job_at(&host, 1_000_000).await);
    }
    let mut agent = world.start();
    for _ in 0..count {
        agent.next(|event| matches!(event, AgentEvent::Connected { .. }).then_some(())).await;
    }
    for interval in 1..=6 {
        for place in &places {
            host.read(place.job, at(interval * 10)).await;
        }
        sleep(Duration::from_secs(10)).await;
        for place in &places {
            let until = host.voucher(place.job).map(|voucher| voucher.bill.until);
            assert_eq!(until, Some(at(interval * 10)));
        }
    }
    let told = agent.end().await;
    assert!(!told.iter().any(|event| matches!(event, AgentEvent::Lost { .. })), "{told:?}");
    assert_eq!(host.denied(), 0);
}
