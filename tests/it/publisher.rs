//! The publisher's commands on real chains.

use std::time::Duration;

use alloy::primitives::{Bytes, U256};
use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::ports::{Call, ChainError, ChainReader, RegistryEntry, WriteError};
use roadstead_provider::{Keys, RegistryChange, register};
use roadstead_publisher::{
    CloseError, Closed, Ending, OpenError, OpenRequest, close, open, withdraw,
};
use roadstead_types::{JobStatus, Market, PROFILE_VERSION, Profile, Resources, Seconds};
use tokio::time::timeout;

use crate::market::{EVERY_CHAIN, PATIENCE, TestMarket, amount, tokens};

#[tokio::test]
async fn a_job_is_opened_once_however_often_it_is_asked_for() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let request = OpenRequest {
            terms: market.terms(1),
            deposit: amount(1_000_000),
            source: Bytes::from_static(b"https://example.org/bundle"),
        };
        let before = tokens(&*ports.reader, request.terms.publisher).await;
        let first = open(&ports, request.clone()).await.unwrap();
        let again = open(&ports, request.clone()).await.unwrap();
        assert_eq!((first.job, again.job), (again.job, ports.reader.job_id(&request.terms)));
        assert!(first.transaction.is_some() && again.transaction.is_none(), "{chain}");
        let after = tokens(&*ports.reader, request.terms.publisher).await;
        assert_eq!(before - after, U256::from(1_000_000));
    }
}

#[tokio::test]
async fn money_comes_back_when_the_provider_declines() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let (publisher, provider) = (market.publisher().await, market.provider().await);
        let terms = market.terms(1);
        let before = tokens(&*publisher.reader, terms.publisher).await;
        let request =
            OpenRequest { terms: terms.clone(), deposit: amount(700), source: Bytes::new() };
        // The start fee is above the deposit, which the contract refuses.
        assert!(matches!(
            open(&publisher, request.clone()).await,
            Err(OpenError::Write(WriteError::Reverted { call: "open", .. }))
        ));
        let request = OpenRequest { deposit: amount(70_000), ..request };
        let job = open(&publisher, request.clone()).await.unwrap().job;
        provider.writer.submit(Call::ClaimStartFee(terms.clone())).await.unwrap();
        provider.writer.submit(Call::Decline(terms.clone())).await.unwrap();

        let closed = market.close(&publisher, &terms).await;
        let (paid, refund) = (amount(50_000), amount(20_000));
        let how = Ending::Order;
        assert_eq!(closed, Closed::Closed { job, paid, refund, how }, "{chain}");
        let withdrawn = withdraw(&publisher).await.unwrap();
        assert_eq!(withdrawn.amount, amount(20_000));
        assert_eq!(withdraw(&publisher).await.unwrap().transaction, None);
        let after = tokens(&*publisher.reader, terms.publisher).await;
        assert_eq!(before - after, U256::from(50_000));
        assert!(matches!(open(&publisher, request).await, Err(OpenError::Over { .. })));
    }
}

#[tokio::test]
async fn without_the_provider_the_money_comes_back_after_the_notice() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let terms = market.terms(1);
        let from_block = market.market().from_block;
        let request =
            OpenRequest { terms: terms.clone(), deposit: amount(70_000), source: Bytes::new() };
        let job = open(&ports, request).await.unwrap().job;

        let patience = Duration::from_millis(300);
        let Closed::NoticeRuns { close_at, .. } =
            close(&ports, &terms, from_block, patience, |_| {}).await.unwrap()
        else {
            panic!("nobody could have closed it");
        };
        let noticed = ports.reader.head().await.unwrap().timestamp;
        assert_eq!(close_at.0 - noticed.0, 86_400, "{chain}");

        let early = ports.writer.submit(Call::Finalize(terms.clone())).await;
        assert!(matches!(early, Err(WriteError::Reverted { call: "finalize", .. })));
        market.pass(86_500).await;
        ports.writer.submit(Call::Finalize(terms.clone())).await.unwrap();
        let closed = market.close(&ports, &terms).await;
        let refund = amount(70_000);
        assert_eq!(
            closed,
            Closed::Closed { job, paid: amount(0), refund, how: Ending::Notice },
            "{chain}"
        );
    }
}

