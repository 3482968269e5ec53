//! `roadstead jobs`, `job` and `bill`, on jobs that are opened by library calls.

use std::{fs, os::unix::fs::PermissionsExt};

use roadstead_chain::Wallet;
use roadstead_core::ports::Call;
use roadstead_publisher::{Deal, OpenRequest, open};
use roadstead_types::{JobId, JobPlan};
use serde_json::{Value, json};

use super::Desk;

/// Prepares a job whose bills the agent of the home accepts, and makes it known there.
async fn adopted(desk: &Desk, salt: u64) -> JobPlan {
    let signer = desk.succeeds(&["jobs"])["agent"]["signer"].as_str().unwrap().parse().unwrap();
    let deal = Deal { signer, ..desk.market.deal(salt) };
    let plan = desk.market.prepare(deal).await.plan;
    let file = desk.roadstead.home().join("plan.json");
    fs::write(&file, serde_json::to_vec(&plan).unwrap()).unwrap();
    desk.succeeds(&["agent", "adopt", file.to_str().unwrap()]);
    plan
}

async fn opened(desk: &Desk, salt: u64) -> JobPlan {
    let plan = adopted(desk, salt).await;
    let ports = desk.market.publisher().await;
    open(&ports, OpenRequest::from(&plan)).await.unwrap();
    plan
}

fn beginning(job: JobId) -> String {
    job.to_string()[..14].to_owned()
}

