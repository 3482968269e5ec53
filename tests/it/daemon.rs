//! The provider's daemon on chains that fail and forget.

use std::net::SocketAddr;

use alloy::{primitives::U256, providers::Provider};
use roadstead_core::{Offer, ports::Call};
use roadstead_devchain::{Config, Devchain, serve};
use roadstead_devnet::ChainChoice;
use roadstead_net::JobServer;
use roadstead_provider::{Daemon, DaemonError, Ports, ProviderEvent};
use roadstead_publisher::{OpenRequest, Prepared, open};
use roadstead_types::{JobId, Terms};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::market::{EVERY_CHAIN, PATIENCE, TestMarket, amount, offer, profile, tokens};

/// A daemon that runs, and what it says.
pub(crate) struct Running {
    events: mpsc::Receiver<ProviderEvent>,
    pub(crate) task: JoinHandle<Result<(), DaemonError>>,
    stop: CancellationToken,
}

impl Running {
    pub(crate) async fn start(market: &TestMarket) -> Self {
        Self::start_with(market, offer()).await
    }

    pub(crate) async fn start_with(market: &TestMarket, offer: Offer) -> Self {
        Self::start_on(market, market.provider().await, offer)
    }

    pub(crate) fn start_on(market: &TestMarket, ports: Ports, offer: Offer) -> Self {
        let (said, events) = mpsc::channel(10_000);
        let stop = CancellationToken::new();
        let report = move |event| said.try_send(event).unwrap();
        let daemon =
            Daemon::new(ports, &market.market(), market.provider_keys(), offer, &profile(), report);
        let task = tokio::spawn(daemon.run(stop.clone()));
        Self { events, task, stop }
    }

    /// A daemon that its publishers reach where the registry says.
    pub(crate) async fn listening(market: &TestMarket, offer: Offer) -> (Self, JobServer) {
        let (said, events) = mpsc::channel(10_000);
        let stop = CancellationToken::new();
        let report = move |event| said.try_send(event).unwrap();
        let (ports, keys) = (market.provider().await, market.provider_keys());
        let daemon = Daemon::new(ports, &market.market(), keys, offer, &profile(), report);
        let server = daemon.listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).await.unwrap();
        *market.address.lock().unwrap() = server.addresses()[0].clone();
        market.register().await;
        let task = tokio::spawn(daemon.run(stop.clone()));
        (Self { events, task, stop }, server)
    }

    /// Ends the daemon as a crash does, but for steps that are being written down.
    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(crate) async fn until(&mut self, what: impl Fn(&ProviderEvent) -> bool) -> ProviderEvent {
        let mut heard = Vec::new();
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the daemon runs");
                if what(&event) {
                    return event;
                }
                heard.push(event);
            }
        };
        let found = timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("in vain; it said {heard:#?}"))
    }

    /// Ends the daemon; returns what it said and nobody heard.
    pub(crate) async fn stop(mut self) -> Vec<ProviderEvent> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        let mut rest = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            rest.push(event);
        }
        rest
    }
}

/// Prepares and opens a job.
pub(crate) async fn open_job(market: &TestMarket, salt: u64) -> (JobId, Terms) {
    let Prepared { plan, .. } = market.prepare(market.deal(salt)).await;
    let job = open(&market.publisher().await, OpenRequest::from(&plan)).await.unwrap().job;
    (job, plan.terms)
}

#[tokio::test]
async fn many_jobs_at_once_are_all_served() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.provider().await;
        for salt in 0..20 {
            open_job(&market, salt).await;
        }
        let mut daemon = Running::start(&market).await;
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
    let mut daemon = Running::start(&market).await;

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
    let mut daemon = Running::start(&market).await;
    let (job, _) = open_job(&market, 1).await;
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
        let (_, terms) = open_job(&market, 1).await;
        ports.writer.submit(Call::ClaimStartFee(terms.clone())).await.unwrap();
        let again = ports.writer.submit(Call::ClaimStartFee(terms)).await;
        assert!(again.is_err(), "{chain}");
        let mut daemon = Running::start(&market).await;
        daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
        for event in daemon.stop().await {
            assert!(!matches!(event, ProviderEvent::CallFailed { .. }), "{chain}: {event:?}");
        }
    }
}
