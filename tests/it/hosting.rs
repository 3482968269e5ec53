//! What the provider's daemon does with a job on its own machine: deploy it, keep it, give it back. Real chains, real
//! images and bundles; the engine and the stores are fakes that outlive the daemon.

use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, U256, hex},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use roadstead_core::{
    Refusal,
    ports::{BlockSource, Call, ContentStore, Engine, InstanceSpec, Phase},
};
use roadstead_crypto::{EncryptionSecret, seal_bundle, sha256};
use roadstead_devnet::ChainChoice;
use roadstead_provider::ProviderEvent;
use roadstead_publisher::{Closed, OpenRequest, Prepared, close, open};
use roadstead_types::{
    BundleBinding, InstanceId, JobId, JobStatus, Terms,
    content::{RAW, content_id},
};

use crate::{
    daemon::{Running, open_job},
    market::{EVERY_CHAIN, PATIENCE, SOURCE, TestMarket, amount, offer, tokens},
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
        let closed = close(&publisher, &terms, market.market().from_block, PATIENCE).await;
        let (paid, refund) = (amount(50_000), amount(950_000));
        assert_eq!(closed.unwrap(), Closed::Closed { job, paid, refund }, "{chain}");
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
    let Prepared { terms, source, bundle } = market.prepare(market.deal(1)).await;
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
    close(&publisher, &terms, market.market().from_block, PATIENCE).await.unwrap();
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
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    let ports = market.provider().await;
    assert_eq!(ports.reader.job(job).await.unwrap().status(), JobStatus::Open);
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
    let Prepared { terms, .. } = market.prepare(market.deal(1)).await;
    // The thief has the block and its digest, and its own name stands in the terms.
    let thief = market.local.provider.clone();
    let ports =
        roadstead_publisher::wire(market.market(), thief.clone(), market.store.clone()).await;
    let ports = ports.unwrap();
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
    let Prepared { terms, .. } = market.prepare(market.deal(1)).await;
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
    let Prepared { terms, source, bundle } = market.prepare(market.deal(1)).await;
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
    let Prepared { terms, source, bundle } = market.prepare(market.deal(1)).await;
    for block in market.store.blocks().into_iter().filter(|block| *block != bundle) {
        market.store.tamper(&block, |bytes| bytes[0] ^= 1);
    }
    let job = open_with(&market, terms.clone(), &source).await;
    daemon.until(|event| matches!(event, ProviderEvent::DeployFailed { .. })).await;
    assert_eq!(market.engine.starts(&InstanceId::first(job)), 0);
    assert_eq!(market.engine.images().await.unwrap(), []);

    // The publisher gives up; what had been begun goes.
    let publisher = market.publisher().await;
    close(&publisher, &terms, market.market().from_block, PATIENCE).await.unwrap();
    assert_empty(&market).await;
    daemon.stop().await;
}

#[tokio::test]
async fn too_low_a_price_is_refused_and_nothing_is_fetched() {
    let market = embedded().await;
    let mut daemon = Running::start(&market).await;
    let mut deal = market.deal(1);
    deal.prices.cpu -= 1;
    let Prepared { terms, source, .. } = market.prepare(deal).await;
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
    let Prepared { terms, source, .. } = market.prepare(market.deal(1)).await;
    open_with(&market, terms.clone(), &source).await;
    let mut daemon = Running::start(&market).await;
    daemon.until(|event| matches!(event, ProviderEvent::Admitted { .. })).await;
    let publisher = market.publisher().await;
    close(&publisher, &terms, market.market().from_block, PATIENCE).await.unwrap();
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
