//! Through alloy, with its default fillers: everything once in process and once over HTTP.

use alloy::consensus::Transaction as _;
use alloy::consensus::proofs::calculate_transaction_root;
use alloy::eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy::eips::eip7702::Authorization;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{TransactionBuilder, TransactionBuilder7702};
use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{AccessList, Filter, TransactionRequest};
use alloy::signers::SignerSync;
use alloy::sol_types::{SolEvent, SolValue};
use alloy::trie::TrieAccount;
use alloy::trie::root::{state_root_unhashed, storage_root_unhashed};
use roadstead_devchain::Mining;

use crate::fixture::{
    ETHER, GWEI, POOR, Probe, START, alice, bob, chain, client, deploy, provider, served,
};

/// One test per transport from one story.
macro_rules! over_both_transports {
    ($($name:ident: $story:ident,)*) => {
        mod in_process {
            $(#[tokio::test]
            async fn $name() {
                super::$story(super::provider(super::client(&super::chain(super::Mining::Automine))))
                    .await;
            })*
        }
        mod over_http {
            $(#[tokio::test]
            async fn $name() {
                let server = super::served(&super::chain(super::Mining::Automine)).await;
                let client = super::RpcClient::new_http(server.url().parse().unwrap());
                super::$story(super::provider(client)).await;
                server.shutdown().await;
            })*
        }
    };
}

over_both_transports! {
    a_transfer_moves_money: transfer,
    a_contract_keeps_what_it_is_told: contract,
    logs_are_found_by_what_they_say: logs,
    reverts_say_why: reverts,
    an_estimate_is_the_least_that_suffices: estimates,
    fees_have_a_history: fees,
    the_past_can_be_asked: history,
    every_kind_of_transaction_is_taken: kinds,
    an_account_can_borrow_code: delegation,
    the_state_root_is_that_of_all_accounts: state_root,
}

async fn transfer(provider: DynProvider) {
    assert_eq!(provider.get_chain_id().await.unwrap(), 31337);
    let transfer = TransactionRequest::default().with_to(POOR).with_value(U256::from(ETHER));
    let sent = provider.send_transaction(transfer).await.unwrap();
    let hash = *sent.tx_hash();
    // With automine the receipt is there as soon as the transaction was sent.
    let receipt = provider.get_transaction_receipt(hash).await.unwrap().unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.gas_used, 21_000);
    assert_eq!(receipt.effective_gas_price, GWEI + receipt_tip(&provider, hash).await);
    assert_eq!(sent.get_receipt().await.unwrap(), receipt);

    assert_eq!(provider.get_balance(POOR).await.unwrap(), U256::from(ETHER));
    assert_eq!(provider.get_transaction_count(alice().address()).await.unwrap(), 1);
    let paid = U256::from(receipt.effective_gas_price) * U256::from(21_000);
    let left = U256::from(10_000) * U256::from(ETHER) - U256::from(ETHER) - paid;
    assert_eq!(provider.get_balance(alice().address()).await.unwrap(), left);

    let block = provider.get_block(BlockId::latest()).full().await.unwrap().unwrap();
    let parent = provider.get_block_by_number(0.into()).await.unwrap().unwrap();
    assert_eq!(block.header.hash, receipt.block_hash.unwrap());
    assert_eq!(block.header.hash, block.header.inner.hash_slow());
    assert_eq!(block.header.parent_hash, parent.header.hash);
    assert_eq!(block.header.timestamp, START + 1);
    let transactions: Vec<_> = block.transactions.txns().map(|tx| tx.inner.inner()).collect();
    assert_eq!(block.header.transactions_root, calculate_transaction_root(&transactions));
    assert_eq!(block.transactions.hashes().collect::<Vec<_>>(), [hash]);
    assert_eq!(provider.get_block_receipts(BlockId::latest()).await.unwrap(), Some(vec![receipt]));
    assert_eq!(provider.get_block_by_hash(B256::ZERO).await.unwrap(), None);
    assert_eq!(provider.get_transaction_by_hash(B256::ZERO).await.unwrap(), None);
}

async fn receipt_tip(provider: &DynProvider, hash: B256) -> u128 {
    let transaction = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
    assert_eq!(transaction.block_number, Some(1));
    transaction.inner.effective_tip_per_gas(1_000_000_000).unwrap()
}

