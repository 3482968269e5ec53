//! The same history on a real `anvil` and on this chain: what clients see has to be the same.
//!
//! Not compared, because it cannot be the same: hashes of blocks (the genesis blocks differ) and what
//! contains them, state roots, and `prevrandao`. The same signed transactions go to both, at
//! timestamps chosen in advance.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use alloy::consensus::{
    SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy, TypedTransaction,
};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, Signature, TxKind, U256, hex};
use alloy::rpc::client::RpcClient;
use alloy::signers::SignerSync;
use alloy::sol_types::SolCall;
use roadstead_devchain::Mining;
use serde_json::{Value, json};

use crate::fixture::{GWEI, POOR, Probe, START, alice, bob, chain, client, probe_code};

/// A process that ends with its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // It is gone already if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long `anvil` may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the whole story may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A running `anvil`.
struct Anvil {
    url: String,
    _process: Owned,
}

impl Anvil {
    fn start() -> Self {
        let process = Command::new("anvil")
            .args(["--hardfork", "osaka", "--port", "0", "--timestamp", &START.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("anvil does not start from the PATH: run script/setup");
        let mut process = Owned(process);
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (found, address) = mpsc::channel();
        // It reads on until the process ends, which would stand still at a full pipe.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(address) = line.trim().strip_prefix("Listening on ") {
                    // Nobody listens any more if it took too long.
                    let _ = found.send(address.to_owned());
                }
            }
        });
        let address = address.recv_timeout(START_TIMEOUT).expect("anvil does not listen");
        Self { url: format!("http://{address}"), _process: process }
    }
}

/// Both chains, asked the same.
struct Both {
    anvil: RpcClient,
    ours: RpcClient,
    time: u64,
    nonce: u64,
}

/// The result, or code and data of the error.
async fn ask(client: &RpcClient, method: &'static str, params: &Value) -> Result<Value, Value> {
    client.request(method, params.clone()).await.map_err(|error| {
        let error = error.as_error_resp().unwrap_or_else(|| panic!("{method}: {error}"));
        let data = error.data.as_ref().map(|data| data.get().to_owned());
        // Behind the selector of a custom error anvil prints its arguments as if they were text.
        let end =
            error.message.find("custom error ").map(|at| at + "custom error 0x01234567".len());
        let message = error.message.get(..end.unwrap_or(usize::MAX)).unwrap_or(&error.message);
        json!({ "code": error.code, "message": message, "data": data })
    })
}

/// Takes away what depends on the hash of the genesis block, or is only anvil's.
fn comparable(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Array(values) => values.iter_mut().for_each(strip),
            Value::Object(fields) => {
                for field in [
                    "blockHash",
                    "hash",
                    "parentHash",
                    "stateRoot",
                    "mixHash",
                    "blobGasPrice",
                    // Anvil leaves the empty list of withdrawals out of the encoded block.
                    "size",
                ] {
                    // The hash of a transaction is the same, that of a block is not.
                    if field != "hash" || fields.contains_key("parentHash") {
                        fields.remove(field);
                    }
                }
                // Anvil adds this one to receipts, as a plain number.
                if fields.get("blockTimestamp").is_some_and(Value::is_number) {
                    fields.remove("blockTimestamp");
                }
                fields.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    strip(&mut value);
    value
}

impl Both {
    /// Asks both, and returns the answer if it is the same one.
    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, Value> {
        let anvil = ask(&self.anvil, method, &params).await.map(comparable);
        let ours = ask(&self.ours, method, &params).await.map(comparable);
        assert_eq!(ours, anvil, "{method} {params}: ours left, anvil's right");
        ours
    }

    /// Sends a transaction to both in the next block, ten seconds later, and compares the receipt
    /// and the block.
    async fn send(&mut self, envelope: impl FnOnce(u64) -> TxEnvelope) -> Value {
        self.time += 10;
        for client in [&self.anvil, &self.ours] {
            ask(client, "evm_setNextBlockTimestamp", &json!([self.time])).await.unwrap();
        }
        let envelope = envelope(self.nonce);
        self.nonce += 1;
        let raw = hex::encode_prefixed(envelope.encoded_2718());
        // Anvil mines a moment after it answers; this method waits for that.
        ask(&self.anvil, "eth_sendRawTransactionSync", &json!([raw])).await.unwrap();
        ask(&self.ours, "eth_sendRawTransaction", &json!([raw])).await.unwrap();
        let hash = json!([envelope.hash()]);
        let receipt = self.ask("eth_getTransactionReceipt", hash.clone()).await.unwrap();
        self.ask("eth_getTransactionByHash", hash).await.unwrap();
        self.ask("eth_getBlockByNumber", json!(["latest", true])).await.unwrap();
        receipt
    }

    /// Checks that neither takes a transaction, with the same code; our message begins with anvil's,
    /// but for capital letters.
    async fn refused(&self, envelope: TxEnvelope, why: &str) {
        let raw = json!([hex::encode_prefixed(envelope.encoded_2718())]);
        let anvil = ask(&self.anvil, "eth_sendRawTransaction", &raw).await.unwrap_err();
        let ours = ask(&self.ours, "eth_sendRawTransaction", &raw).await.unwrap_err();
        assert_eq!(anvil["message"].as_str().unwrap().to_lowercase(), why);
        assert!(ours["message"].as_str().unwrap().starts_with(why), "{ours}");
        assert_eq!(ours["code"], anvil["code"], "{why}");
    }

    /// Calls the probe in a transaction of its own.
    async fn transact(&mut self, to: Address, value: u64, call: impl SolCall) -> Value {
        let input = call.abi_encode().into();
        self.send(|nonce| dynamic(nonce, TxKind::Call(to), value, input)).await
    }
}

fn dynamic(nonce: u64, to: TxKind, value: u64, input: Bytes) -> TxEnvelope {
    sign(unsigned(nonce, to, value, input))
}

fn unsigned(nonce: u64, to: TxKind, value: u64, input: Bytes) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 3_000_000,
        max_fee_per_gas: 3 * GWEI,
        max_priority_fee_per_gas: GWEI / 3,
        to,
        value: U256::from(value),
        input,
        ..TxEip1559::default()
    }
}

