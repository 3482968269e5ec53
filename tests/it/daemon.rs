//! The provider's daemon on chains that fail and forget.

use std::net::SocketAddr;

use alloy::{primitives::U256, providers::Provider};
use roadstead_core::ports::Call;
use roadstead_devchain::{Config, Devchain, serve};
use roadstead_devnet::ChainChoice;
use roadstead_provider::{Daemon, DaemonError, Ports, ProviderEvent};
use roadstead_publisher::{OpenRequest, close, open};
use roadstead_types::{JobId, JobStatus};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::market::{EVERY_CHAIN, PATIENCE, TestMarket, amount, tokens};

/// A daemon that runs, and what it says.
struct Running {
    events: mpsc::Receiver<ProviderEvent>,
    task: JoinHandle<Result<(), DaemonError>>,
    stop: CancellationToken,
}

impl Running {
    fn start(ports: Ports, from_block: u64) -> Self {
        let (said, events) = mpsc::channel(1_000);
        let stop = CancellationToken::new();
        let report = move |event| said.try_send(event).unwrap();
        let daemon = Daemon::new(ports, from_block, report);
        let task = tokio::spawn(daemon.run(stop.clone()));
        Self { events, task, stop }
    }

    async fn until(&mut self, what: impl Fn(&ProviderEvent) -> bool) -> ProviderEvent {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the daemon runs");
                if what(&event) {
                    return event;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("it says so in time")
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn open_job(market: &TestMarket, salt: u64) -> JobId {
    let publisher = market.publisher().await;
    let request = OpenRequest {
        terms: market.terms(salt),
        deposit: amount(1_000_000),
        source: Default::default(),
    };
    open(&publisher, request).await.unwrap().job
}

#[tokio::test]
async fn a_new_daemon_goes_on_where_the_last_one_was_killed() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.provider().await;
        let from_block = market.market().from_block;
        let mut first = Running::start(ports.clone(), from_block);
        let job = open_job(&market, 1).await;
        // Its transaction may be on its way by now, or not.
        first.until(|event| matches!(event, ProviderEvent::JobSeen { .. })).await;
        first.task.abort();

        let mut second = Running::start(ports.clone(), from_block);
        second.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
        let publisher = market.publisher().await;
        close(&publisher, &market.terms(1), from_block, PATIENCE).await.unwrap();
        assert_eq!(publisher.reader.job(job).await.unwrap().status(), JobStatus::Closed);
        let earned = tokens(&*ports.reader, ports.writer.account()).await;
        assert_eq!(earned, U256::from(50_000), "{chain}: paid once");
        second.stop().await;
    }
}

#[tokio::test]
async fn many_jobs_at_once_are_all_served() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.provider().await;
        for salt in 0..20 {
            open_job(&market, salt).await;
        }
        let mut daemon = Running::start(ports.clone(), market.market().from_block);
        for _ in 0..20 {
            daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
        }
        daemon.stop().await;
        let earned = tokens(&*ports.reader, ports.writer.account()).await;
        assert_eq!(earned, U256::from(20 * 50_000), "{chain}");
    }
}

#[tokio::test]
async fn a_node_that_goes_and_comes_back_is_told_once_and_loses_nothing() {
    let chain = Devchain::new(Config::default()).unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let server = serve(chain.clone(), any).await.unwrap();
    let address = server.local_addr();
    let market = TestMarket::start(&ChainChoice::Url(server.url())).await;
    let mut daemon = Running::start(market.provider().await, market.market().from_block);

    server.shutdown().await;
    daemon.until(|event| matches!(event, ProviderEvent::ChainLost { .. })).await;
    let server = serve(chain, address).await.unwrap();
    let next = daemon.until(|_| true).await;
    assert!(matches!(next, ProviderEvent::ChainBack), "{next:?}");

    open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    daemon.stop().await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_start_fee_that_a_reorganisation_took_away_is_taken_again() {
    let market = TestMarket::start(&ChainChoice::Anvil).await;
    let ports = market.provider().await;
    let mut daemon = Running::start(ports.clone(), market.market().from_block);
    let job = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;

    let client = market.foreign(&market.local.publisher);
    let one_block = serde_json::json!([1, []]);
    client.raw_request::<_, serde_json::Value>("anvil_reorg".into(), one_block).await.unwrap();
    client.raw_request::<_, serde_json::Value>("evm_mine".into(), ()).await.unwrap();
    daemon.until(|event| matches!(event, ProviderEvent::Reorganised { .. })).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    assert_eq!(ports.reader.job(job).await.unwrap().paid, amount(50_000));
    daemon.stop().await;
}

#[tokio::test]
async fn a_call_that_somebody_else_made_already_is_no_trouble() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.provider().await;
        open_job(&market, 1).await;
        ports.writer.submit(Call::ClaimStartFee(market.terms(1))).await.unwrap();
        let again = ports.writer.submit(Call::ClaimStartFee(market.terms(1))).await;
        assert!(again.is_err(), "{chain}");
        let mut daemon = Running::start(ports.clone(), market.market().from_block);
        daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
        let failed = |event: &ProviderEvent| matches!(event, ProviderEvent::CallFailed { .. });
        daemon.stop.cancel();
        daemon.task.await.unwrap().unwrap();
        while let Ok(event) = daemon.events.try_recv() {
            assert!(!failed(&event), "{chain}: {event:?}");
        }
    }
}
