//! The publisher's small commands, as a user runs them on a market that the test makes. With `--json` each prints
//! exactly one line on standard output, whatever becomes of it.

mod accounts;
mod images;
mod jobs;
mod providers;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use roadstead_devnet::ChainChoice;
use roadstead_journal::StateFolder;
use serde_json::Value;

use crate::{
    command::{Roadstead, finish, standard_error},
    market::TestMarket,
};

/// Every command that can be given, as far as its help goes.
const COMMANDS: [&[&str]; 14] = [
    &[],
    &["jobs"],
    &["job"],
    &["job", "show"],
    &["job", "topup"],
    &["job", "close"],
    &["bill"],
    &["bill", "verify"],
    &["withdraw"],
    &["providers"],
    &["image"],
    &["image", "seal"],
    &["image", "inspect"],
    &["paths"],
];

/// A market, and a home in which the commands are run.
struct Desk {
    market: TestMarket,
    roadstead: Roadstead,
}

impl Desk {
    async fn new() -> Self {
        Self {
            market: TestMarket::start(&ChainChoice::Embedded).await,
            roadstead: Roadstead::new(),
        }
    }

    /// A command that knows the market.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.roadstead.command(arguments);
        command.env("ROADSTEAD_MARKET", &self.market.local.market_file);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// The same with `--json`, which succeeds.
    fn succeeds(&self, arguments: &[&str]) -> Value {
        succeeded(&self.run(&[arguments, &["--json"]].concat()))
    }

    /// The same, which fails with this in its message.
    fn fails(&self, arguments: &[&str], expected: &str) -> Value {
        failed(&self.run(&[arguments, &["--json"]].concat()), expected)
    }

    /// The file with the publisher's key.
    fn key(&self) -> &str {
        self.market.local.publisher_key.to_str().unwrap()
    }
}

/// The only line of standard output.
fn only_line(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}{}", standard_error(output));
    serde_json::from_str(&text).unwrap()
}

fn succeeded(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(output));
    only_line(output)
}

/// The error of a command that failed with this in its message.
fn failed(output: &Output, expected: &str) -> Value {
    let said = standard_error(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{said}");
    let error = only_line(output)["error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(expected), "{message}");
    assert!(said.contains(&format!("error: {message}")), "{said}");
    error
}

#[test]
fn every_command_has_help_and_says_what_is_wrong_with_a_line() {
    let roadstead = Roadstead::new();
    for command in COMMANDS {
        let help = roadstead.run(&[command, &["--help"]].concat());
        assert_eq!(help.status.code(), Some(0), "{command:?}");
        let text = String::from_utf8(help.stdout).unwrap();
        let usage = ["Usage: roadstead", &command.join(" ")].join(" ");
        assert!(text.contains(usage.trim_end()), "{text}");
        let wrong = roadstead.run(&[command, &["--no-such-flag", "--json"]].concat());
        assert_eq!(wrong.status.code(), Some(2), "{command:?}");
        let message = only_line(&wrong)["error"]["message"].clone();
        assert!(message.as_str().unwrap().contains("--no-such-flag"), "{message}");
    }
    let missing = roadstead.run(&["publish", "--json"]);
    let message = only_line(&missing)["error"]["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.contains("were not provided: --file"), "{message}");
    assert_eq!(roadstead.files(), Vec::<PathBuf>::new());
}

#[test]
fn paths_say_where_everything_is_and_make_nothing() {
    let roadstead = Roadstead::new();
    let paths = || succeeded(&roadstead.run(&["paths", "--json"]));
    let before = paths();
    let home = roadstead.home();
    assert_eq!(before["home"]["path"], home.to_str().unwrap());
    assert_eq!(before["settings"]["path"], home.join("roadstead.toml").to_str().unwrap());
    assert_eq!(before["settings"]["exists"], false);
    assert_eq!(before["market"]["path"], home.join("devnet/market.toml").to_str().unwrap());
    for role in ["devnet", "provider", "publisher", "agent"] {
        let folder = &before["folders"][role];
        assert_eq!(folder["path"], home.join(role).to_str().unwrap());
        assert_eq!(
            (&folder["exists"], &folder["in_use"]),
            (&false.into(), &false.into()),
            "{role}"
        );
    }
    assert_eq!(before["sockets"]["agent"]["path"], home.join("agent/control").to_str().unwrap());
    assert_eq!(roadstead.files(), Vec::<PathBuf>::new());

    std::fs::write(home.join("roadstead.toml"), "market = 'elsewhere.toml'").unwrap();
    let _agent = StateFolder::open(home.join("agent")).unwrap();
    let after = paths();
    assert_eq!(after["settings"]["exists"], true);
    assert_eq!(after["market"]["path"], "elsewhere.toml");
    assert_eq!(after["folders"]["agent"]["in_use"], true);
    let text = roadstead.run(&["paths"]).stdout;
    assert!(String::from_utf8(text).unwrap().contains("in use by a process"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_counts_more_than_the_environment_and_that_more_than_the_settings() {
    let desk = Desk::new().await;
    let run = |flag: &[&str], environment: Option<&str>| {
        let mut command = desk.roadstead.command(&[&["jobs", "--json"], flag].concat());
        if let Some(path) = environment {
            command.env("ROADSTEAD_MARKET", path);
        }
        finish(command.spawn().unwrap())
    };
    let error = failed(&run(&[], None), "there is no market file at");
    assert!(error["hint"].as_str().unwrap().contains("roadstead devnet"), "{error}");
    let settings = desk.roadstead.home().join("roadstead.toml");
    std::fs::write(&settings, "market = '/nowhere/settings'").unwrap();
    failed(&run(&[], None), "/nowhere/settings");
    std::fs::write(&settings, "market = '/nowhere/top'\n[jobs]\nmarket = '/nowhere/jobs'").unwrap();
    failed(&run(&[], None), "/nowhere/jobs");
    failed(&run(&[], Some("/nowhere/environment")), "/nowhere/environment");
    let file = desk.market.local.market_file.to_str().unwrap();
    let jobs = succeeded(&run(&["--market", file], Some("/nowhere/environment")));
    assert_eq!(jobs["jobs"], serde_json::json!([]));
    std::fs::write(&settings, "markt = 'x'").unwrap();
    failed(&run(&["--market", file], None), "`markt` is no setting of `roadstead`");
}
