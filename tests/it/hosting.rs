//! What the provider's daemon does with a job on its own machine: deploy it, keep it, give it back. Real chains, real
//! images and bundles; the engine and the stores are fakes that outlive the daemon.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, U256, hex},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use roadstead_core::{
    Cursor, EventBatch, Refusal,
    ports::{
        BlockSource, Call, ChainError, ChainEvents, ContentStore, Engine, EventFilter,
        InstanceSpec, Phase,
    },
};
use roadstead_crypto::{EncryptionSecret, seal_bundle, sha256};
use roadstead_devnet::ChainChoice;
use roadstead_provider::{DeployError, ProviderEvent};
use roadstead_publisher::{Closed, Ending, OpenRequest, Prepared, open};
use roadstead_types::{
    BundleBinding, InstanceId, JobId, JobPlan, JobStatus, Market, Terms,
    content::{RAW, content_id},
};

use crate::{
    daemon::{Running, open_job},
    market::{EVERY_CHAIN, SOURCE, TestMarket, amount, offer, tokens},
};

async fn embedded() -> TestMarket {
    TestMarket::start(&ChainChoice::Embedded).await
}

/// Nothing of any job is at the provider.
async fn assert_empty(market: &TestMarket) {
    assert_eq!(market.engine.instances().await.unwrap(), []);
    assert_eq!(market.engine.images().await.unwrap(), []);
    assert_eq!(market.cache.pins().await.unwrap(), []);
}

/// Opens a job with these terms, without anything that would have been prepared for it.
async fn open_with(market: &TestMarket, terms: Terms, source: &str) -> JobId {
    let source = source.as_bytes().to_vec().into();
    let request = OpenRequest { terms, deposit: amount(1_000_000), source };
    open(&market.publisher().await, request).await.unwrap().job
}

async fn refusal(daemon: &mut Running) -> Refusal {
    let refused = daemon.until(|event| matches!(event, ProviderEvent::Refused { .. })).await;
    let ProviderEvent::Refused { refusal, .. } = refused else { unreachable!() };
    refusal
}

#[tokio::test]
async fn a_job_is_deployed_by_its_event_alone_and_removed_with_its_close() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let mut daemon = Running::start(&market).await;
        let (job, terms) = open_job(&market, 1).await;
        let running = daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
        let ProviderEvent::Running { urls, .. } = running else { unreachable!() };
        assert_eq!(urls.into_iter().collect::<Vec<_>>(), [(8080, "http://127.0.0.1:8080".into())]);
        let spec = market.engine.spec(&InstanceId::first(job)).unwrap();
        assert_eq!((spec.limits.cpu, spec.containers[0].0.tenant), (100, terms.publisher));
        daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;

        let publisher = market.publisher().await;
        let closed = market.close(&publisher, &terms).await;
        let (paid, refund) = (amount(50_000), amount(950_000));
        assert_eq!(closed, Closed::Closed { job, paid, refund, how: Ending::Notice }, "{chain}");
        assert_empty(&market).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_new_daemon_adopts_what_the_last_one_started() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let mut first = Running::start(&market).await;
        let (job, _) = open_job(&market, 1).await;
        first.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
        first.task.abort();

        // The publisher is away: what the provider has is all there is.
        for block in market.store.blocks() {
            market.store.lose(&block);
        }
        let mut second = Running::start(&market).await;
        second.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
        second.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
        assert_eq!(market.engine.starts(&InstanceId::first(job)), 1, "{chain}");
        let ports = market.provider().await;
        let earned = tokens(&*ports.reader, ports.writer.account()).await;
        assert_eq!(earned, U256::from(50_000), "{chain}: paid once");
        second.stop().await;
    }
}

