//! When blocks come, what goes into them, and what time it is there.

use std::sync::Arc;
use std::time::Duration;

use alloy::network::{Ethereum, TransactionBuilder};
use alloy::primitives::{B256, U256};
use alloy::providers::{DynProvider, PendingTransactionBuilder, Provider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use roadstead_devchain::{Config, ConfigError, Devchain, ManualClock, Mining};
use serde_json::{Value, json};

use crate::fixture::{
    ETHER, GWEI, POOR, START, alice, bob, chain, client, config, deploy, provider,
};

fn transfer(nonce: u64, fee: u128) -> TransactionRequest {
    TransactionRequest::default()
        .with_to(POOR)
        .with_value(U256::from(1))
        .with_nonce(nonce)
        .with_gas_limit(21_000)
        .with_max_fee_per_gas(fee)
        .with_max_priority_fee_per_gas(fee)
}

/// A transaction that the chain took.
#[derive(Debug)]
struct Sent(PendingTransactionBuilder<Ethereum>);

impl Sent {
    fn hash(&self) -> B256 {
        *self.0.tx_hash()
    }

    async fn receipt(self) -> TransactionReceipt {
        self.0.get_receipt().await.unwrap()
    }
}

async fn send(provider: &DynProvider, request: TransactionRequest) -> Result<Sent, String> {
    let sent = provider.send_transaction(request).await;
    sent.map(Sent).map_err(|error| error.as_error_resp().unwrap().message.clone().into_owned())
}

async fn included(provider: &DynProvider, number: u64) -> Vec<u64> {
    let block = provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
    block.transactions.txns().map(alloy::consensus::Transaction::nonce).collect()
}

#[tokio::test]
async fn transactions_wait_for_those_before_them() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    let alice = alice().address();
    let late = send(&provider, transfer(2, 2 * GWEI)).await.unwrap();
    send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    assert_eq!(provider.get_transaction_count(alice).pending().await.unwrap(), 1);
    let waiting = provider.get_transaction_by_hash(late.hash()).await.unwrap().unwrap();
    assert_eq!((waiting.block_hash, waiting.block_number), (None, None));
    assert_eq!(provider.get_transaction_receipt(late.hash()).await.unwrap(), None);

    assert_eq!(chain.mine(), 1);
    assert_eq!(included(&provider, 1).await, [0]);
    send(&provider, transfer(1, 2 * GWEI)).await.unwrap();
    assert_eq!(provider.get_transaction_count(alice).pending().await.unwrap(), 3);
    assert_eq!(provider.get_transaction_count(alice).await.unwrap(), 1);
    let pending = provider.get_block(alloy::eips::BlockId::pending()).await.unwrap().unwrap();
    assert_eq!((pending.header.number, pending.transactions.len()), (2, 2));
    assert_eq!(chain.block_number(), 1, "looking at the pending block mines nothing");

    assert_eq!(chain.mine(), 2);
    assert_eq!(included(&provider, 2).await, [1, 2]);
    assert!(late.receipt().await.status());
}

#[tokio::test]
async fn a_gap_closes_with_automine_too() {
    let chain = chain(Mining::Automine);
    let provider = provider(client(&chain));
    for nonce in [2, 1] {
        send(&provider, transfer(nonce, 2 * GWEI)).await.unwrap();
        assert_eq!(chain.block_number(), 0);
    }
    send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    for (number, nonce) in [(1, 0), (2, 1), (3, 2)] {
        assert_eq!(included(&provider, number).await, [nonce]);
    }
}

#[tokio::test]
async fn a_better_paid_transaction_takes_the_place() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    let cheap = send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    let error = send(&provider, transfer(0, 2 * GWEI)).await.unwrap_err();
    assert_eq!(error, "already known");
    let error = send(&provider, transfer(0, 2 * GWEI + 1)).await.unwrap_err();
    assert_eq!(error, "replacement transaction underpriced");
    let better = send(&provider, transfer(0, 3 * GWEI)).await.unwrap();
    assert_eq!(provider.get_transaction_by_hash(cheap.hash()).await.unwrap(), None);
    chain.mine();
    assert!(better.receipt().await.status());
    let error = send(&provider, transfer(0, 4 * GWEI)).await.unwrap_err();
    assert_eq!(error, "nonce too low: next nonce 1, tx nonce 0");
}