async fn contract(provider: DynProvider) {
    let probe = deploy(&provider).await;
    assert!(!provider.get_code_at(*probe.address()).await.unwrap().is_empty());
    assert_eq!(probe.deployedAt().call().await.unwrap(), U256::from(START + 1));
    let sent = probe.store(U256::from(7), U256::from(42)).send().await.unwrap();
    assert!(sent.get_receipt().await.unwrap().status());
    assert_eq!(probe.stored(U256::from(7)).call().await.unwrap(), U256::from(42));

    // `last` is the second variable, and holds the address of the child.
    let sent = probe.create(U256::from(5)).value(U256::from(5)).send().await.unwrap();
    assert!(sent.get_receipt().await.unwrap().status());
    let child = probe.last().call().await.unwrap();
    assert_eq!(child, probe.address().create(1));
    assert_eq!(provider.get_balance(child).await.unwrap(), U256::from(5));
    let slot = provider.get_storage_at(*probe.address(), U256::from(1)).await.unwrap();
    assert_eq!(slot, U256::from_be_bytes(child.into_word().0));

    // A call at gas price zero needs no money, whoever asks.
    let context = probe.context().from(POOR).call().await.unwrap();
    assert_eq!(context._0, U256::from(3));
    assert_eq!(context._5, U256::ZERO);
    let known = provider.get_block_by_number(2.into()).await.unwrap().unwrap().header.hash;
    assert_eq!(probe.hashOf(U256::from(2)).call().await.unwrap(), known);
    assert_eq!(probe.hashOf(U256::from(3)).call().await.unwrap(), B256::ZERO);
    // The contract that serves hashes (EIP-2935) knows it too.
    let question = TransactionRequest::default()
        .with_to(HISTORY_STORAGE_ADDRESS)
        .with_input(B256::from(U256::from(2)));
    assert_eq!(&provider.call(question).await.unwrap()[..], known.as_slice());
}

async fn logs(provider: DynProvider) {
    let probe = deploy(&provider).await;
    let other = deploy(&provider).await;
    for (probe, first) in [(&probe, 1), (&other, 1), (&probe, 10)] {
        let call = probe.storeMany(U256::from(first), U256::from(3), U256::from(9));
        let receipt = call.send().await.unwrap().get_receipt().await.unwrap();
        let indexes: Vec<_> = receipt.logs().iter().map(|log| log.log_index.unwrap()).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert!(receipt.logs().iter().all(|log| log.block_timestamp.is_some()));
    }
    let count = async |filter: &Filter| provider.get_logs(filter).await.unwrap().len();
    let all = Filter::new().from_block(0);
    assert_eq!(count(&all).await, 12);
    assert_eq!(count(&all.clone().address(*probe.address())).await, 8);
    assert_eq!(count(&all.clone().event_signature(Probe::Noted::SIGNATURE_HASH)).await, 3);
    assert_eq!(count(&all.clone().topic2(U256::from(1))).await, 2);
    assert_eq!(
        count(&all.clone().topic2([1, 12].map(|key| B256::from(U256::from(key))).to_vec())).await,
        3
    );
    assert_eq!(count(&all.clone().topic1(bob().address())).await, 0);
    assert_eq!(count(&Filter::new().from_block(4).to_block(4)).await, 4);
    assert_eq!(count(&Filter::new()).await, 4, "without a range the latest block is searched");
    assert_eq!(count(&Filter::new().from_block(6)).await, 0, "nothing follows the head yet");
    let hash = provider.get_block_by_number(3.into()).await.unwrap().unwrap().header.hash;
    let found = provider.get_logs(&Filter::new().at_block_hash(hash)).await.unwrap();
    assert_eq!(found.len(), 4);
    let stored = found[0].log_decode::<Probe::Stored>().unwrap();
    assert_eq!(stored.inner.who, alice().address());
    assert_eq!(stored.block_hash, Some(hash));
    assert!(provider.get_logs(&Filter::new().at_block_hash(B256::ZERO)).await.is_err());
    assert!(provider.get_logs(&Filter::new().from_block(3).to_block(1)).await.is_err());
}

async fn reverts(provider: DynProvider) {
    let probe = deploy(&provider).await;
    let error = probe.failWithData(U256::from(3)).call().await.unwrap_err();
    let decoded = error.as_decoded_error::<Probe::TooSmall>().unwrap();
    assert_eq!((decoded.given, decoded.least), (U256::from(3), U256::from(10)));

    let message = |error: alloy::contract::Error| {
        let alloy::contract::Error::TransportError(error) = error else { panic!("{error}") };
        let payload = error.as_error_resp().unwrap().clone();
        (payload.code, payload.message.into_owned())
    };
    let error = probe.failWithReason().call().await.unwrap_err();
    assert_eq!(message(error), (3, "execution reverted: not today".to_owned()));
    let error = probe.failSilently().call().await.unwrap_err();
    assert_eq!(message(error), (3, "execution reverted".to_owned()));
    let error = probe.failWithReason().estimate_gas().await.unwrap_err();
    assert_eq!(message(error), (3, "execution reverted: not today".to_owned()));
    let error = probe.forever().call().await.unwrap_err();
    assert!(message(error).1.starts_with("out of gas"));
    let error = probe.invalid().call().await.unwrap_err();
    assert!(message(error).1.contains("InvalidFEOpcode"));

    // With a gas limit given it is mined, and fails there.
    let sent = probe.failWithReason().gas(100_000).send().await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    assert!(!receipt.status());
    assert!(receipt.logs().is_empty());
    let sent = probe.invalid().gas(100_000).send().await.unwrap();
    assert_eq!(sent.get_receipt().await.unwrap().gas_used, 100_000);
}

