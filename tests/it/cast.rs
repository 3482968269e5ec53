//! A job that is opened by nothing but Foundry's `cast`: by a key of its own, and by a wallet that is a contract.

use std::{process::Stdio, sync::Arc};

use alloy::{
    primitives::{Address, U256, hex},
    sol_types::SolCall,
};
use async_trait::async_trait;
use roadstead_abi::{Payment, TestToken};
use roadstead_core::ports::{Call, ChainWriter, Mined, Resumed, WriteError};
use roadstead_devnet::{ChainChoice, service};
use roadstead_provider::ProviderEvent;
use roadstead_publisher::{CastKey, Ports, cast_lines, provider_key, publish, seal};
use roadstead_types::{JobId, JobPlan, JobStatus};
use tokio::{process::Command, time::timeout};

use crate::{
    daemon::Running,
    market::{EVERY_CHAIN, PATIENCE, TestMarket, amount, tokens},
    scripts::create,
};

/// Pastes lines into a shell that stops at the first failure. Its output, and its errors where it fails.
async fn paste(lines: &[String], variables: &[(&str, &str)]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-e", "-c", &lines.join("\n")])
        // Where no keys and no settings of the user are.
        .env("HOME", home.path())
        .env_remove("PUBLISHER_KEY")
        .envs(variables.iter().copied())
        .current_dir(home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.expect("cast ends in time").unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("cast: not found"), "script/setup installs cast");
    if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err(error) }
}

/// The daemon deploys the job and takes its start fee.
async fn served(market: &TestMarket, daemon: &mut Running, job: JobId) {
    let paid = |event: &ProviderEvent| matches!(event, ProviderEvent::StartFeePaid { job: paid, .. } if *paid == job);
    daemon.until(paid).await;
    let opened = market.provider().await.reader.job(job).await.unwrap();
    assert_eq!(opened.status(), JobStatus::Open);
    assert_eq!((opened.deposit, opened.paid), (amount(1_000_000), amount(50_000)));
}

#[tokio::test]
async fn a_job_is_opened_by_the_printed_lines_alone() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let mut daemon = Running::start(&market).await;
        let plan = market.prepare(market.deal(1)).await.plan;
        let lines = cast_lines(&plan, &market.market(), &CastKey::Variable).unwrap();
        assert!(lines[0].contains(TestToken::approveCall::SIGNATURE));
        assert!(lines[1].contains(Payment::openCall::SIGNATURE));

        // Another key than the publisher's opens nothing.
        let stranger = market.local.provider.to_hex();
        let error = paste(&lines, &[("PUBLISHER_KEY", &stranger)]).await.unwrap_err();
        assert!(error.contains("sender"), "{error}");

        let key = market.local.publisher.to_hex();
        assert!(!lines.iter().any(|line| line.contains(key.trim_start_matches("0x"))));
        paste(&lines, &[("PUBLISHER_KEY", &key)]).await.unwrap();
        served(&market, &mut daemon, plan.key.job).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn the_printed_lines_take_a_keystore_of_ours() {
    let market = TestMarket::start(&ChainChoice::Embedded).await;
    let mut daemon = Running::start(&market).await;
    let plan = market.prepare(market.deal(1)).await.plan;
    let name = "the publisher's".to_owned();
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".foundry/keystores");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(&name), market.local.publisher.to_keystore("a password")).unwrap();
    let password = home.path().join("password");
    std::fs::write(&password, "a password").unwrap();

    let lines = cast_lines(&plan, &market.market(), &CastKey::Account(name)).unwrap();
    let variables =
        [("HOME", home.path().to_str().unwrap()), ("ETH_PASSWORD", password.to_str().unwrap())];
    paste(&lines, &variables).await.unwrap();
    served(&market, &mut daemon, plan.key.job).await;
    daemon.stop().await;
}

/// A publisher whose transactions somebody else sends.
struct Elsewhere(Address);

#[async_trait]
impl ChainWriter for Elsewhere {
    fn account(&self) -> Address {
        self.0
    }

    async fn resume(&self) -> Result<Vec<Resumed>, WriteError> {
        Ok(Vec::new())
    }

    async fn submit(&self, call: Call) -> Result<Mined, WriteError> {
        panic!("nothing is sent here: {call:?}")
    }
}

/// Prepares a job whose publisher is this account.
async fn prepare_for(market: &TestMarket, publisher: Address) -> JobPlan {
    market.register().await;
    let ports = Ports { writer: Arc::new(Elsewhere(publisher)), ..market.publisher().await };
    let (keys, deal) = (market.publisher_keys(), market.deal(1));
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    service::pack(&image).unwrap();
    let workload = service::workload(&image);
    let sealed = seal(&ports, &keys, workload, folder.path(), |_| {}).await.unwrap();
    let key = provider_key(&ports, deal.provider).await.unwrap();
    publish(&ports, &keys, &market.market(), &sealed, &key, &deal).await.unwrap().plan
}

#[tokio::test]
async fn a_job_is_opened_by_a_wallet_that_is_a_contract() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let mut daemon = Running::start(&market).await;
        let owner = market.local.publisher.clone();
        let contract = "ContractWallet.sol:ContractWallet";
        let address = owner.address().to_string();
        let wallet = create(&market.local.market.rpc[0], &owner, contract, &[&address]).await;
        let plan = prepare_for(&market, wallet).await;
        assert_eq!(plan.terms.publisher, wallet);

        let (token, payment) = (market.market().token.address, market.market().contracts.payment);
        let deposit = U256::from(plan.deposit.units());
        let approve = TestToken::approveCall { spender: payment, value: deposit }.abi_encode();
        let open = Payment::openCall {
            terms: (&plan.terms).into(),
            deposit: plan.deposit.into(),
            source: plan.source.as_bytes().to_vec().into(),
        };
        let send = |to: Address, call: String| {
            let node = &market.local.market.rpc[0];
            format!("cast send --rpc-url {node} --private-key \"$OWNER_KEY\" {to} {call}")
        };
        let execute = |to: Address, data: &[u8]| {
            let data = hex::encode_prefixed(data);
            send(wallet, format!("'execute(address,bytes)' {to} {data}"))
        };
        let lines = [
            send(token, format!("'transfer(address,uint256)' {wallet} {deposit}")),
            execute(token, &approve),
            execute(payment, &open.abi_encode()),
        ];
        paste(&lines, &[("OWNER_KEY", &owner.to_hex())]).await.unwrap();
        served(&market, &mut daemon, plan.key.job).await;
        let reader = market.provider().await.reader;
        assert_eq!(tokens(&*reader, wallet).await, U256::ZERO, "{chain}");
        let events = daemon.stop().await;
        let refused = |event: &ProviderEvent| matches!(event, ProviderEvent::Refused { .. });
        assert!(!events.iter().any(refused), "{chain}: {events:?}");
    }
}