#[tokio::test]
async fn what_cannot_be_paid_is_refused() {
    let provider = provider(client(&chain(Mining::Automine)));
    let rich = transfer(0, 2 * GWEI).with_value(U256::from(10_000) * U256::from(ETHER));
    let error = send(&provider, rich).await.unwrap_err();
    assert!(error.starts_with("insufficient funds for gas * price + value"), "{error}");
    let error = send(&provider, transfer(0, 1)).await.unwrap_err();
    assert_eq!(error, "max fee per gas less than block base fee");
    let error = send(&provider, transfer(0, 2 * GWEI).with_gas_limit(20_999)).await.unwrap_err();
    assert_eq!(error, "intrinsic gas too low: gas 20999, minimum needed 21000");
    let error = send(&provider, transfer(0, GWEI).with_gas_limit((1 << 24) + 1)).await.unwrap_err();
    assert_eq!(error, "transaction gas limit too high (cap: 16777216, tx: 16777217)");
    let error = send(&provider, transfer(0, GWEI).with_gas_limit(30_000_001)).await.unwrap_err();
    assert_eq!(error, "exceeds block gas limit");
}

#[tokio::test]
async fn what_waits_already_has_to_be_paid_too() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    chain.set_balance(alice().address(), U256::from(ETHER));
    let worth = |nonce, fee, tenths: u128| {
        transfer(nonce, fee).with_value(U256::from(tenths * (ETHER / 10)))
    };
    let first = send(&provider, worth(0, 2 * GWEI, 9)).await.unwrap();
    let error = send(&provider, worth(1, 2 * GWEI, 9)).await.unwrap_err();
    let start = "insufficient funds for gas * price + value: balance 1000000000000000000, queued";
    assert!(error.starts_with(start), "{error}");
    // What is replaced need not be paid, what waits behind it does.
    let cheaper = send(&provider, worth(0, 3 * GWEI, 5)).await.unwrap();
    let second = send(&provider, worth(1, 2 * GWEI, 4)).await.unwrap();
    send(&provider, worth(0, 4 * GWEI, 9)).await.unwrap_err();
    chain.mine();
    assert_eq!(provider.get_transaction_by_hash(first.hash()).await.unwrap(), None);
    for sent in [cheaper, second] {
        assert!(sent.receipt().await.status());
    }
}

#[tokio::test]
async fn a_waiting_transaction_is_already_known_whatever_became_of_its_sender() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    chain.set_balance(alice().address(), U256::ZERO);
    assert_eq!(send(&provider, transfer(0, 2 * GWEI)).await.unwrap_err(), "already known");
}

#[tokio::test]
async fn a_low_fee_waits_until_the_base_fee_has_fallen() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    send(&provider, transfer(0, GWEI / 2)).await.unwrap();
    let mined = std::iter::repeat_with(|| chain.mine()).take(20);
    let mut found = Vec::new();
    for number in mined.collect::<Vec<_>>() {
        if !included(&provider, number).await.is_empty() {
            found.push(number);
        }
    }
    // 0.875^6 is the first power of the greatest fall that is below a half.
    assert_eq!(found, [7]);
}

