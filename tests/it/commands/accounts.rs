//! Whose money it is: keys, keystores, passwords.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use alloy::{
    primitives::{Bytes, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use roadstead_abi::TestToken;
use roadstead_chain::Wallet;
use roadstead_core::ports::Call;
use roadstead_publisher::{OpenRequest, open};
use roadstead_types::{JobId, Terms};
use serde_json::json;

use super::{Desk, failed, only_line};
use crate::{
    command::finish,
    market::{amount, tokens},
};

/// Writes a file for its owner alone.
fn secret(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Opens a job that its provider declines, so that the deposit is the publisher's free balance.
async fn credit(desk: &Desk, units: u128) -> JobId {
    let (publisher, provider) = (desk.market.publisher().await, desk.market.provider().await);
    let terms = Terms { start_fee: amount(0), ..desk.market.terms(1) };
    let request =
        OpenRequest { terms: terms.clone(), deposit: amount(units), source: Bytes::new() };
    let job = open(&publisher, request).await.unwrap().job;
    provider.writer.submit(Call::Decline(terms)).await.unwrap();
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_withdrawn_once_and_nothing_is_no_error() {
    let desk = Desk::new().await;
    let withdraw = ["withdraw", "--key-file", desk.key()];
    let to = json!(desk.market.local.publisher.address());
    let nothing = desk.succeeds(&withdraw);
    assert_eq!(nothing, json!({ "amount": 0, "to": to, "transaction": null }));
    let text = String::from_utf8(desk.run(&withdraw).stdout).unwrap();
    assert!(text.contains("holds nothing"), "{text}");

    let ports = desk.market.publisher().await;
    let account = desk.market.local.publisher.address();
    credit(&desk, 1_500_000).await;
    let before = tokens(&*ports.reader, account).await;
    let withdrawn = desk.succeeds(&withdraw);
    assert_eq!((&withdrawn["amount"], &withdrawn["to"]), (&json!(1_500_000), &to));
    assert!(withdrawn["transaction"].is_string(), "{withdrawn}");
    let after = tokens(&*ports.reader, account).await;
    assert_eq!(after - before, U256::from(1_500_000));
    assert_eq!(desk.succeeds(&withdraw)["amount"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_opens_with_the_password_of_a_file_and_with_no_other() {
    let desk = Desk::new().await;
    let folder = tempfile::tempdir().unwrap();
    let json = desk.market.local.publisher.to_keystore("open sesame");
    let keystore = secret(folder.path(), "keystore", &json);
    let right = secret(folder.path(), "right", b"open sesame\n");
    let wrong = secret(folder.path(), "wrong", b"open barley\n");
    let keystore = keystore.to_str().unwrap();
    let withdraw = |password: &Path| {
        let command =
            ["withdraw", "--keystore", keystore, "--password-file", password.to_str().unwrap()];
        command.map(str::to_owned)
    };
    let right = withdraw(&right);
    let withdrawn = desk.succeeds(&right.each_ref().map(String::as_str));
    assert_eq!(withdrawn["to"], json!(desk.market.local.publisher.address()));
    let wrong = withdraw(&wrong);
    let error = desk.fails(&wrong.each_ref().map(String::as_str), "cannot be opened");
    assert!(error["message"].as_str().unwrap().contains("password"), "{error}");
    let error = desk.fails(&["withdraw", "--keystore", keystore], "no terminal");
    assert!(error["hint"].as_str().unwrap().contains("--password-file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_no_account_or_a_careless_one_is_told_so() {
    let desk = Desk::new().await;
    let folder = tempfile::tempdir().unwrap();
    let key = Wallet::random().to_hex();
    let exposed = secret(folder.path(), "exposed", key.as_bytes());
    fs::set_permissions(&exposed, Permissions::from_mode(0o644)).unwrap();
    let exposed = exposed.to_str().unwrap();
    let empty = secret(folder.path(), "empty", b"");
    let job = JobId::default().to_string();
    let commands: [&[&str]; 3] =
        [&["withdraw"], &["job", "topup", &job, "1"], &["job", "close", &job]];
    for command in commands {
        let error = desk.fails(command, "no account is named");
        assert!(error["hint"].as_str().unwrap().contains("--key-file"), "{error}");
        let error =
            desk.fails(&[command, &["--key-file", exposed]].concat(), "others than its owner");
        assert!(error["hint"].as_str().unwrap().contains("chmod 600"), "{error}");
        let empty = ["--key-file", empty.to_str().unwrap()];
        desk.fails(&[command, &empty].concat(), "does not hold a key");

        // Both at once: on one command line, and by the settings.
        let both = ["--key-file", desk.key(), "--keystore", exposed, "--json"];
        let usage = desk.run(&[command, &both].concat());
        assert_eq!(usage.status.code(), Some(2));
        let message = only_line(&usage)["error"]["message"].clone();
        assert!(message.as_str().unwrap().contains("cannot be used with"), "{message}");
        let settings = desk.roadstead.home().join("roadstead.toml");
        fs::write(&settings, format!("keystore = '{exposed}'")).unwrap();
        let output = desk.run(&[command, &["--key-file", desk.key(), "--json"]].concat());
        failed(&output, "both a key file and a keystore");
        fs::remove_file(settings).unwrap();
    }
    // A key in the environment is not a file.
    let mut command = desk.command(&["withdraw", "--json"]);
    command.env("ROADSTEAD_KEY_FILE", desk.key());
    super::succeeded(&finish(command.spawn().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_ether_is_told_how_to_get_some() {
    let desk = Desk::new().await;
    let folder = tempfile::tempdir().unwrap();
    let poor = Wallet::random();
    let key = secret(folder.path(), "key", poor.to_hex().as_bytes());
    let terms = desk.market.terms(1);
    let ports = desk.market.publisher().await;
    let request = OpenRequest { terms, deposit: amount(100_000), source: Bytes::new() };
    let job = open(&ports, request).await.unwrap().job.to_string();
    let topup = ["job", "topup", &job, "0.5", "--key-file", key.to_str().unwrap()];
    let error = desk.fails(&topup, "holds 0 token units, 500000 are to be added");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("mint(address,uint256)") && hint.contains("500000"), "{hint}");
    let account = poor.address();
    let mint = TestToken::mintCall { account, amount: U256::from(500_000) }.abi_encode();
    let token = desk.market.market().token.address;
    let mint = TransactionRequest::default().to(token).input(mint.into());
    let wallet = desk.market.foreign(&desk.market.local.publisher);
    wallet.send_transaction(mint).await.unwrap().get_receipt().await.unwrap();
    let error = desk.fails(&topup, "no ether to pay the gas of approve");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("anvil_setBalance") && hint.contains(&account.to_string()), "{hint}");
}
