use std::sync::Mutex;

use roadstead_core::{
    Refusal,
    ports::{ContentStore, Engine},
};
use roadstead_types::{Contracts, JobStatus, PROFILE_VERSION, Resources, Token};
use tokio::time::sleep;

use super::*;
use crate::fixture::World;

/// A daemon that goes on where the process of the fixture ended, and what it tells.
fn daemon(world: &World) -> (Daemon, Arc<Mutex<Vec<ProviderEvent>>>) {
    let market = Market {
        devnet: true,
        chain_id: world.domain.chain,
        genesis: Default::default(),
        rpc: Vec::new(),
        contracts: Contracts { registry: Address::ZERO, payment: world.domain.contract },
        token: Token { address: Address::ZERO, symbol: "T".into(), decimals: 6 },
        from_block: 1,
        confirmations: 0,
    };
    let profile =
        Profile { version: PROFILE_VERSION, region: "here".into(), prices: Resources::default() };
    let told = Arc::new(Mutex::new(Vec::new()));
    let report = told.clone();
    let report = move |event| report.lock().unwrap().push(event);
    let daemon = Daemon::new(world.ports(), &market, world.keys(), world.offer, &profile, report);
    (daemon, told)
}

async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.expect("it does not hang");
}

#[tokio::test]
async fn a_job_that_can_never_be_started_is_given_back_whole_and_forgotten() {
    let world = World::with(100_000, 500).await;
    world.engine.refuse("its program is missing");
    world.chain.hide(true);
    let (daemon, told) = daemon(&world);
    let stop = CancellationToken::new();
    let running = tokio::spawn(daemon.run(stop.clone()));
    let is_told = |what: fn(&ProviderEvent) -> bool| told.lock().unwrap().iter().any(what);
    // What no job needs is swept away before there is one.
    until(|| !world.engine.removed_images().is_empty()).await;
    world.prepare_image().await;
    world.chain.hide(false);
    until(|| is_told(|event| matches!(event, ProviderEvent::Closed { .. }))).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(is_told(|event| {
        let ProviderEvent::Refused { refusal, .. } = event else { return false };
        matches!(refusal, Refusal::BadImage { reason } if reason.contains("program"))
    }));
    assert_eq!(world.chain.calls(), ["decline"]);
    assert_eq!(world.receipts().await, []);
    assert_eq!(world.cache.pins().await.unwrap(), []);
    assert_eq!(world.engine.images().await.unwrap(), []);
    assert_eq!(world.engine.starts(&world.id()), 0);
    let (_, book) = world.journal.book().await.unwrap().unwrap();
    assert!(book.job(world.job).is_none_or(|record| record.job().status() == JobStatus::Closed));
}

#[tokio::test]
async fn a_job_that_was_ordered_away_before_a_restart_is_never_started() {
    let world = World::new().await;
    world.order_away().await;
    let (daemon, told) = daemon(&world);
    let stop = CancellationToken::new();
    let running = tokio::spawn(daemon.run(stop.clone()));
    let is_told = |what: fn(&ProviderEvent) -> bool| told.lock().unwrap().iter().any(what);
    until(|| is_told(|event| matches!(event, ProviderEvent::Closed { .. }))).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(!is_told(|event| matches!(event, ProviderEvent::Admitted { .. })));
    assert_eq!(world.chain.calls(), ["decline"]);
    assert_eq!(world.engine.starts(&world.id()), 0);
}
