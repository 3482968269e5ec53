//! `roadstead demo`, as a user runs it.

use std::time::Duration;

use roadstead_devnet::{Blocks, ChainChoice, LocalChain};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::command::{Roadstead, finish, json, signal_after, signal_after_with, standard_error};

fn assert_complete(result: &Value, chain: &str) {
    let number = |key: &str| result[key].as_u64().unwrap();
    assert_eq!(result["chain"], chain);
    assert_eq!(result["chain_id"], 31_337);
    assert_eq!(number("deposit"), number("paid") + number("refunded"));
    assert!(number("paid") > 0, "{result}");
    assert!(number("refunded") > 0, "{result}");
    assert_eq!(result["job"].as_str().unwrap().len(), 66);
    for contract in ["registry", "payment", "token"] {
        assert_eq!(result["contracts"][contract].as_str().unwrap().len(), 42);
    }
    for stage in ["market", "register", "open", "start_fee", "close"] {
        assert!(result["timings_ms"][stage].as_u64().unwrap() > 0, "{stage}: {result}");
    }
}

#[test]
fn two_demonstrations_at_once_balance_their_books_and_leave_nothing() {
    let roadstead = Roadstead::new();
    let demo = || roadstead.command(&["demo", "--json"]).spawn().unwrap();
    let (first, second) = (demo(), demo());
    for demo in [first, second] {
        let output = finish(demo);
        assert!(output.status.success(), "{}", standard_error(&output));
        assert_complete(&json(&output), "embedded");
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
    assert!(roadstead.files().is_empty(), "{:?}", roadstead.files());
}

#[test]
fn the_demonstration_plays_on_anvil() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["demo", "--chain", "anvil", "--json"]);
    assert!(output.status.success(), "{}", standard_error(&output));
    assert_complete(&json(&output), "anvil");
    assert!(roadstead.files().is_empty());
}

#[test]
fn people_get_a_table_that_says_what_is_not_there_yet() {
    let roadstead = Roadstead::new();
    let mut command = roadstead.command(&["demo"]);
    // A proxy that does not know this machine changes nothing.
    command.env("HTTP_PROXY", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
    let output = finish(command.spawn().unwrap());
    assert!(output.status.success(), "{}", standard_error(&output));
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(table.contains("paid 0.05 RTD + refunded 1.95 RTD = deposit"), "{table}");
    assert!(table.contains("not there yet"), "{table}");
    assert!(standard_error(&output).starts_with("This plays a market on this machine"));
}

#[test]
fn interrupted_while_the_job_is_open_it_closes_the_job() {
    for chain in ["embedded", "anvil"] {
        let roadstead = Roadstead::new();
        let demo = roadstead.command(&["demo", "--chain", chain]).spawn().unwrap();
        let (status, rest) = signal_after(demo, "learned of the job", Signal::INT);
        assert_eq!(status, 130, "{chain}: {rest}");
        assert!(rest.contains("The job was closed, "), "{chain}: {rest}");
        assert!(rest.contains("The publisher withdrew "), "{chain}: {rest}");
        assert!(roadstead.files().is_empty());
    }
}

#[test]
fn interrupted_twice_it_gives_up() {
    let roadstead = Roadstead::new();
    let chain = LocalChain::start(&ChainChoice::Anvil, Blocks::Every(Duration::from_secs(1)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chain = runtime.block_on(chain).unwrap();
    let demo = roadstead.command(&["demo", "--chain", chain.url()]).spawn().unwrap();
    let group = Pid::from_raw(demo.id().try_into().unwrap()).unwrap();
    let second = move |line: &str| {
        if line.contains("Once more to give that up") {
            kill_process_group(group, Signal::INT).unwrap();
        }
    };
    let (status, rest) = signal_after_with(demo, "learned of the job", Signal::INT, second);
    assert_eq!(status, 130, "{rest}");
    assert!(rest.contains("the job may be open"), "{rest}");
    assert!(roadstead.files().is_empty());
    runtime.block_on(chain.shutdown());
}

#[test]
fn terminated_before_a_job_is_open_it_cleans_up() {
    let roadstead = Roadstead::new();
    let demo = roadstead.command(&["demo", "--chain", "anvil"]).spawn().unwrap();
    let (status, rest) = signal_after(demo, "plays a market", Signal::TERM);
    assert_eq!(status, 130, "{rest}");
    assert!(rest.contains("No job was open."), "{rest}");
    assert!(roadstead.files().is_empty());
}

#[test]
fn a_home_that_the_demonstration_made_goes_with_it() {
    let roadstead = Roadstead::new();
    let home = roadstead.home().join("new");
    let mut command = roadstead.command(&["demo", "--chain", "http://127.0.0.1:1"]);
    let output = finish(command.env("ROADSTEAD_HOME", &home).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(!home.exists());
}

#[test]
fn what_is_kept_holds_a_market_file_without_keys() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["demo", "--keep", "--json"]);
    assert!(output.status.success(), "{}", standard_error(&output));
    let folder = roadstead.files().pop().unwrap();
    let market = std::fs::read_to_string(folder.join("market/market.toml")).unwrap();
    let market = roadstead_types::Market::from_toml(&market).unwrap();
    let payment = json(&output)["contracts"]["payment"].as_str().unwrap().to_owned();
    assert_eq!(market.contracts.payment.to_string().to_lowercase(), payment.to_lowercase());
}

#[test]
fn a_chain_that_is_not_there_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["demo", "--chain", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: the chain cannot be used: eth_chainId failed: "), "{error}");
    assert!(error.contains("hint: "), "{error}");
    assert!(roadstead.files().is_empty());
}

#[test]
fn a_missing_anvil_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let mut command = roadstead.command(&["demo", "--chain", "anvil"]);
    let output = finish(command.env("PATH", roadstead.home()).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: `anvil` is not on the path"), "{error}");
    assert!(error.contains("hint: `script/setup` installs it"), "{error}");
}

#[test]
fn a_home_that_cannot_be_written_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let file = roadstead.home().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = roadstead.command(&["demo"]);
    let output = finish(command.env("ROADSTEAD_HOME", file.join("home")).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(standard_error(&output).contains("error: cannot create "));
}