#[tokio::test]
async fn what_runs_is_adopted_even_if_it_would_not_be_taken_any_more_nor_fetched() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let Prepared { plan: JobPlan { terms, source, .. }, bundle } =
        market.prepare(market.deal(1)).await;
    let job = open_with(&market, terms.clone(), &source).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    daemon.stop().await;

    // Prices rose, the machine is full, the publisher is away and the cache lost the image.
    for block in market.store.blocks() {
        market.store.lose(&block);
    }
    for block in market.cache.blocks().into_iter().filter(|block| *block != bundle) {
        market.cache.lose(&block);
    }
    let mut dear = offer();
    dear.prices.cpu *= 2;
    dear.capacity.memory = 0;
    let mut daemon = Running::start_with(&market, dear).await;
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 1);
    daemon.stop().await;

    // Without its bundle it cannot be taken over, and still nobody touches it.
    market.cache.lose(&bundle);
    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    let observed = market.engine.observe(&InstanceId::first(job)).await.unwrap().unwrap();
    assert_eq!(observed.phase, Phase::Running);
    let publisher = market.publisher().await;
    market.close(&publisher, &terms).await;
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_ended_and_cannot_be_started_again_is_not_refused() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let (job, _) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    market.engine.refuse("not now");
    market.engine.exit(&InstanceId::first(job), 1);
    // The first attempt makes room for itself; the second finds nothing that would show that it ever ran.
    for _ in 0..2 {
        daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    }
    let ports = market.provider().await;
    assert_eq!(ports.reader.job(job).await.unwrap().status(), JobStatus::Open);
    daemon.stop().await;

    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    assert_eq!(ports.reader.job(job).await.unwrap().status(), JobStatus::Open);
    daemon.stop().await;
}

/// Events that are not to be had before somebody says so.
struct Away {
    events: Arc<dyn ChainEvents>,
    is_back: AtomicBool,
}

#[async_trait::async_trait]
impl ChainEvents for Away {
    async fn events_after(
        &self,
        cursor: &Cursor,
        filter: &EventFilter,
    ) -> Result<EventBatch, ChainError> {
        if self.is_back.load(Ordering::SeqCst) {
            return self.events.events_after(cursor, filter).await;
        }
        Err(ChainError::Rpc { operation: "eth_getLogs", source: "it is away".into() })
    }
}

#[tokio::test]
async fn an_instance_outlives_a_chain_that_is_away_when_the_daemon_starts() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let (job, _) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    daemon.stop().await;

    let ports = market.provider().await;
    let away = Arc::new(Away { events: ports.events.clone(), is_back: AtomicBool::new(false) });
    let ports = roadstead_provider::Ports { events: away.clone(), ..ports };
    let mut daemon = Running::start_on(&market, ports, offer());
    daemon.until(|event| matches!(event, ProviderEvent::ChainLost { .. })).await;
    // Several rounds without a chain: whatever a daemon would do in them, it did.
    tokio::time::sleep(Duration::from_secs(1)).await;
    away.is_back.store(true, Ordering::SeqCst);
    let removed = |event: &ProviderEvent| matches!(event, ProviderEvent::Removed { .. });
    let running = |event: &ProviderEvent| matches!(event, ProviderEvent::Running { .. });
    let next = daemon.until(|event| running(event) || removed(event)).await;
    assert!(running(&next), "{next:?}");
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_deployment_that_is_not_wanted_any_more_is_cut_off() {
    let market = embedded().await;
    market.engine.hold();
    let mut daemon = Running::start(&market).await;
    let (job, terms) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::Starting { .. })).await;
    let publisher = market.publisher().await;
    let closed = market.close(&publisher, &terms).await;
    let (paid, refund) = (amount(0), amount(1_000_000));
    assert_eq!(closed, Closed::Closed { job, paid, refund, how: Ending::Notice });
    assert_empty(&market).await;
    assert_eq!(market.engine.removed_images().len(), 1, "also what never became whole");
    daemon.stop().await;
    market.engine.release();
}

