//! Through `cast`, which is a client that others wrote.

use std::process::Stdio;
use std::time::Duration;

use alloy::primitives::{Address, hex};
use roadstead_devchain::{Mining, Server};
use serde_json::Value;
use tokio::process::Command;

use crate::fixture::{POOR, alice, chain, probe_code, served};

/// How long one command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs `cast` against the server, and returns what it prints and whether it succeeded.
async fn run(server: &Server, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new("cast");
    command
        .args(&arguments[..1])
        .args(["--rpc-url", &server.url()])
        .args(&arguments[1..])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .unwrap_or_else(|_| panic!("cast takes too long: {arguments:?}"))
        .expect("cast does not start from the PATH: run script/setup");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

async fn cast(server: &Server, arguments: &[&str]) -> String {
    let (success, output, errors) = run(server, arguments).await;
    assert!(success, "{arguments:?}: {errors}");
    output
}

async fn send(server: &Server, arguments: &[&str]) -> Value {
    let key = hex::encode_prefixed(alice().to_bytes());
    let mut all = vec!["send", "--json", "--private-key", &key];
    all.extend(arguments);
    serde_json::from_str(&cast(server, &all).await).unwrap()
}

#[tokio::test]
async fn cast_works_unchanged() {
    let server = served(&chain(Mining::Automine)).await;
    let [alice, poor] = [alice().address(), POOR].map(|address| address.to_string());

    let receipt = send(&server, &[&poor, "--value", "1ether"]).await;
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(cast(&server, &["balance", "--ether", &poor]).await, "1.000000000000000000");
    assert_eq!(cast(&server, &["nonce", &alice]).await, "1");
    assert_eq!(cast(&server, &["block-number"]).await, "1");
    assert_eq!(cast(&server, &["chain-id"]).await, "31337");

    let receipt = send(&server, &["--create", &probe_code().to_string()]).await;
    let probe: Address = receipt["contractAddress"].as_str().unwrap().parse().unwrap();
    let probe = probe.to_string();
    assert!(cast(&server, &["code", &probe]).await.len() > 1_000);

    let receipt = send(&server, &[&probe, "store(uint256,uint256)", "7", "42"]).await;
    assert_eq!(receipt["logs"].as_array().unwrap().len(), 1);
    let hash = receipt["transactionHash"].as_str().unwrap();
    assert_eq!(cast(&server, &["receipt", hash, "status"]).await, "true");
    assert_eq!(cast(&server, &["tx", hash, "nonce"]).await, "2");
    assert_eq!(cast(&server, &["call", &probe, "stored(uint256)(uint256)", "7"]).await, "42");
    let before = ["call", "--block", "2", &probe, "stored(uint256)(uint256)", "7"];
    assert_eq!(cast(&server, &before).await, "0");
    assert_eq!(cast(&server, &["storage", &probe, "1"]).await, format!("0x{}", "0".repeat(64)));

    let block: Value =
        serde_json::from_str(&cast(&server, &["block", "--json", "latest"]).await).unwrap();
    assert_eq!(block["number"], "0x3");
    assert_eq!(block["transactions"][0], hash);
    assert_eq!(cast(&server, &["block", "latest", "--field", "number"]).await, "3");

    let event = "Stored(address indexed who, uint256 indexed key, uint256 value)";
    let found = cast(&server, &["logs", "--json", "--from-block", "0", event, &alice]).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["transactionHash"], hash);

    let estimate = ["estimate", "--from", &alice, &probe, "store(uint256,uint256)", "7", "43"];
    let estimate: u64 = cast(&server, &estimate).await.parse().unwrap();
    assert!((26_000..40_000).contains(&estimate), "{estimate}");
    assert!(cast(&server, &["gas-price"]).await.parse::<u64>().unwrap() > 1_000_000_000);

    let (success, _, errors) = run(&server, &["call", &probe, "failWithReason()"]).await;
    assert!(!success && errors.contains("not today"), "{errors}");
    cast(&server, &["rpc", "evm_increaseTime", "3600"]).await;
    cast(&server, &["rpc", "evm_mine"]).await;
    assert_eq!(cast(&server, &["block-number"]).await, "4");
    server.shutdown().await;
}