async fn estimates(provider: DynProvider) {
    let probe = deploy(&provider).await;
    let fund = TransactionRequest::default().with_to(*probe.address()).with_value(U256::from(50));
    provider.send_transaction(fund).await.unwrap().get_receipt().await.unwrap();
    probe.store(U256::from(1), U256::from(1)).send().await.unwrap().get_receipt().await.unwrap();
    let requests = [
        ("store", probe.store(U256::from(2), U256::from(3)).into_transaction_request()),
        ("refund", probe.store(U256::from(1), U256::ZERO).into_transaction_request()),
        ("create", probe.create(U256::from(1)).into_transaction_request()),
        ("deep", probe.deep(U256::from(6)).into_transaction_request()),
        ("pay", probe.pay(POOR, U256::from(1)).into_transaction_request()),
        ("destroy", probe.destroy().into_transaction_request()),
        ("deploy", crate::fixture::deployment()),
        ("transfer", TransactionRequest::default().with_to(POOR).with_value(U256::from(1))),
    ];
    for (name, request) in requests {
        let request = request.from(alice().address());
        let least = provider.estimate_gas(request.clone()).await.unwrap();
        let enough = provider.call(request.clone().gas_limit(least)).pending().await;
        assert!(enough.is_ok(), "{name}: {least} suffices: {enough:?}");
        let too_little = provider.call(request.clone().gas_limit(least - 1)).pending().await;
        assert!(too_little.is_err(), "{name}: {least} is the least");
        let sent = provider.send_transaction(request.gas_limit(least)).await.unwrap();
        assert!(sent.get_receipt().await.unwrap().status(), "{name}");
    }
    let unpayable = TransactionRequest::default().with_from(POOR).with_to(POOR);
    let error = provider.estimate_gas(unpayable.with_value(U256::from(ETHER))).await.unwrap_err();
    let message = &error.as_error_resp().unwrap().message;
    assert!(message.starts_with("insufficient funds for gas * price + value"), "{message}");
}

async fn fees(provider: DynProvider) {
    let tip = |tip| {
        TransactionRequest::default()
            .with_to(POOR)
            .with_max_priority_fee_per_gas(tip)
            .with_max_fee_per_gas(5 * GWEI)
    };
    for (value, price) in [(1, 5), (2, 7)] {
        let request = tip(price).with_value(U256::from(value));
        provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    }
    let history =
        provider.get_fee_history(10, BlockNumberOrTag::Latest, &[0.0, 50.0, 100.0]).await.unwrap();
    assert_eq!(history.oldest_block, 0);
    assert_eq!(history.base_fee_per_gas.len(), 4);
    assert_eq!(history.base_fee_per_gas[1], GWEI);
    assert_eq!(history.gas_used_ratio, [0.0, 0.0007, 0.0007]);
    let expected = vec![vec![0, 0, 0], vec![5, 5, 5], vec![7, 7, 7]];
    assert_eq!(history.reward.unwrap(), expected);
    for (number, fee) in (0..).zip(&history.base_fee_per_gas[..3]) {
        let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        assert_eq!(block.header.base_fee_per_gas.map(u128::from), Some(*fee));
    }
    let next = *history.base_fee_per_gas.last().unwrap();
    assert!(next < GWEI, "the base fee falls while blocks are nearly empty");
    assert_eq!(provider.get_gas_price().await.unwrap(), next + GWEI);
    assert_eq!(provider.get_max_priority_fee_per_gas().await.unwrap(), GWEI);
    assert!(provider.get_fee_history(1, 99.into(), &[]).await.is_err());
}

