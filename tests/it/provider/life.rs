//! The daemon's process: its jobs outlive it, and it finds them again.

use std::fs;

use roadstead_types::JobId;
use rustix::process::Signal;
use serde_json::Value;

use super::stage::{Daemon, Stage, call, left_of, text};
use crate::command::standard_error;

/// A provider that is registered.
async fn registered() -> Stage {
    let stage = Stage::start().await;
    stage.init();
    stage.succeeds(&["register"]);
    stage
}

/// The one job in a status.
fn job(status: &Value) -> &Value {
    let jobs = status["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{status}");
    &jobs[0]
}

fn url(status: &Value) -> String {
    job(status)["urls"]["8080"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned()
}

fn is_job(status: &Value, id: JobId) {
    assert_eq!(job(status)["job"], id.to_string());
    assert_eq!(job(status)["phase"], "running", "{status}");
    assert_eq!(job(status)["deposit"], 5_000_000);
}

async fn a_job_outlives_its_daemon(engine: &str) {
    let mut stage = registered().await;
    let status = stage.succeeds(&["status"]);
    assert_eq!((&status["daemon"], &status["jobs"]), (&Value::Null, &Value::Array(Vec::new())));
    let mut daemon = stage.run(&["--engine", engine]);
    assert_eq!(daemon.ready["engine"], engine);
    assert_eq!(daemon.ready["containers"], 0);
    let mut publisher = stage.publisher().await;
    let id = publisher.open_job(&stage).await;
    daemon.says("its container runs");
    publisher.accepts(0, 1).await;

    let status = stage.succeeds(&["status"]);
    is_job(&status, id);
    assert_eq!(status["daemon"]["pid"], daemon.ready["pid"]);
    assert_eq!(status["daemon"]["engine"], engine);
    assert_eq!(status["chain"]["registry"]["endpoint"], daemon.ready["endpoint"]);
    assert!(status["chain"]["wei"].as_f64().unwrap() > 9e20, "{status}");
    for sum in ["metered", "accepted", "paid", "runway", "open_for"] {
        assert!(job(&status)[sum].as_u64().unwrap() > 0, "{sum}: {status}");
    }
    let url = url(&status);
    assert_eq!(call(&url), 200);
    second_daemons_are_refused(&stage);

    // Ctrl-C.
    let (code, said) = daemon.end(Signal::INT);
    assert_eq!(code, Some(0), "{said:#?}");
    let said = said.join("\n");
    let goes_on = "One container goes on; `roadstead provider run` adopts it";
    assert!(said.contains(goes_on), "{said}");
    assert_eq!(call(&url), 200);
    let status = stage.succeeds(&["status"]);
    is_job(&status, id);
    assert_eq!(
        (&status["daemon"], job(&status)["urls"]["8080"].as_str()),
        (&Value::Null, Some(&*url))
    );
    another_engine_is_refused(&stage, engine);
    // Whatever the environment says by now: the daemon is remembered.
    stage.let_docker_be("unix:///nowhere/docker.sock");
    if engine == "docker" {
        another_daemon_is_refused(&stage);
    }

    // The engine is remembered; the receipts go on where they ended.
    let mut daemon = stage.run(&[]);
    adopted(&daemon, engine, &url);
    publisher.accepts(2, 3).await;
    daemon.end(Signal::KILL);
    assert_eq!(call(&url), 200);
    let mut daemon = stage.run(&[]);
    adopted(&daemon, engine, &url);
    publisher.accepts(4, 5).await;

    stage.fails(&["reset", "--yes"], "is in use by");
    assert_eq!(daemon.end(Signal::TERM).0, Some(0));
    reset_leaves_nothing(&stage, engine);
}

fn adopted(daemon: &Daemon, engine: &str, url: &str) {
    assert_eq!((&daemon.ready["engine"], &daemon.ready["containers"]), (&engine.into(), &1.into()));
    assert!(daemon.says("its container runs").contains(url));
    assert_eq!(call(url), 200);
}

fn second_daemons_are_refused(stage: &Stage) {
    for command in [["run"].as_slice(), &["register"]] {
        let said = stage.fails(command, "is in use by");
        assert!(said.contains("hint: end the other process"), "{said}");
    }
}

fn another_engine_is_refused(stage: &Stage, engine: &str) {
    let other = if engine == "docker" { "embedded" } else { "docker" };
    let place = if engine == "docker" { "docker " } else { engine };
    let what = format!("the engine `{place}");
    let said = stage.fails(&["run", "--engine", other], &what);
    assert!(said.contains("which was used so far, still has containers: 1"), "{said}");
    assert!(said.contains("roadstead provider reset"), "{said}");
}

fn another_daemon_is_refused(stage: &Stage) {
    let said = stage.fails(&["run", "--engine", "docker"], "still has containers: 1");
    assert!(said.contains("is `docker unix:///nowhere/docker.sock`"), "{said}");
    assert!(said.contains("leave out --engine"), "{said}");
}

fn reset_leaves_nothing(stage: &Stage, engine: &str) {
    let name = fs::read_to_string(stage.home().join("engine").join(engine).join("name.json"));
    let name = name.unwrap().trim_matches('"').to_owned();
    assert!(!left_of(&stage.home(), &name).is_empty());
    let report = stage.succeeds(&["reset", "--yes"]);
    assert_eq!((&report["containers"], &report["images"]), (&1.into(), &1.into()));
    assert_eq!(report["open_jobs"], 1);
    let left = left_of(&stage.home(), &name);
    assert!(left.is_empty(), "{left:#?}");
    let account = stage.local.provider.address();
    let wallet = stage.home().join(format!("wallet-{account}.key"));
    assert_eq!(report["wallet"], text(&wallet));
    let mut files: Vec<_> =
        fs::read_dir(stage.home()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let kept = ["encryption.key", "identity.key", "lock"].map(|name| stage.home().join(name));
    assert_eq!(files, [&kept[..], &[wallet]].concat());
    stage.fails(&["status"], "there is no provider in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_its_daemon_in_the_embedded_engine() {
    a_job_outlives_its_daemon("embedded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_outlives_its_daemon_in_docker() {
    a_job_outlives_its_daemon("docker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_is_gone_is_forgotten_and_another_one_taken_in() {
    let stage = registered().await;
    let key = stage.init()["encryption_key"].clone();
    assert_eq!(stage.run(&[]).end(Signal::INT).0, Some(0));
    let other = Stage::start().await;
    fs::write(stage.home().join("market.toml"), other.local.market.to_toml()).unwrap();
    let said = stage.fails(&["run"], "belongs to another life of the chain");
    assert!(said.contains("hint: a local market lives as long as its process"), "{said}");

    let said = stage.fails(&["reset"], "there is no terminal to ask at");
    assert!(said.contains("--yes"), "{said}");
    // The journal is another market's, so its jobs cannot be counted; it goes all the same.
    let report = stage.succeeds(&["reset", "--yes"]);
    assert_eq!((&report["containers"], &report["open_jobs"]), (&0.into(), &Value::Null));

    let (market, account) = (text(&other.local.market_file), text(&other.local.provider_key));
    let again = stage.succeeds(&["init", "--market", market, "--key-file", account]);
    assert_eq!(again["encryption_key"], key);
    assert_eq!(again["account"], serde_json::json!(other.local.provider.address()));
    stage.succeeds(&["register"]);
    assert_eq!(stage.run(&[]).end(Signal::INT).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_is_gone_keeps_nobody_from_a_reset() {
    let mut stage = registered().await;
    stage.run(&[]).end(Signal::KILL);
    stage.chain.take().unwrap().shutdown().await;
    let status = stage.succeeds(&["status"]);
    assert_eq!(status["account"], serde_json::json!(stage.local.provider.address()));
    assert_eq!((&status["chain"], &status["jobs"]), (&Value::Null, &Value::Array(Vec::new())));
    let why = status["chain_error"].as_str().unwrap();
    assert!(why.contains("failed"), "{why}");
    let said = stage.fails(&["run"], "the market's chain cannot be used");
    assert!(said.contains("hint: does the node at the market file's address run?"), "{said}");
    let report = stage.succeeds(&["reset", "--yes"]);
    assert_eq!((&report["containers"], &report["open_jobs"]), (&0.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_market_that_was_started_anew_is_another_one() {
    let mut stage = registered().await;
    assert_eq!(stage.run(&[]).end(Signal::INT).0, Some(0));
    stage.restart_chain().await;
    for command in [["run"].as_slice(), &["register"]] {
        let said = stage.fails(command, "the market file says");
        for reset in ["`roadstead provider reset`", "`roadstead agent reset`"] {
            assert!(said.contains(reset), "{said}");
        }
    }
    let status = stage.succeeds(&["status"]);
    let why = status["chain_error"].as_str().unwrap();
    assert!(why.contains("the market file says"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_that_did_not_finish_is_no_provider_and_is_finished_by_another() {
    let stage = registered().await;
    let mut daemon = stage.run(&[]);
    let publisher = stage.publisher().await;
    publisher.open_job(&stage).await;
    daemon.says("its container runs");
    daemon.end(Signal::KILL);
    let name = fs::read_to_string(stage.home().join("engine/embedded/name.json")).unwrap();
    // The last but one thing that a reset does fails: the account's file is a folder.
    let account = stage.home().join("account");
    fs::remove_file(&account).unwrap();
    fs::create_dir(&account).unwrap();
    let output = stage.provider(&["reset", "--yes"]);
    let said = standard_error(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ending container 1 of 1"), "{said}");

    let market = text(&stage.local.market_file);
    for command in [["run"].as_slice(), &["register"], &["status"], &["init", "--market", market]] {
        let said = stage.fails(command, "is not initialised: `provider reset` did not finish");
        assert!(said.contains("hint: `roadstead provider reset` finishes it"), "{said}");
    }
    fs::remove_dir(&account).unwrap();
    let report = stage.succeeds(&["reset", "--yes"]);
    assert_eq!((&report["containers"], &report["open_jobs"]), (&0.into(), &Value::Null));
    assert!(left_of(&stage.home(), name.trim_matches('"')).is_empty());
    stage.init();
    stage.succeeds(&["register"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_about_the_engine_that_makes_no_sense_keeps_nobody_from_a_reset() {
    let stage = registered().await;
    let mut daemon = stage.run(&[]);
    let publisher = stage.publisher().await;
    publisher.open_job(&stage).await;
    daemon.says("its container runs");
    daemon.end(Signal::KILL);
    fs::write(stage.home().join("engine.txt"), "neither").unwrap();
    let said = stage.fails(&["run"], "engine.txt does not say which engine was used");
    assert!(said.contains("hint: write `embedded` into that file"), "{said}");
    let report = stage.succeeds(&["reset", "--yes"]);
    assert_eq!((&report["containers"], &report["open_jobs"]), (&1.into(), &1.into()));
}