fn listed(desk: &Desk) -> Vec<Value> {
    desk.succeeds(&["jobs"])["jobs"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_listed_and_shown_while_no_agent_runs() {
    let desk = Desk::new().await;
    let text = String::from_utf8(desk.run(&["jobs"]).stdout).unwrap();
    assert!(text.contains("No job is known here") && text.contains("`roadstead agent`"), "{text}");
    let plan = adopted(&desk, 1).await;
    let [prepared] = &listed(&desk)[..] else { panic!("one was made known") };
    assert_eq!((&prepared["status"], &prepared["deposit"]), (&json!("absent"), &json!(0)));

    let ports = desk.market.publisher().await;
    open(&ports, OpenRequest::from(&plan)).await.unwrap();
    let [open] = &listed(&desk)[..] else { panic!("there is one") };
    assert_eq!(open["job"], json!(plan.key.job));
    assert_eq!((&open["status"], &open["phase"]), (&json!("open"), &Value::Null));
    assert_eq!((&open["deposit"], &open["paid"]), (&json!(1_000_000), &json!(0)));

    let shown = desk.succeeds(&["job", "show", &beginning(plan.key.job)]);
    assert_eq!(shown["terms"], serde_json::to_value(&plan.terms).unwrap());
    assert_eq!(shown["tariff"], serde_json::to_value(plan.tariff).unwrap());
    assert_eq!(shown["source"], json!(plan.source));
    assert_eq!(shown["agent"]["is_running"], false);
    let runway = plan.deposit.units() * 3_600 / plan.terms.rate_per_hour.units();
    assert_eq!(shown["runway"], json!(u64::try_from(runway).unwrap()));
    let text = desk.run(&["job", "show", &plan.key.job.to_string()]).stdout;
    let text = String::from_utf8(text).unwrap();
    for expected in ["1 RTD", "1 d 0 h", &plan.terms.provider.to_string(), "No agent runs"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_stands_for_no_job_is_one_clear_error() {
    let desk = Desk::new().await;
    let unknown = JobId::default().to_string();
    let key = desk.key();
    let commands: [&[&str]; 3] = [
        &["job", "show", &unknown],
        &["job", "close", &unknown, "--key-file", key],
        &["job", "show", "0x000000"],
    ];
    for command in commands {
        let error = desk.fails(command, "knows no job 0x000000");
        assert!(error["message"].as_str().unwrap().contains("none at all"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("agent adopt"), "{error}");
    }
    let error = desk.fails(&["bill", "verify", &unknown], "no plan of job");
    assert!(error["hint"].as_str().unwrap().contains("agent adopt"), "{error}");
    desk.fails(&["job", "topup", &unknown, "1", "--key-file", key], "was never opened");

    let job = opened(&desk, 1).await.key.job;
    let error = desk.fails(&["job", "show", "0x000000"], "knows no job");
    assert!(error["message"].as_str().unwrap().contains(&job.to_string()), "{error}");
    for wrong in ["", "0x123", "jobs", "12345g"] {
        let usage = desk.run(&["job", "show", wrong, "--json"]);
        assert_eq!(usage.status.code(), Some(2), "{wrong}");
        super::only_line(&usage);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_added_to_in_whole_tokens() {
    let desk = Desk::new().await;
    let job = opened(&desk, 1).await.key.job;
    let (named, key) = (beginning(job), desk.key());
    let topup = |amount: &str| {
        let command = ["job", "topup", &named, amount, "--key-file", key];
        command.map(str::to_owned)
    };
    let add = |amount| desk.succeeds(&topup(amount).each_ref().map(String::as_str));
    for deposit in [2_250_000, 3_500_000] {
        let added = add("1.25");
        assert_eq!((&added["added"], &added["deposit"]), (&json!(1_250_000), &json!(deposit)));
        assert_eq!(added["job"], json!(job));
    }
    for (amount, expected) in [
        ("1.0000001", "is no amount"),
        ("some", "is no amount"),
        ("79228162514264337593543", "token units"),
        ("0", "topUp"),
    ] {
        desk.fails(&topup(amount).each_ref().map(String::as_str), expected);
    }
    assert_eq!(listed(&desk)[0]["deposit"], 3_500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_notice_is_over_is_ended_its_bill_verified_and_the_rest_withdrawn() {
    let desk = Desk::new().await;
    let plan = opened(&desk, 1).await;
    let (named, key) = (beginning(plan.key.job), desk.key());
    let error = desk.fails(&["bill", "verify", &named], "is not over");
    assert!(error["hint"].as_str().unwrap().contains("job close"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let stranger = folder.path().join("key");
    fs::write(&stranger, Wallet::random().to_hex().as_bytes()).unwrap();
    fs::set_permissions(&stranger, fs::Permissions::from_mode(0o600)).unwrap();
    let stranger = ["job", "close", &named, "--key-file", stranger.to_str().unwrap()];
    let publisher = plan.terms.publisher.to_string();
    desk.fails(&stranger, &format!("is one of {publisher}, the account that is named is"));

    let ports = desk.market.publisher().await;
    ports.writer.submit(Call::BeginClose(plan.terms.clone())).await.unwrap();
    assert_eq!(desk.succeeds(&["job", "show", &named])["status"], "closing");
    let topup = ["job", "topup", &named, "1", "--key-file", key];
    desk.fails(&topup, "notice was given");
    desk.market.pass(u64::from(plan.terms.notice.0) + 60).await;

    let closed = desk.succeeds(&["job", "close", &named, "--key-file", key]);
    assert_eq!((&closed["status"], &closed["how"]), (&json!("closed"), &json!("notice")));
    assert_eq!((&closed["paid"], &closed["refund"]), (&json!(0), &json!(1_000_000)));
    let again = desk.run(&["job", "close", &named, "--key-file", key]);
    let text = String::from_utf8(again.stdout).unwrap();
    for next in ["1 RTD came back", "roadstead bill verify 0x", "roadstead withdraw"] {
        assert!(text.contains(next), "{text}");
    }
    let bill = desk.succeeds(&["bill", "verify", &named]);
    assert_eq!((&bill["receipts"], &bill["due"], &bill["paid"]), (&json!(0), &json!(0), &json!(0)));
    let withdrawn = desk.succeeds(&["withdraw", "--key-file", key]);
    assert_eq!(withdrawn["amount"], closed["refund"]);
}