fn sign(transaction: impl SignableTransaction<Signature> + Into<TypedTransaction>) -> TxEnvelope {
    let signature = alice().sign_hash_sync(&transaction.signature_hash()).unwrap();
    transaction.into().into_envelope(signature)
}

fn legacy(nonce: u64) -> TxEnvelope {
    sign(TxLegacy {
        chain_id: Some(31337),
        nonce,
        gas_limit: 21_000,
        gas_price: 2 * GWEI,
        to: TxKind::Call(POOR),
        value: U256::from(5),
        ..TxLegacy::default()
    })
}

fn listed(nonce: u64, to: Address) -> TxEnvelope {
    sign(TxEip2930 {
        chain_id: 31337,
        nonce,
        gas_limit: 100_000,
        gas_price: 2 * GWEI,
        to: TxKind::Call(to),
        input: Probe::storedCall { key: U256::from(1) }.abi_encode().into(),
        ..TxEip2930::default()
    })
}

fn call(to: Address, call: impl SolCall) -> Value {
    json!({ "from": bob().address(), "to": to, "data": hex::encode_prefixed(call.abi_encode()) })
}

#[tokio::test]
async fn the_same_history_looks_the_same() {
    tokio::time::timeout(TIMEOUT, story(Anvil::start())).await.expect("anvil takes too long");
}

