//! Whose money it is: keys, keystores, passwords.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
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
use serde_json::{Value, json};

use super::{Desk, failed, only_line, succeeded};
use crate::{
    command::{finish, standard_error},
    market::{PATIENCE, amount, tokens},
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
        fs::write(&settings, format!("keystore = '{exposed}'\nkey-file = '/nowhere'")).unwrap();
        desk.fails(command, "both a key file and a keystore");
        fs::remove_file(settings).unwrap();
    }
    // A path in the environment counts more than the settings, and the command line more than both.
    let settings = desk.roadstead.home().join("roadstead.toml");
    fs::write(&settings, format!("keystore = '{exposed}'")).unwrap();
    let withdraw = |variable: &str, path: &str, flag: &[&str]| {
        let mut command = desk.command(&[&["withdraw", "--json"], flag].concat());
        command.env(variable, path);
        finish(command.spawn().unwrap())
    };
    succeeded(&withdraw("ROADSTEAD_KEY_FILE", desk.key(), &[]));
    succeeded(&withdraw("ROADSTEAD_KEYSTORE", exposed, &["--key-file", desk.key()]));
    failed(&withdraw("ROADSTEAD_KEYSTORE", "/nowhere/variable", &[]), "/nowhere/variable");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_whose_process_died_is_paid_once_and_said_so() {
    let desk = Desk::new().await;
    let ports = desk.market.publisher().await;
    let request =
        OpenRequest { terms: desk.market.terms(1), deposit: amount(100_000), source: Bytes::new() };
    let job = open(&ports, request).await.unwrap().job.to_string();
    // So that the top-up is the only transaction.
    ports.writer.submit(Call::Approve { amount: amount(10_000_000) }).await.unwrap();
    let client = desk.market.foreign(&desk.market.local.publisher);
    let mine_at_once = async |at_once: bool| {
        let set = client.raw_request::<_, Value>("evm_setAutomine".into(), (at_once,));
        set.await.unwrap();
    };
    let publisher = desk.market.local.publisher.address();
    let sent = async || client.get_transaction_count(publisher).pending().await.unwrap();
    let before = sent().await;
    mine_at_once(false).await;
    let topup = ["job", "topup", &job, "1", "--key-file", desk.key()];
    let mut killed = desk.command(&topup).spawn().unwrap();
    let is_sent = async {
        while sent().await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_sent).await.unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    mine_at_once(true).await;

    let told = desk.succeeds(&topup);
    assert_eq!((&told["resumed"], &told["added"]), (&json!(true), &json!(1_000_000)));
    assert_eq!((sent().await, &told["deposit"]), (before + 1, &json!(1_100_000)));
    let added = desk.succeeds(&topup);
    assert_eq!((&added["resumed"], &added["deposit"]), (&json!(false), &json!(2_100_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_taken_for_another_file_is_not_repeated() {
    let desk = Desk::new().await;
    let folder = tempfile::tempdir().unwrap();
    let key = Wallet::random().to_hex();
    let key = &key[2..];
    let settings = desk.roadstead.home().join("roadstead.toml");
    for content in
        [format!("0x{key}\n"), key.to_owned(), format!("\"{key}\""), format!("[\"{key}\"]")]
    {
        let file = secret(folder.path(), "file", content.as_bytes());
        let file = file.to_str().unwrap();
        let password = secret(folder.path(), "password", b"open sesame");
        let password = password.to_str().unwrap();
        let commands: [&[&str]; 4] = [
            &["jobs", "--market", file],
            &["withdraw", "--keystore", file, "--password-file", password],
            &["agent", "adopt", file],
            &["publish", "-f", file, "--key-file", desk.key()],
        ];
        let check = |command: &[&str]| {
            let output = desk.run(&[command, &["--json"]].concat());
            let error = failed(&output, "");
            let (said, shown) = (standard_error(&output), error.to_string());
            for part in [&key[..8], &key[28..36], &key[56..]] {
                assert!(!said.contains(part) && !shown.contains(part), "{command:?}: {said}");
            }
        };
        for command in commands {
            check(command);
        }
        fs::copy(file, &settings).unwrap();
        check(&["jobs"]);
        fs::remove_file(&settings).unwrap();
    }
}
