//! Everything but the daemon: what is made, what is registered, what is refused.

use std::{fs, os::unix::fs::MetadataExt, process::Command, time::Instant};

use alloy_primitives::{Address, B256, hex};
use roadstead_chain::Wallet;
use roadstead_journal::StateFolder;
use roadstead_provider::{Keys, registration};
use roadstead_types::{Contracts, Market, PROFILE_VERSION, Profile, Resources, Token};

use super::stage::{Stage, text};
use crate::{
    command::{Roadstead, json, standard_error},
    market::PATIENCE,
};

/// The prices that are asked for where nobody says otherwise, but for memory; in a token of six decimals.
const PRICES: Resources<u128> = Resources {
    // 20 000 units for 3 600 000 ms, a million and 200 for 3 686 400 MiB s, 10 000 for 2^30 bytes.
    cpu: 5_555_555_556,
    memory: 271_267_361_112,
    storage: 54_253_473,
    network_in: 0,
    network_out: 9_313_226,
    accelerator: 0,
};

fn secret_file(stage: &Stage, name: &str, content: &[u8]) -> String {
    let folder = StateFolder::open(stage.place("secrets")).unwrap();
    let path = folder.write_secret(name, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_all_that_a_registration_takes_and_nothing_twice() {
    let stage = Stage::start().await;
    let first = stage.init();
    assert_eq!(first["made"], serde_json::json!(["keys", "account", "market"]));
    let again = stage.succeeds(&["init"]);
    assert_eq!(again["made"], serde_json::json!([]));
    for same in ["account", "peer", "endpoint", "endpoint_bytes", "encryption_key", "profile"] {
        assert_eq!(first[same], again[same]);
    }
    let mode = |file: &str| fs::metadata(stage.home().join(file)).unwrap().mode() & 0o777;
    assert_eq!([mode("wallet.key"), mode("encryption.key"), mode("identity.key")], [0o600; 3]);

    // What it prints is what the library makes of the keys.
    let keys = Keys::load_or_create(&StateFolder::open(stage.home()).unwrap()).unwrap();
    let profile = Profile { version: PROFILE_VERSION, region: "test".into(), prices: PRICES };
    let settings = fs::read_to_string(stage.roadstead.home().join("roadstead.toml")).unwrap();
    let address = settings.split('\'').nth(1).unwrap().parse().unwrap();
    let entry = registration(&keys, address, &profile).unwrap();
    assert_eq!(first["account"], serde_json::json!(stage.local.provider.address()));
    assert_eq!(first["peer"], keys.identity.peer_id().to_string());
    assert_eq!(first["endpoint"], entry.endpoint.to_string());
    assert_eq!(first["endpoint_bytes"], hex::encode_prefixed(entry.endpoint.to_bytes()));
    assert_eq!(first["encryption_key"], hex::encode_prefixed(&entry.keys[0].key));
    assert_eq!(first["profile"], entry.profile.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_key_nor_a_market_is_replaced() {
    let stage = Stage::start().await;
    stage.init();
    let other = secret_file(&stage, "key", Wallet::random().to_hex().as_bytes());
    let said = stage.fails(&["init", "--key-file", &other], "has the account");
    assert!(said.contains("hint: use another folder by --home"), "{said}");

    let market = &stage.local.market;
    let elsewhere = |market: &Market| {
        let path = stage.place("other.toml");
        fs::write(&path, market.to_toml()).unwrap();
        path
    };
    let path = elsewhere(&Market { chain_id: 1, ..market.clone() });
    let said = stage.fails(&["init", "--market", text(&path)], "is of another market");
    assert!(said.contains("roadstead provider reset"), "{said}");
    let kept = fs::read_to_string(stage.home().join("market.toml")).unwrap();
    assert_eq!(Market::from_toml(&kept).unwrap(), *market);

    // The same contracts through another node are the same market.
    let path = elsewhere(&Market { rpc: vec!["http://127.0.0.1:1".into()], ..market.clone() });
    let report = stage.succeeds(&["init", "--market", text(&path)]);
    assert_eq!(report["made"], serde_json::json!(["market"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_is_opened_by_its_password_each_time() {
    let stage = Stage::start().await;
    let keystore = stage.local.provider.to_keystore("open sesame");
    let keystore = secret_file(&stage, "keystore.json", &keystore);
    let password = secret_file(&stage, "password", b"open sesame\n");
    let market = text(&stage.local.market_file);
    let named = ["init", "--market", market, "--keystore", &keystore, "--password-file", &password];
    let report = stage.succeeds(&named);
    assert_eq!(report["account"], serde_json::json!(stage.local.provider.address()));
    // Who it is, is known without the password; what it signs is not.
    assert_eq!(stage.succeeds(&["init"])["account"], report["account"]);
    assert_eq!(stage.succeeds(&["status"])["account"], report["account"]);
    let said =
        stage.fails(&["register"], "there is no terminal to ask for the keystore's password");
    assert!(said.contains("--password-file"), "{said}");
    let registered = stage.succeeds(&["register", "--password-file", &password]);
    assert_eq!(registered["change"], "registered");
    assert!(!stage.home().join("wallet.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_says_what_it_did() {
    let stage = Stage::start().await;
    let made = stage.init();
    assert_eq!(stage.succeeds(&["status"])["chain"]["registry"]["state"], "absent");
    let said = stage.fails(&["run"], "is not registered as a provider");
    assert!(said.contains("hint: `roadstead provider register`"), "{said}");
    for (flags, expected) in [
        (["register"].as_slice(), "registered"),
        (&["register"], "unchanged"),
        (&["register", "--price-cpu", "0.03"], "updated"),
    ] {
        let registered = stage.succeeds(flags);
        assert_eq!(registered["change"], expected);
        assert_eq!(registered["endpoint"], made["endpoint"]);
        assert_eq!(registered["profile"] == made["profile"], expected != "updated");
        let status = stage.succeeds(&["status"]);
        assert_eq!(status["chain"]["registry"]["profile"], registered["profile"]);
    }
    fs::remove_file(stage.home().join("encryption.key")).unwrap();
    for (flags, what) in [
        (["run"].as_slice(), "the registry has other encryption keys"),
        (&["run", "--announce", "/dns4/example.org/tcp/1"], "the registry has the endpoint"),
    ] {
        let said = stage.fails(flags, what);
        assert!(said.contains("hint: `roadstead provider register`"), "{said}");
    }
    assert_eq!(stage.succeeds(&["register", "--price-cpu", "0.03"])["change"], "updated");
    stage.fails(&["run"], "of this provider's region and prices");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_ether_is_told_the_command_that_helps() {
    let stage = Stage::start().await;
    let made = stage.succeeds(&["init", "--market", text(&stage.local.market_file)]);
    assert_eq!(stage.succeeds(&["status"])["chain"]["wei"], 0);
    let account: Address = made["account"].as_str().unwrap().parse().unwrap();
    let said = stage.fails(&["register"], &format!("{account} has no ether to pay the gas"));
    let hint = said.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap();
    let done = Command::new("sh").args(["-c", hint]).output().unwrap();
    assert!(done.status.success(), "{hint}: {}", standard_error(&done));
    // The chain shows it with its next block.
    let start = Instant::now();
    while stage.succeeds(&["status"])["chain"]["wei"] == 0 {
        assert!(start.elapsed() < PATIENCE, "{hint}: there is no ether");
    }
    assert_eq!(stage.succeeds(&["register"])["change"], "registered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_of_real_money_takes_a_word_more() {
    let stage = Stage::start().await;
    let market = Market { devnet: false, ..stage.local.market.clone() };
    let path = stage.place("market.toml");
    fs::write(&path, market.to_toml()).unwrap();
    let key = text(&stage.local.provider_key);
    let init = ["init", "--market", text(&path), "--key-file", key];
    // The address that the stage listens at is of this machine alone.
    let said = stage.fails(&init, "leads to whoever dials it themselves");
    assert!(said.contains("--announce /ip4/203.0.113.7"), "{said}");
    assert!(!stage.home().exists());

    let announced = ["--announce", "/ip4/203.0.113.7/tcp/47600"];
    stage.succeeds(&[&init[..], &announced].concat());
    let said = stage.fails(&["run"], "strangers' containers share this machine's kernel");
    assert!(said.contains("hint: --i-know-this-is-early"), "{said}");
    let run = ["run", "--i-know-this-is-early"];
    stage.fails(&run, "leads to whoever dials it themselves");
    stage.fails(&[&run[..], &announced].concat(), "is not registered as a provider");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_provider_leaves_nothing_behind() {
    let stage = Stage::start().await;
    let market = text(&stage.local.market_file);
    let missing = stage.place("missing");
    for (flags, what) in [
        (["--key-file", text(&missing)], "cannot be read"),
        (["--keystore", text(&missing)], "cannot be read"),
        (["--min-interval", "2h"], "is longer than the longest"),
        (["--settle-value", "much"], "--settle-value cannot be used"),
    ] {
        stage.fails(&[&["init", "--market", market][..], &flags].concat(), what);
        assert!(!stage.home().exists(), "{flags:?}");
    }
    stage.init();
    // Nor is gas paid for what could not be run.
    stage.fails(&["register", "--settle-value", "much"], "--settle-value cannot be used");
    stage.fails(&["register", "--min-interval", "2h"], "is longer than the longest");
    assert_eq!(stage.succeeds(&["status"])["chain"]["registry"]["state"], "absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_moved_aside_is_taken_in_by_the_command_that_is_named() {
    let stage = Stage::start().await;
    let market = text(&stage.local.market_file);
    let made = stage.succeeds(&["init", "--market", market]);
    assert_eq!(made["set_aside"], serde_json::json!([]));
    let output = stage.provider(&["reset", "--yes"]);
    assert!(output.status.success(), "{}", standard_error(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    let account: Address = made["account"].as_str().unwrap().parse().unwrap();
    let aside = stage.home().join(format!("wallet-{account}.key"));
    let back = format!("`roadstead provider init --key-file {}`", aside.display());
    assert!(said.contains(&back), "{said}");

    let output = stage.provider(&["init", "--market", market]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("another account that was moved aside") && said.contains(&back),
        "{said}"
    );
    stage.succeeds(&["reset", "--yes"]);
    let again = stage.succeeds(&["init", "--market", market, "--key-file", text(&aside)]);
    assert_eq!(again["account"], made["account"]);
    assert_eq!(again["set_aside"], serde_json::json!([]));
}

#[test]
fn what_nobody_could_dial_is_not_announced() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["provider", "run"]);
    assert_eq!(output.status.code(), Some(1));
    let said = standard_error(&output);
    assert!(said.contains("hint: `roadstead provider init` makes one"), "{said}");
    assert!(roadstead.files().is_empty());

    let output = roadstead.run(&["provider", "init", "--json"]);
    assert!(json(&output)["error"]["hint"].as_str().unwrap().contains("roadstead devnet"));
    assert!(roadstead.files().is_empty());

    let market = Market {
        devnet: true,
        chain_id: 31_337,
        genesis: B256::ZERO,
        rpc: vec!["http://127.0.0.1:1".into()],
        contracts: Contracts { registry: Address::ZERO, payment: Address::ZERO },
        token: Token { address: Address::ZERO, symbol: "RTD".into(), decimals: 6 },
        from_block: 0,
        confirmations: 0,
    };
    let file = roadstead.home().join("market.toml");
    fs::write(&file, market.to_toml()).unwrap();
    for (listen, why) in [
        ("/ip4/0.0.0.0/tcp/47600", "stands for every address of this machine"),
        ("/ip4/127.0.0.1/tcp/0", "names no port"),
        ("/ip4/127.0.0.1/udp/47600", "is not of the form"),
    ] {
        let init = ["provider", "init", "--market", text(&file), "--listen", listen];
        let output = roadstead.run(&init);
        let said = standard_error(&output);
        assert!(said.contains(why) && said.contains("--announce /ip4/203.0.113.7"), "{said}");
        // With a name for others it is no trouble to listen there.
        let named = [&init[..], &["--announce", "/dns4/example.org/tcp/47600", "--json"]].concat();
        let output = roadstead.run(&named);
        assert!(output.status.success(), "{}", standard_error(&output));
        let endpoint = json(&output)["endpoint"].as_str().unwrap().to_owned();
        assert!(endpoint.starts_with("/dns4/example.org/tcp/47600/p2p/"), "{endpoint}");
    }
}