async fn story(anvil: Anvil) {
    let ours = chain(Mining::Automine);
    let mut both = Both {
        anvil: RpcClient::new_http(anvil.url.parse().unwrap()),
        ours: client(&ours),
        time: START + 1_000,
        nonce: 0,
    };
    let number = |value: u64| U256::from(value);

    // Transfers of every kind, and a contract.
    both.send(legacy).await;
    both.send(|nonce| dynamic(nonce, TxKind::Call(POOR), 7, Bytes::new())).await;
    let receipt = both.send(|nonce| dynamic(nonce, TxKind::Create, 0, probe_code())).await;
    let probe: Address = receipt["contractAddress"].as_str().unwrap().parse().unwrap();
    both.send(|nonce| listed(nonce, probe)).await;

    // Storage, events, refunds, creation, self-destruction, calls with the 63/64 rule, payments.
    both.transact(probe, 0, Probe::storeCall { key: number(1), value: number(2) }).await;
    let many = Probe::storeManyCall { first: number(1), count: number(5), value: number(3) };
    let receipt = both.transact(probe, 0, many).await;
    assert_eq!(receipt["logs"].as_array().unwrap().len(), 6);
    both.transact(probe, 0, Probe::storeCall { key: number(1), value: number(0) }).await;
    both.transact(probe, 9, Probe::createCall { value: number(4) }).await;
    both.transact(probe, 0, Probe::payCall { to: POOR, value: number(1) }).await;
    both.transact(probe, 0, Probe::payCall { to: bob().address(), value: number(99) }).await;
    both.transact(probe, 0, Probe::destroyCall {}).await;
    both.transact(probe, 0, Probe::deepCall { levels: number(5) }).await;

    // Failures that are mined.
    let receipt = both.transact(probe, 0, Probe::failWithReasonCall {}).await;
    assert_eq!(receipt["status"], "0x0");
    both.transact(
        probe,
        1,
        Probe::storeManyCall { first: number(0), count: number(1), value: number(1) },
    )
    .await;
    both.transact(probe, 0, Probe::invalidCall {}).await;
    both.transact(probe, 0, Probe::foreverCall {}).await;
    both.send(|nonce| dynamic(nonce, TxKind::Create, 0, Bytes::from_static(&[0xfe]))).await;

    // Code, storage, balances, counts, in the present and in the past.
    let head = both.ask("eth_blockNumber", json!([])).await.unwrap();
    for block in ["latest", "earliest", "0x3", "0x5", head.as_str().unwrap()] {
        both.ask("eth_getCode", json!([probe, block])).await.unwrap();
        both.ask("eth_getStorageAt", json!([probe, "0x1", block])).await.unwrap();
        both.ask("eth_getStorageAt", json!([probe, "0x2", block])).await.unwrap();
        for address in [POOR, Address::ZERO, alice().address(), bob().address(), probe] {
            both.ask("eth_getBalance", json!([address, block])).await.unwrap();
            both.ask("eth_getTransactionCount", json!([address, block])).await.unwrap();
        }
        both.ask("eth_getBlockReceipts", json!([block])).await.unwrap();
    }

    // Calls that succeed.
    for block in ["latest", "0x6", "0x8"] {
        let question = call(probe, Probe::storedCall { key: number(1) });
        both.ask("eth_call", json!([question, block])).await.unwrap();
        both.ask("eth_call", json!([call(probe, Probe::contextCall {}), block])).await.unwrap();
    }
    both.ask("eth_call", json!([call(probe, Probe::deployedAtCall {})])).await.unwrap();
    both.ask("eth_call", json!([call(POOR, Probe::lastCall {})])).await.unwrap();

    // Calls and estimates that revert: the same code, message and data.
    for question in [
        call(probe, Probe::failWithReasonCall {}),
        call(probe, Probe::failWithDataCall { given: number(3) }),
        call(probe, Probe::failPlainCall {}),
        call(probe, Probe::failSilentlyCall {}),
        call(probe, Probe::panicCall { divisor: number(0) }),
        call(probe, Probe::payCall { to: POOR, value: number(1_000_000) }),
    ] {
        let error = both.ask("eth_call", json!([question])).await.unwrap_err();
        assert_eq!(error["code"], 3);
        both.ask("eth_estimateGas", json!([question])).await.unwrap_err();
    }

    // Transactions that neither takes.
    both.refused(legacy(0), "nonce too low").await;
    let nonce = both.nonce;
    let to = TxKind::Call(POOR);
    let change = |change: fn(&mut TxEip1559)| {
        let mut transaction = unsigned(nonce, to, 0, Bytes::new());
        change(&mut transaction);
        sign(transaction)
    };
    let poor = change(|tx| tx.value = U256::MAX >> 1);
    both.refused(poor, "insufficient funds for gas * price + value").await;
    both.refused(change(|tx| tx.gas_limit = 20_000), "intrinsic gas too low").await;
    both.refused(change(|tx| tx.chain_id = 1), "invalid chain id for signer").await;
    let cheap = change(|tx| (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (1, 1));
    both.refused(cheap, "max fee per gas less than block base fee").await;

    // Logs.
    let stored = <Probe::Stored as alloy::sol_types::SolEvent>::SIGNATURE_HASH;
    for filter in [
        json!({ "fromBlock": "0x0" }),
        json!({ "fromBlock": "0x5", "toBlock": "0x6", "address": probe }),
        json!({ "fromBlock": "earliest", "topics": [stored] }),
        json!({ "fromBlock": "earliest", "topics": [[stored], null, B256::from(number(3))] }),
        json!({ "fromBlock": "earliest", "address": [POOR, bob().address()] }),
        json!({}),
    ] {
        both.ask("eth_getLogs", json!([filter])).await.unwrap();
    }

    // Fees, money from nowhere, and what the chain says of itself.
    both.ask("eth_gasPrice", json!([])).await.unwrap();
    both.ask("eth_maxPriorityFeePerGas", json!([])).await.unwrap();
    both.ask("eth_chainId", json!([])).await.unwrap();
    both.ask("net_version", json!([])).await.unwrap();
    both.ask("eth_syncing", json!([])).await.unwrap();
    both.ask("anvil_setBalance", json!([POOR, "0x1234"])).await.unwrap();
    both.ask("eth_getBalance", json!([POOR, "latest"])).await.unwrap();
    both.transact(probe, 0, Probe::payCall { to: POOR, value: number(1) }).await;
    both.ask("eth_getBalance", json!([POOR, "latest"])).await.unwrap();
    both.ask("eth_getBlockByNumber", json!(["0xffff", false])).await.unwrap();

    // Time runs on from a chosen timestamp; anvil's clock is real, so a few seconds may pass there.
    for client in [&both.anvil, &both.ours] {
        ask(client, "evm_increaseTime", &json!([3_600])).await.unwrap();
        ask(client, "evm_mine", &json!([])).await.unwrap();
        let block = ask(client, "eth_getBlockByNumber", &json!(["latest", false])).await.unwrap();
        let timestamp = block["timestamp"].as_str().unwrap();
        let timestamp = u64::from_str_radix(timestamp.trim_start_matches("0x"), 16).unwrap();
        assert!((3_600..3_660).contains(&(timestamp - both.time)), "{timestamp}");
    }
}