#[tokio::test]
async fn a_block_takes_what_fits() {
    let chain = chain(Mining::Manual);
    let provider = provider(client(&chain));
    for nonce in 0..2 {
        let greedy = transfer(nonce, 2 * GWEI).with_gas_limit(1 << 24);
        send(&provider, greedy).await.unwrap();
    }
    let small = transfer(0, 2 * GWEI).with_from(bob().address());
    send(&provider, small).await.unwrap();
    chain.mine();
    // What is reserved beyond what was used is free again, as in any chain.
    assert_eq!(included(&provider, 1).await, [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_interval_brings_blocks_without_being_asked() {
    let clock = Arc::new(ManualClock::new(START));
    let mining = Mining::Interval(Duration::from_secs(12));
    let chain = Devchain::new(Config { clock: clock.clone(), ..config(mining) }).unwrap();
    let provider = provider(client(&chain));
    let miner = chain.spawn_miner();
    let sent = send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    assert_eq!(chain.block_number(), 0);
    clock.advance(12);
    // The time of this test is virtual: it jumps to the next timer whenever everything waits.
    let receipt = sent.receipt().await;
    assert_eq!(receipt.block_number, Some(1));
    assert_eq!(chain.timestamp(), START + 12);
    while chain.block_number() < 4 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    miner.shutdown().await;
    let last = chain.block_number();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(chain.block_number(), last);
}

async fn ask(chain: &Devchain, method: &'static str, params: Value) -> Result<Value, String> {
    client(chain).request(method, params).await.map_err(|error| {
        error.as_error_resp().map_or_else(|| error.to_string(), |error| error.message.to_string())
    })
}

#[tokio::test]
async fn time_moves_when_it_is_told_to() {
    let clock = Arc::new(ManualClock::new(START));
    let chain = Devchain::new(Config { clock: clock.clone(), ..config(Mining::Manual) }).unwrap();
    assert_eq!(chain.timestamp(), START);
    // Blocks of the same second are still one after the other.
    chain.mine();
    chain.mine();
    assert_eq!(chain.timestamp(), START + 2);
    clock.advance(10);
    chain.mine();
    assert_eq!(chain.timestamp(), START + 10);

    assert_eq!(ask(&chain, "evm_increaseTime", json!([3600])).await, Ok(json!(3600)));
    assert_eq!(ask(&chain, "evm_increaseTime", json!(["0x10"])).await, Ok(json!(3616)));
    chain.mine();
    assert_eq!(chain.timestamp(), START + 3626);
    let next = START + 10_000;
    ask(&chain, "evm_setNextBlockTimestamp", json!([next])).await.unwrap();
    assert_eq!(chain.timestamp(), START + 3626);
    chain.mine();
    assert_eq!(chain.timestamp(), next);
    let error = ask(&chain, "evm_setNextBlockTimestamp", json!([next])).await.unwrap_err();
    assert!(error.contains("is not after the previous block"), "{error}");
    ask(&chain, "evm_mine", json!([next + 100])).await.unwrap();
    assert_eq!(chain.timestamp(), next + 100);
    ask(&chain, "evm_mine", json!([{"blocks": 3}])).await.unwrap();
    assert_eq!(chain.timestamp(), next + 103);
    ask(&chain, "anvil_mine", json!(["0x3", "0x3c"])).await.unwrap();
    assert_eq!(chain.timestamp(), next + 280);
    clock.advance(1_000);
    chain.mine();
    assert_eq!(chain.timestamp(), next + 1_280);
    chain.increase_time(Duration::from_secs(5)).unwrap();
    chain.mine();
    assert_eq!(chain.timestamp(), next + 1_285);
    ask(&chain, "evm_increaseTime", json!([u64::MAX])).await.unwrap_err();
    ask(&chain, "anvil_mine", json!([1_000_000])).await.unwrap_err();
}

#[tokio::test]
async fn a_contract_sees_the_moved_time_before_the_block_is_there() {
    let chain = chain(Mining::Automine);
    let provider = provider(client(&chain));
    let probe = deploy(&provider).await;
    chain.increase_time(Duration::from_secs(3600)).unwrap();
    let latest = probe.context().call().await.unwrap();
    assert_eq!(latest._1, U256::from(START + 1));
    let pending = probe.context().block(alloy::eips::BlockId::pending()).call().await.unwrap();
    assert_eq!(pending._0, U256::from(2));
    assert_eq!(pending._1, U256::from(START + 3600));
}

#[tokio::test]
async fn automine_can_be_turned_off_and_on() {
    let chain = chain(Mining::Automine);
    let provider = provider(client(&chain));
    ask(&chain, "evm_setAutomine", json!([false])).await.unwrap();
    send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    assert_eq!(chain.block_number(), 0);
    ask(&chain, "evm_setAutomine", json!([true])).await.unwrap();
    assert_eq!(included(&provider, 1).await, [0]);
}

#[tokio::test]
async fn a_forgotten_state_is_an_error() {
    let mut config = config(Mining::Manual);
    config.state_history = 3;
    let chain = Devchain::new(config).unwrap();
    let provider = provider(client(&chain));
    for balance in 1..=5u64 {
        chain.set_balance(POOR, U256::from(balance));
        chain.mine();
    }
    for number in 3..=5u64 {
        // Money given after a block is mined belongs to that block's state.
        let expected = U256::from(if number == 5 { 5 } else { number + 1 });
        let balance = provider.get_balance(POOR).number(number).await.unwrap();
        assert_eq!(balance, expected);
    }
    let error = provider.get_balance(POOR).number(2).await.unwrap_err();
    let expected = "the state of block 2 is no longer kept, only that since block 3";
    assert_eq!(error.as_error_resp().unwrap().message, expected);
    assert!(provider.get_block_by_number(2.into()).await.unwrap().is_some());
}

#[tokio::test]
async fn given_money_can_be_spent() {
    let chain = chain(Mining::Automine);
    let provider = provider(client(&chain));
    for method in ["anvil_setBalance", "hardhat_setBalance"] {
        ask(&chain, method, json!([alice().address(), "0xde0b6b3a7640000"])).await.unwrap();
        let balance = provider.get_balance(alice().address()).await.unwrap();
        assert_eq!(balance, U256::from(ETHER));
    }
    send(&provider, transfer(0, 2 * GWEI)).await.unwrap();
    assert_eq!(chain.block_number(), 1);
}

#[test]
fn senseless_settings_are_refused() {
    let new = |config| Devchain::new(config).map(drop);
    let base = Config::default;
    assert_eq!(
        new(Config { gas_limit: 20_999, ..base() }),
        Err(ConfigError::GasLimitTooLow { gas_limit: 20_999 })
    );
    let mining = Mining::Interval(Duration::ZERO);
    assert_eq!(new(Config { mining, ..base() }), Err(ConfigError::ZeroInterval));
    assert_eq!(new(Config { state_history: 0, ..base() }), Err(ConfigError::NoStateHistory));
    new(Config { genesis_timestamp: Some(u64::MAX), ..base() }).unwrap_err();
}
