//! One key, many transactions.

use std::{collections::HashSet, time::Duration};

use alloy::{
    primitives::U256,
    providers::Provider,
    rpc::{client::RpcClient, types::TransactionRequest},
};
use roadstead_chain::{Account, Connection, MarketAccount, MarketClient, Wallet};
use roadstead_core::ports::{Call, ChainWriter};
use roadstead_devchain::{Config, Devchain, Mining};
use roadstead_devnet::ChainChoice;
use serde_json::Value;
use tokio::time::timeout;

use crate::market::{EVERY_CHAIN, PATIENCE, TestMarket, amount};

async fn account(market: &TestMarket) -> MarketAccount {
    let client = MarketClient::connect(market.market()).await.unwrap();
    client.account(market.local.publisher.clone())
}

#[tokio::test]
async fn calls_made_at_once_all_take_effect() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let account = account(&market).await;
        let mut calls = tokio::task::JoinSet::new();
        for units in 1..=20 {
            let account = account.clone();
            calls.spawn(
                async move { account.submit(Call::Approve { amount: amount(units) }).await },
            );
        }
        let mined = calls.join_all().await;
        let hashes: HashSet<_> =
            mined.into_iter().map(|mined| mined.unwrap().transaction).collect();
        assert_eq!(hashes.len(), 20, "{chain}");
    }
}

#[tokio::test]
async fn a_refused_call_leaves_no_gap() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let account = account(&market).await;
        account.submit(Call::Approve { amount: amount(1) }).await.unwrap();
        account.submit(Call::Decline(market.terms(1))).await.unwrap_err();
        account.submit(Call::Approve { amount: amount(2) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_was_used_elsewhere_as_well_still_writes() {
    for chain in EVERY_CHAIN {
        let market = TestMarket::start(&chain).await;
        let account = account(&market).await;
        account.submit(Call::Approve { amount: amount(1) }).await.unwrap();
        let wallet = market.foreign(&market.local.publisher);
        let gift = TransactionRequest::default().to(account.account()).value(U256::from(1));
        wallet.send_transaction(gift).await.unwrap().get_receipt().await.unwrap();
        account.submit(Call::Approve { amount: amount(2) }).await.unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_the_node_lost_is_sent_again() {
    let market = TestMarket::start(&ChainChoice::Anvil).await;
    let client = market.foreign(&Wallet::random());
    let dev = async |method: &'static str, parameters: serde_json::Value| {
        client.raw_request::<_, serde_json::Value>(method.into(), parameters).await.unwrap()
    };
    let account = account(&market).await;
    dev("evm_setAutomine", serde_json::json!([false])).await;
    let call =
        tokio::spawn(async move { account.submit(Call::Approve { amount: amount(9) }).await });
    let pending = async || {
        let pool = dev("txpool_status", serde_json::json!([])).await;
        pool["pending"] != "0x0"
    };
    let sent = async || {
        while !pending().await {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, sent()).await.unwrap();
    dev("anvil_dropAllTransactions", serde_json::json!([])).await;
    timeout(PATIENCE, sent()).await.unwrap();
    dev("evm_mine", serde_json::json!([])).await;
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_waits_too_long_offers_more() {
    let wallet = Wallet::random();
    let chain = Devchain::new(Config {
        accounts: vec![(wallet.address(), U256::from(10u128.pow(20)))],
        mining: Mining::Manual,
        ..Config::default()
    })
    .unwrap();
    let client = RpcClient::new(chain.transport(), true);
    let connection = Connection::new(client.clone(), Duration::from_secs(1));
    let account = Account::new(connection, chain.chain_id(), wallet);
    let deploying = tokio::spawn(async move { account.deploy_test_token().await });

    let offer = async || {
        let block: Value = client.request("eth_getBlockByNumber", ("pending", true)).await.unwrap();
        let waiting = &block["transactions"][0]["maxFeePerGas"];
        Some((waiting.as_str()?.parse::<U256>().unwrap(), block["transactions"].clone()))
    };
    let raised = async {
        let mut first = None;
        loop {
            match (&first, offer().await) {
                (Some(first), Some((now, waiting))) if now > *first => {
                    assert_eq!(waiting.as_array().unwrap().len(), 1, "in place of the first");
                    break;
                }
                (None, Some((now, _))) => first = Some(now),
                _ => {}
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(PATIENCE, raised).await.unwrap();
    chain.mine();
    deploying.await.unwrap().unwrap();
}