#[tokio::test]
async fn a_close_that_is_not_confirmed_yet_is_waited_for() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let careful = Market { confirmations: 5, ..market.market() };
        let ports = market.publisher_of(careful, market.local.publisher.clone()).await;
        let terms = market.terms(1);
        let request =
            OpenRequest { terms: terms.clone(), deposit: amount(70_000), source: Bytes::new() };
        let job = open(&ports, request).await.unwrap().job;
        market.provider().await.writer.submit(Call::Decline(terms.clone())).await.unwrap();

        let from_block = market.market().from_block;
        let closing = tokio::spawn(async move {
            close(&ports, &terms, from_block, Duration::from_millis(1), |_| {}).await
        });
        let confirmed = async {
            while !closing.is_finished() {
                market.pass(1).await;
            }
        };
        timeout(PATIENCE, confirmed).await.unwrap();
        let closed = closing.await.unwrap().unwrap();
        let refund = amount(70_000);
        assert_eq!(
            closed,
            Closed::Closed { job, paid: amount(0), refund, how: Ending::Order },
            "{chain}"
        );
    }
}

#[tokio::test]
async fn jobs_opened_at_once_do_not_take_each_others_allowance() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let mut opening = tokio::task::JoinSet::new();
        for salt in 0..5 {
            let deposit = amount(60_000 + u128::from(salt));
            let request = OpenRequest { terms: market.terms(salt), deposit, source: Bytes::new() };
            let ports = ports.clone();
            opening.spawn(async move { open(&ports, request).await });
        }
        for opened in opening.join_all().await {
            assert!(opened.unwrap().transaction.is_some(), "{chain}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_is_named() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.publisher().await;
        let request = |terms, deposit| OpenRequest { terms, deposit, source: Bytes::new() };

        let refused = open(&ports, request(market.terms(1), amount(1 << 90))).await;
        assert!(matches!(refused, Err(OpenError::NotEnoughTokens { .. })), "{refused:?}");

        let poor = Wallet::random();
        let poor_ports = market.publisher_of(market.market(), poor.clone()).await;
        let refused = open(&poor_ports, request(market.terms(1), amount(1))).await;
        assert!(matches!(refused, Err(OpenError::NotThePublisher { .. })), "{refused:?}");

        let refused = poor_ports.writer.submit(Call::Approve { amount: amount(1) }).await;
        assert!(
            matches!(&refused, Err(WriteError::NoGas { account, .. }) if *account == poor.address()),
            "{refused:?}"
        );

        let mut terms = market.terms(1);
        terms.notice = Seconds(60);
        let refused = open(&ports, request(terms, amount(60_000))).await;
        let Err(OpenError::Write(WriteError::Reverted { source, .. })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(source.to_string(), "a notice of 60 s is not between one hour and 30 days");

        let absent = close(&ports, &market.terms(9), 1, PATIENCE, |_| {}).await;
        assert!(matches!(absent, Err(CloseError::Absent { .. })), "{absent:?}");
    }
}

#[tokio::test]
async fn another_chain_behind_the_same_address_is_refused() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let yesterday = Market { genesis: Default::default(), ..market.market() };
        let refused = MarketClient::connect(yesterday).await;
        assert!(
            matches!(refused, Err(ChainError::AnotherChain { what: "genesis hash", .. })),
            "{chain}"
        );
        let elsewhere = Market { chain_id: 1, ..market.market() };
        let refused = MarketClient::connect(elsewhere).await;
        assert!(matches!(refused, Err(ChainError::AnotherChain { what: "id", .. })), "{chain}");

        // An address that does not answer is passed over.
        let mut rpc = market.market().rpc;
        rpc.insert(0, "http://127.0.0.1:1".into());
        let client = MarketClient::connect(Market { rpc, ..market.market() }).await.unwrap();
        let job = client.job(client.job_id(&market.terms(1))).await.unwrap();
        assert_eq!(job.status(), JobStatus::Absent);
    }
}

#[tokio::test]
async fn a_provider_registers_once_and_updates_what_changed() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let ports = market.provider().await;
        let home = tempfile::tempdir().unwrap();
        let folder = roadstead_journal::StateFolder::open(home.path()).unwrap();
        let keys = Keys::load_or_create(&folder).unwrap();
        let profile = Profile {
            version: PROFILE_VERSION,
            region: "here".into(),
            prices: Resources::default(),
        };
        let change = async |address: &str| {
            let registered = register(&ports, &keys, address.parse().unwrap(), &profile).await;
            registered.unwrap().change
        };
        assert_eq!(change("/ip4/127.0.0.1/tcp/1").await, RegistryChange::Registered, "{chain}");
        assert_eq!(change("/ip4/127.0.0.1/tcp/1").await, RegistryChange::Unchanged);
        assert_eq!(change("/ip4/127.0.0.1/tcp/2").await, RegistryChange::Updated);
        let account = ports.writer.account();
        let RegistryEntry::Registered(entry) = ports.reader.registration(account).await.unwrap()
        else {
            panic!("it is registered");
        };
        assert_eq!(entry.keys, [keys.encryption.public_key()]);
        let stranger = Wallet::random().address();
        let absent = ports.reader.registration(stranger).await.unwrap();
        assert_eq!(absent, RegistryEntry::Absent);
    }
}
