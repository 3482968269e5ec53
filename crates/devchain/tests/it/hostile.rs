//! Input that is wrong on purpose: every answer is an error with the right code, and none a panic.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Bytes, TxKind, U256, hex};
use alloy::signers::SignerSync;
use proptest::prelude::*;
use roadstead_devchain::{Devchain, Mining};
use serde_json::{Value, json};

use crate::fixture::{GWEI, POOR, alice, chain};

const METHODS: [&str; 29] = [
    "eth_chainId",
    "net_version",
    "web3_clientVersion",
    "eth_blockNumber",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getBalance",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_getTransactionCount",
    "eth_syncing",
    "eth_accounts",
    "eth_gasPrice",
    "eth_maxPriorityFeePerGas",
    "eth_feeHistory",
    "eth_call",
    "eth_estimateGas",
    "eth_sendRawTransaction",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
    "eth_getBlockReceipts",
    "eth_getLogs",
    "evm_mine",
    "evm_increaseTime",
    "evm_setNextBlockTimestamp",
    "evm_setAutomine",
    "anvil_setBalance",
    "hardhat_setBalance",
    "anvil_mine",
];

fn answer(chain: &Devchain, body: &str) -> Value {
    serde_json::from_slice(&chain.respond(body.as_bytes()).unwrap()).unwrap()
}

fn code(chain: &Devchain, body: &str) -> i64 {
    answer(chain, body)["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {body}"))
}

fn ask(chain: &Devchain, method: &str, params: Value) -> Value {
    let body = json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params});
    let answer = answer(chain, &body.to_string());
    assert_eq!(answer["id"], "x");
    answer
}

#[test]
fn a_malformed_request_is_an_error_with_the_right_code() {
    let chain = chain(Mining::Manual);
    for (body, expected) in [
        ("", -32700),
        ("{", -32700),
        ("[1,", -32700),
        ("\u{0}", -32700),
        ("[]", -32600),
        ("1", -32600),
        ("null", -32600),
        ("{}", -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":true,"method":"eth_chainId"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":{}}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":5}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":[]}"#, -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"debug_everything"}"#, -32601),
    ] {
        assert_eq!(code(&chain, body), expected, "{body}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(code(&chain, &deep), -32700);
    let message = &ask(&chain, "debug_everything", json!([]))["error"]["message"];
    assert_eq!(message, "the method debug_everything does not exist");
    let long = ask(&chain, &"x".repeat(100_000), json!([]));
    assert!(long["error"]["message"].as_str().unwrap().len() < 200);
}

#[test]
fn a_notification_gets_no_answer() {
    let chain = chain(Mining::Manual);
    let mine = r#"{"jsonrpc":"2.0","method":"evm_mine"}"#;
    assert_eq!(chain.respond(mine.as_bytes()), None);
    assert_eq!(chain.respond(format!("[{mine},{mine}]").as_bytes()), None);
    assert_eq!(chain.block_number(), 3);
    let asked = answer(&chain, r#"{"jsonrpc":"2.0","id":null,"method":"eth_blockNumber"}"#);
    assert_eq!(asked, json!({"jsonrpc": "2.0", "id": null, "result": "0x3"}));
}

#[test]
fn a_batch_is_answered_in_order_and_bounded() {
    let chain = chain(Mining::Manual);
    let one = |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "eth_chainId"});
    let mut batch: Vec<Value> = (0..1_000).map(one).collect();
    batch[500] = json!("garbage");
    let answers = answer(&chain, &json!(batch).to_string());
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 1_000);
    assert_eq!(answers[999], json!({"jsonrpc": "2.0", "id": 999, "result": "0x7a69"}));
    assert_eq!(answers[500]["error"]["code"], -32600);
    batch.push(one(1_000));
    let refused = answer(&chain, &json!(batch).to_string());
    assert_eq!(refused["error"]["code"], -32005);
}

#[test]
fn a_batch_stops_when_it_has_executed_too_much() {
    let chain = chain(Mining::Manual);
    // An invalid instruction, which takes all gas there is: a block of it every time.
    let call = |id| json!({"jsonrpc": "2.0", "id": id, "method": "eth_call", "params": [{"data": "0xfe"}]});
    let mut batch: Vec<Value> = (0..12).map(call).collect();
    batch.push(json!({"jsonrpc": "2.0", "method": "evm_mine"}));
    let answers = answer(&chain, &json!(batch).to_string());
    let codes: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| answer["error"]["code"].as_i64().unwrap())
        .collect();
    assert_eq!(codes, [[-32000; 10].as_slice(), &[-32005; 2]].concat());
    assert_eq!(answers[11]["id"], 11);
    assert_eq!(chain.block_number(), 0);
    // The next batch starts anew.
    assert_eq!(answer(&chain, &json!([call(0)]).to_string())[0]["error"]["code"], -32000);
}