async fn history(provider: DynProvider) {
    let probe = deploy(&provider).await;
    for value in 1..=3 {
        let sent = probe.store(U256::ZERO, U256::from(value)).send().await.unwrap();
        sent.get_receipt().await.unwrap();
    }
    for number in 1..=4u64 {
        let block = provider.get_block_by_number(number.into()).await.unwrap().unwrap();
        for id in [BlockId::number(number), BlockId::hash(block.header.hash)] {
            let value = probe.stored(U256::ZERO).block(id).call().await.unwrap();
            assert_eq!(value, U256::from(number - 1));
            let context = probe.context().block(id).call().await.unwrap();
            assert_eq!(context._0, U256::from(number));
            assert_eq!(context._1, U256::from(block.header.timestamp));
            let sender = alice().address();
            let count = provider.get_transaction_count(sender).block_id(id).await.unwrap();
            assert_eq!(count, number);
        }
    }
    let before = BlockId::earliest();
    assert!(provider.get_code_at(*probe.address()).block_id(before).await.unwrap().is_empty());
    assert!(provider.get_balance(POOR).block_id(5.into()).await.is_err());
    assert!(provider.get_balance(POOR).block_id(B256::ZERO.into()).await.is_err());
}

async fn kinds(provider: DynProvider) {
    let to_poor = || TransactionRequest::default().with_to(POOR).with_value(U256::from(1));
    let legacy = to_poor().with_gas_price(2 * GWEI);
    let listed = to_poor().with_gas_price(2 * GWEI).with_access_list(AccessList::default());
    for (kind, request) in [(0, legacy), (1, listed), (2, to_poor())] {
        let sent = provider.send_transaction(request).await.unwrap();
        let receipt = sent.get_receipt().await.unwrap();
        assert!(receipt.status());
        assert_eq!(receipt.transaction_type() as u8, kind);
    }
    assert_eq!(provider.get_balance(POOR).await.unwrap(), U256::from(3));
}

/// An account as the chain shows it, with what is in these slots.
async fn account(provider: &DynProvider, address: Address, slots: &[U256]) -> TrieAccount {
    let mut storage = Vec::new();
    for slot in slots {
        let value = provider.get_storage_at(address, *slot).await.unwrap();
        assert!(!value.is_zero(), "{address} {slot}");
        storage.push((B256::from(*slot), value));
    }
    TrieAccount::new(
        provider.get_transaction_count(address).await.unwrap(),
        provider.get_balance(address).await.unwrap(),
        storage_root_unhashed(storage),
        keccak256(provider.get_code_at(address).await.unwrap()),
    )
}

async fn state_root(provider: DynProvider) {
    let probe = deploy(&provider).await;
    let calls = [(7, 70), (8, 80), (9, 90), (8, 0)];
    for (key, value) in calls {
        let call = probe.store(U256::from(key), U256::from(value)).value(U256::from(1));
        assert!(call.send().await.unwrap().get_receipt().await.unwrap().status());
    }
    let head = provider.get_block(BlockId::latest()).await.unwrap().unwrap().header;
    assert_eq!(head.number, 5);

    // The first variable of the contract is the mapping, the third one its time of deployment.
    let stored =
        |key: u64| U256::from_be_bytes(keccak256((U256::from(key), U256::ZERO).abi_encode()).0);
    let hashes: Vec<_> = (0..5).map(U256::from).collect();
    let probe_slots = [U256::from(2), stored(7), stored(9)];
    let known = [
        // Who gets the tips.
        (Address::ZERO, [].as_slice()),
        (alice().address(), &[]),
        (bob().address(), &[]),
        (HISTORY_STORAGE_ADDRESS, &hashes),
        (*probe.address(), &probe_slots),
    ];
    let mut accounts = Vec::new();
    for (address, slots) in known {
        accounts.push((address, account(&provider, address, slots).await));
    }
    assert_eq!(accounts[4].1.balance, U256::from(4));
    assert_eq!(head.state_root, state_root_unhashed(accounts));
}

async fn delegation(provider: DynProvider) {
    let probe = deploy(&provider).await;
    let authorization =
        Authorization { chain_id: U256::from(31337), address: *probe.address(), nonce: 0 };
    let signature = bob().sign_hash_sync(&authorization.signature_hash()).unwrap();
    let borrowed = Probe::new(bob().address(), provider.clone());
    let request = borrowed
        .store(U256::from(1), U256::from(11))
        .into_transaction_request()
        .with_authorization_list(vec![authorization.into_signed(signature)]);
    let receipt = provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert_eq!(receipt.transaction_type() as u8, 4);
    let code = provider.get_code_at(bob().address()).await.unwrap();
    assert!(code.starts_with(&[0xef, 0x01, 0x00]));
    assert_eq!(borrowed.stored(U256::from(1)).call().await.unwrap(), U256::from(11));
    assert_eq!(probe.stored(U256::from(1)).call().await.unwrap(), U256::ZERO);
    // The account still sends its own transactions, from the nonce after its authorization.
    let request = TransactionRequest::default().with_from(bob().address()).with_to(POOR);
    let receipt = provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert_eq!(provider.get_transaction_count(bob().address()).await.unwrap(), 2);
}