#[tokio::test]
async fn a_call_is_not_repeated_before_its_event_could_be_read() {
    let market = embedded().await;
    let careful = Market { confirmations: 3, ..market.market() };
    let ports = market.provider_of(careful).await;
    let mut daemon = Running::start_on(&market, ports, offer());
    open_job(&market, 1).await;
    let failed = |event: &ProviderEvent| matches!(event, ProviderEvent::CallFailed { .. });
    let paid = |event: &ProviderEvent| matches!(event, ProviderEvent::StartFeePaid { .. });
    let passing = async {
        loop {
            market.pass(1).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let first = tokio::select! {
        first = daemon.until(|event| failed(event) || paid(event)) => first,
        () = passing => unreachable!("it never ends"),
    };
    assert!(paid(&first), "{first:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_full_serves_the_next_job_when_one_ends() {
    let market = embedded().await;
    let mut narrow = offer();
    narrow.capacity.cpu = 150;
    let mut daemon = Running::start_with(&market, narrow).await;
    let (first, terms) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    daemon.stop().await;

    // What runs has its place even if the newcomers were first.
    for salt in 2..6 {
        open_job(&market, salt).await;
    }
    let mut daemon = Running::start_with(&market, narrow).await;
    let full = |event: &ProviderEvent| {
        let ProviderEvent::DeployFailed { error: DeployError::Refused(refusal), .. } = event else {
            return false;
        };
        matches!(refusal, Refusal::NoRoom { .. })
    };
    for _ in 0..4 {
        daemon.until(full).await;
    }
    assert_eq!(market.engine.instances().await.unwrap(), [InstanceId::first(first)]);
    let publisher = market.publisher().await;
    market.close(&publisher, &terms).await;
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    let running = market.engine.instances().await.unwrap();
    assert!(running.len() == 1 && running[0].job != first, "{running:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_goes_on_without_daemon_and_ends_with_a_job_closed_meanwhile() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let (job, terms) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::StartFeePaid { .. })).await;
    daemon.stop().await;
    let observed = market.engine.observe(&InstanceId::first(job)).await.unwrap().unwrap();
    assert_eq!(observed.phase, Phase::Running);

    market.provider().await.writer.submit(Call::Decline(terms)).await.unwrap();
    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::Removed { .. })).await;
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_instance_without_a_job_is_removed_once_the_chain_was_read() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let (job, _) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    daemon.stop().await;
    let spec = market.engine.spec(&InstanceId::first(job)).unwrap();
    let stray = InstanceId::first(JobId(B256::repeat_byte(9)));
    let stray = InstanceSpec { id: stray, ..spec };
    market.engine.apply(&stray).await.unwrap();

    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::Removed { .. })).await;
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    assert_eq!(market.engine.instances().await.unwrap(), [InstanceId::first(job)]);
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_container_that_ends_is_started_anew() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let (job, _) = open_job(&market, 1).await;
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    market.engine.exit(&InstanceId::first(job), 7);
    let exited = daemon.until(|event| matches!(event, ProviderEvent::Exited { .. })).await;
    assert!(matches!(exited, ProviderEvent::Exited { status: Some(7), .. }), "{exited:?}");
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_job_that_can_never_run_gives_all_its_money_back() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    market.engine.refuse("no such program");
    let (job, _) = open_job(&market, 1).await;
    let refused = refusal(&mut daemon).await;
    assert!(matches!(&refused, Refusal::BadImage { reason } if reason.contains("no such program")));
    let closed = daemon.until(|event| matches!(event, ProviderEvent::Closed { .. })).await;
    assert!(
        matches!(closed, ProviderEvent::Closed { job: id, paid } if id == job && paid.is_zero()),
        "{closed:?}"
    );
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_bundle_for_somebody_else_is_refused() {
    let market = embedded().await;
    market.register().await;
    let mut daemon = Running::start(&market).await;
    let (stranger, recovery) = (EncryptionSecret::generate(), EncryptionSecret::generate());
    let terms = market.terms(1);
    let binding = BundleBinding {
        chain: market.market().chain_id,
        contract: market.market().contracts.payment,
        publisher: terms.publisher,
        provider: terms.provider,
    };
    let keys = (stranger.public_key(), recovery.public_key());
    let block = seal_bundle(b"{}", &binding, &keys.0, &keys.1).unwrap();
    let digest = sha256(&block);
    market.store.put(&content_id(RAW, digest), block.into()).await.unwrap();
    open_with(&market, Terms { bundle: digest, ..terms }, SOURCE).await;
    let refused = refusal(&mut daemon).await;
    assert!(
        matches!(&refused, Refusal::BadBundle { reason } if reason.contains("somebody else")),
        "{refused:?}"
    );
    daemon.until(|event| matches!(event, ProviderEvent::Closed { .. })).await;
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_bundle_of_another_publisher_is_refused() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let Prepared { plan: JobPlan { terms, .. }, .. } = market.prepare(market.deal(1)).await;
    // The thief has the block and its digest, and its own name stands in the terms.
    let thief = market.local.provider.clone();
    let ports = market.publisher_of(market.market(), thief.clone()).await;
    let terms = Terms { publisher: thief.address(), ..terms };
    fund(&market, thief.address()).await;
    let source = SOURCE.as_bytes().to_vec().into();
    let request = OpenRequest { terms, deposit: amount(1_000_000), source };
    open(&ports, request).await.unwrap();
    let refused = refusal(&mut daemon).await;
    assert!(matches!(refused, Refusal::BadBundle { .. }), "{refused:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_source_that_must_not_be_asked_is_a_reason_to_refuse() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let Prepared { plan: JobPlan { terms, .. }, .. } = market.prepare(market.deal(1)).await;
    open_with(&market, terms, "http://169.254.169.254/latest/meta-data").await;
    let refused = refusal(&mut daemon).await;
    assert!(matches!(refused, Refusal::BadBundle { .. }), "{refused:?}");
    daemon.until(|event| matches!(event, ProviderEvent::Closed { .. })).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_cannot_be_fetched_is_asked_for_again() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let Prepared { plan: JobPlan { terms, source, .. }, bundle } =
        market.prepare(market.deal(1)).await;
    let block = market.store.get(&bundle).await.unwrap();
    market.store.lose(&bundle);
    let job = open_with(&market, terms, &source).await;
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    let ports = market.provider().await;
    assert_eq!(ports.reader.job(job).await.unwrap().status(), JobStatus::Open);

    market.store.put(&bundle, block.unwrap()).await.unwrap();
    daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_tampered_block_never_reaches_the_engine() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let Prepared { plan: JobPlan { terms, source, .. }, bundle } =
        market.prepare(market.deal(1)).await;
    for block in market.store.blocks().into_iter().filter(|block| *block != bundle) {
        market.store.tamper(&block, |bytes| bytes[0] ^= 1);
    }
    let job = open_with(&market, terms.clone(), &source).await;
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 0);
    assert_eq!(market.engine.images().await.unwrap(), []);

    // The publisher gives up; what had been begun goes.
    let publisher = market.publisher().await;
    market.close(&publisher, &terms).await;
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn too_low_a_price_is_refused_and_nothing_is_fetched() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let mut deal = market.deal(1);
    deal.prices.cpu -= 1;
    let Prepared { plan: JobPlan { terms, source, .. }, .. } = market.prepare(deal).await;
    open_with(&market, terms, &source).await;
    let refused = refusal(&mut daemon).await;
    assert!(matches!(refused, Refusal::Price { .. }), "{refused:?}");
    daemon.until(|event| matches!(event, ProviderEvent::Closed { .. })).await;
    let rest = daemon.stop().await;
    let fetched = |event: &ProviderEvent| matches!(event, ProviderEvent::Fetching { .. });
    assert!(!rest.iter().any(fetched), "{rest:?}");
}

#[tokio::test]
async fn a_job_that_is_closed_while_it_is_deployed_leaves_nothing() {
    let market = embedded().await;
    let Prepared { plan: JobPlan { terms, source, .. }, .. } = market.prepare(market.deal(1)).await;
    open_with(&market, terms.clone(), &source).await;
    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::Admitted { .. })).await;
    let publisher = market.publisher().await;
    market.close(&publisher, &terms).await;
    assert_empty(&market).await;
    daemon.stop().await;
}

/// Gives an account tokens of the publisher's.
async fn fund(market: &TestMarket, account: Address) {
    let mut data = hex!("a9059cbb").to_vec();
    data.extend_from_slice(account.into_word().as_slice());
    data.extend_from_slice(&U256::from(5_000_000).to_be_bytes::<32>());
    let transfer =
        TransactionRequest::default().with_to(market.market().token.address).with_input(data);
    let sent = market.foreign(&market.local.publisher).send_transaction(transfer).await.unwrap();
    assert!(sent.get_receipt().await.unwrap().status());
}