#[tokio::test]
async fn a_batch_in_process_stops_there_too() {
    let client = crate::fixture::client(&chain(Mining::Manual));
    let mut batch = client.new_batch();
    let call = json!([{"data": "0xfe"}]);
    let waiters: Vec<_> =
        (0..12).map(|_| batch.add_call::<_, Value>("eth_call", &call).unwrap()).collect();
    batch.send().await.unwrap();
    let mut codes = Vec::new();
    for waiter in waiters {
        codes.push(waiter.await.unwrap_err().as_error_resp().unwrap().code);
    }
    assert_eq!(codes, [[-32000; 10].as_slice(), &[-32005; 2]].concat());
}

#[test]
fn an_invalid_request_is_answered_by_its_id() {
    let chain = chain(Mining::Manual);
    for (body, id) in [
        (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, json!(7)),
        (r#"{"jsonrpc":"1.0","id":"x","method":"eth_chainId"}"#, json!("x")),
        (r#"{"id":7}"#, json!(7)),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"eth_chainId"}"#, json!(null)),
        (r#"{"jsonrpc":"2.0","method":5}"#, json!(null)),
    ] {
        let answer = answer(&chain, body);
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(-32600)), "{body}");
    }
}

#[test]
fn a_wrong_parameter_is_named() {
    let chain = chain(Mining::Manual);
    for (method, params, name) in [
        ("eth_getBalance", json!([1]), "address"),
        ("eth_getBalance", json!(["0x12"]), "address"),
        ("eth_getBalance", json!([POOR, "yesterday"]), "block"),
        ("eth_getBalance", json!([POOR, {"blockNumber": true}]), "block"),
        ("eth_getStorageAt", json!([POOR, "slot"]), "slot"),
        ("eth_getBlockByNumber", json!(["0x0", "full"]), "full transactions"),
        ("eth_call", json!([[]]), "transaction"),
        ("eth_call", json!([{"to": POOR}, "latest", {POOR.to_string(): {}}]), "state overrides"),
        ("eth_feeHistory", json!(["x", "latest", []]), "block count"),
        ("eth_feeHistory", json!([1, "latest", ["a"]]), "reward percentiles"),
        ("eth_feeHistory", json!([1, "latest", [200]]), "reward percentiles"),
        ("eth_feeHistory", json!([1, "latest", [50, 20]]), "reward percentiles"),
        ("eth_getLogs", json!([{"fromBlock": []}]), "filter"),
        ("eth_sendRawTransaction", json!(["zz"]), "raw transaction"),
        ("evm_increaseTime", json!(["soon"]), "seconds"),
        ("evm_increaseTime", json!([-5]), "seconds"),
        ("evm_setAutomine", json!(["yes"]), "automine"),
    ] {
        let error = &ask(&chain, method, params)["error"];
        assert_eq!(error["code"], -32602, "{method}: {error}");
        assert!(error["message"].as_str().unwrap().contains(name), "{method}: {error}");
    }
}

fn signed(change: impl FnOnce(&mut TxEip1559)) -> Vec<u8> {
    let mut transaction = TxEip1559 {
        chain_id: 31337,
        gas_limit: 21_000,
        max_fee_per_gas: 2 * GWEI,
        max_priority_fee_per_gas: GWEI,
        to: TxKind::Call(POOR),
        ..TxEip1559::default()
    };
    change(&mut transaction);
    let signature = alice().sign_hash_sync(&transaction.signature_hash()).unwrap();
    TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
}

#[test]
fn a_bad_raw_transaction_is_refused_at_the_door() {
    let chain = chain(Mining::Automine);
    let send =
        |raw: &[u8]| ask(&chain, "eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]));
    let mut trailing = signed(|_| {});
    trailing.push(0);
    let mut forged = signed(|_| {});
    // The last byte belongs to the signature: another sender, who has no money.
    *forged.last_mut().unwrap() ^= 1;
    let init_code = Bytes::from(vec![0; 49_153]);
    for (raw, expected) in [
        (Vec::new(), "failed to decode transaction"),
        (vec![0x12, 0x34], "failed to decode transaction"),
        (vec![0x02, 0xc0], "failed to decode transaction"),
        (vec![0xff; 1_000], "failed to decode transaction"),
        (vec![0x03, 0xc0], "blob transactions are not supported"),
        (vec![0x02; 200_000], "oversized data"),
        (trailing, "unexpected bytes"),
        (forged, "insufficient funds"),
        (signed(|tx| tx.chain_id = 1), "invalid chain id"),
        (signed(|tx| tx.gas_limit = 20_000), "intrinsic gas too low"),
        (signed(|tx| tx.gas_limit = u64::MAX), "exceeds block gas limit"),
        (signed(|tx| tx.max_fee_per_gas = u128::MAX), "insufficient funds"),
        (signed(|tx| tx.value = U256::MAX), "insufficient funds"),
        (signed(|tx| tx.max_priority_fee_per_gas = 3 * GWEI), "max priority fee per gas higher"),
        (
            signed(|tx| {
                (tx.to, tx.input, tx.gas_limit) = (TxKind::Create, init_code, 10_000_000);
            }),
            "max initcode size exceeded",
        ),
    ] {
        let answer = send(&raw);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message} instead of {expected}");
    }
    assert_eq!(chain.block_number(), 0);
    assert!(send(&signed(|_| {}))["result"].is_string());
    assert!(send(&signed(|tx| tx.nonce = u64::MAX))["error"].is_object());
    assert_eq!(chain.block_number(), 1);
}

#[test]
fn too_many_logs_are_an_error() {
    let chain = chain(Mining::Automine);
    // Init code that logs nothing 2,000 times: a counter in memory, LOG0, and a loop.
    let code = hex!("6107d05b5f5fa0600190038060035700");
    for nonce in 0..6 {
        let raw = signed(|tx| {
            (tx.nonce, tx.to, tx.input) = (nonce, TxKind::Create, code.to_vec().into());
            tx.gas_limit = 5_000_000;
        });
        ask(&chain, "eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]));
    }
    let count = |last: &str| {
        let filter = json!([{"fromBlock": "0x1", "toBlock": last}]);
        ask(&chain, "eth_getLogs", filter)
    };
    assert_eq!(count("0x5")["result"].as_array().unwrap().len(), 10_000);
    assert_eq!(count("0x6")["error"]["code"], -32005);
}

#[test]
fn too_many_bytes_of_logs_are_an_error() {
    let chain = chain(Mining::Automine);
    // Init code that logs 100,000 zeros 20 times.
    let code = hex!("60145b620186a05fa0600190038060025700");
    for nonce in 0..7 {
        let raw = signed(|tx| {
            (tx.nonce, tx.to, tx.input) = (nonce, TxKind::Create, code.to_vec().into());
            tx.gas_limit = 1 << 24;
        });
        ask(&chain, "eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]));
    }
    let logs =
        |last: &str| ask(&chain, "eth_getLogs", json!([{"fromBlock": "0x1", "toBlock": last}]));
    assert_eq!(logs("0x6")["result"].as_array().unwrap().len(), 120);
    let error = &logs("0x7")["error"];
    assert_eq!(error["code"], -32005);
    assert!(error["message"].as_str().unwrap().contains("bytes"), "{error}");
}

#[test]
fn a_filter_is_bounded() {
    let chain = chain(Mining::Manual);
    let words = |count: u64, length: usize| -> Vec<String> {
        (0..count).map(|word| format!("0x{word:0length$x}")).collect()
    };
    let logs = |filter: Value| ask(&chain, "eth_getLogs", json!([filter]));
    let fine = json!({"address": words(1_000, 40), "topics": [null, words(1_000, 64)]});
    assert_eq!(logs(fine)["result"], json!([]));
    for (filter, name) in [
        (json!({"address": words(1_001, 40)}), "addresses"),
        (json!({"topics": [null, words(1_001, 64)]}), "topics"),
    ] {
        let error = &logs(filter)["error"];
        assert_eq!(error["code"], -32602);
        assert!(error["message"].as_str().unwrap().contains(name), "{error}");
    }
}

/// Parameters of every kind, some of them right.
fn parameter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..80)
            .prop_map(|bytes| hex::encode_prefixed(bytes).into()),
        any::<u64>().prop_map(|number| format!("{number:#x}").into()),
        prop::sample::select(vec!["latest", "pending", "earliest", "0x0", "0x1"])
            .prop_map(Value::from),
        Just(json!(POOR)),
        Just(json!(alice().address())),
    ];
    let keys = prop::sample::select(vec![
        "from",
        "to",
        "data",
        "input",
        "value",
        "gas",
        "gasPrice",
        "maxFeePerGas",
        "nonce",
        "accessList",
        "authorizationList",
        "fromBlock",
        "toBlock",
        "blockHash",
        "address",
        "topics",
        "blockNumber",
        "timestamp",
        "blocks",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_bytes_get_an_answer(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let chain = chain(Mining::Manual);
        let answer = chain.respond(&body).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap();
    }

    #[test]
    fn any_parameters_get_an_answer(
        questions in prop::collection::vec(
            (prop::sample::select(METHODS.to_vec()), prop::collection::vec(parameter(), 0..4)),
            1..8,
        )
    ) {
        let chain = chain(Mining::Automine);
        for (method, params) in questions {
            let answer = ask(&chain, method, json!(params));
            prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
        }
    }

    #[test]
    fn any_change_to_a_transaction_gets_an_answer(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let chain = chain(Mining::Automine);
        let mut raw = signed(|_| {});
        let place = place.index(raw.len());
        raw[place] = byte;
        ask(&chain, "eth_sendRawTransaction", json!([hex::encode_prefixed(raw)]));
    }
}
