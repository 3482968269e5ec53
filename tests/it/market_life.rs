//! A market as people use it: devnet, provider, agent and publisher as processes of their own.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use roadstead_chain::Wallet;
use roadstead_devnet::service;
use roadstead_journal::StateFolder;
use serde_json::Value;

use crate::{
    command::{Roadstead, json, standard_error},
    process::Process,
};

/// More than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at something that changes by itself.
const LOOK: Duration = Duration::from_millis(500);

/// The processes of a market, in one home folder.
struct Life {
    roadstead: Roadstead,
    devnet: Option<Process>,
    provider: Option<Process>,
    chain: String,
    /// Where every agent of this home serves the publisher's blocks: what a job names must not move.
    gateway: String,
    files: Value,
    accounts: Value,
}

impl Life {
    fn start(chain: &str, engine: &str) -> Self {
        let roadstead = Roadstead::new();
        let mut devnet =
            Process::start(&roadstead, &["devnet", "--chain", chain, "--port", "0", "--json"]);
        let report = devnet.report();
        let (files, accounts) = (report["files"].clone(), report["accounts"].clone());
        let chain = text(&report["urls"]["chain"]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Prices at which seconds can be seen on the bill.
        let settings = format!(
            "[provider]\nlisten = '/ip4/127.0.0.1/tcp/{port}'\nengine = '{engine}'\nprice-cpu = '10'\nprice-memory = '50'\n"
        );
        fs::write(roadstead.home().join("roadstead.toml"), settings).unwrap();
        let key = text(&files["provider_key"]);
        succeed(&roadstead, &["provider", "init", "--key-file", &key]);
        succeed(&roadstead, &["provider", "register"]);
        let provider = Some(run_provider(&roadstead));
        let gateway = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        Self { roadstead, devnet: Some(devnet), provider, chain, gateway, files, accounts }
    }

    fn provider(&mut self) -> &mut Process {
        self.provider.as_mut().unwrap()
    }

    fn agent(&self) -> Process {
        let mut agent =
            Process::start(&self.roadstead, &["agent", "--gateway", &self.gateway, "--json"]);
        agent.report();
        agent
    }

    /// A manifest whose image is the service of the demonstration.
    fn manifest(&self) -> String {
        let folder = self.roadstead.home().join("workload");
        fs::create_dir_all(&folder).unwrap();
        service::pack(&folder.join("hello")).unwrap();
        let path = folder.join("workload.yaml");
        let text = "version: 1\nname: hello\ncontainers:\n  - image: ./hello\n    ports: [8080]\n";
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn publisher_key(&self) -> String {
        text(&self.files["publisher_key"])
    }

    /// The newest block's number. There is one every second.
    fn height(&self) -> u64 {
        let output = Command::new("cast").args(["block-number", "--rpc-url", &self.chain]).output();
        let output = output.expect("cast runs; script/setup installs it");
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn job(&self, job: &str) -> Value {
        succeed(&self.roadstead, &["job", "show", job])
    }

    /// Waits until a job is as it should be.
    fn until(&self, job: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let seen = self.job(job);
            if is_so(&seen) {
                return seen;
            }
            assert!(Instant::now() < end, "{what} in vain: {seen}");
            sleep(LOOK);
        }
    }

    fn until_receipts(&self, job: &str, more: u64) {
        let before = number(&self.job(job)["receipts"]);
        self.until(job, "more receipts are waited for", |job| {
            number(&job["receipts"]) >= before + more
        });
    }
}

/// Whatever becomes of a test, its containers go: those of a provider that was killed would stay.
impl Drop for Life {
    fn drop(&mut self) {
        drop(self.provider.take());
        let output = self.roadstead.run(&["provider", "reset", "--yes"]);
        if !thread::panicking() {
            assert!(output.status.success(), "{}", standard_error(&output));
        }
    }
}

fn run_provider(roadstead: &Roadstead) -> Process {
    let mut provider = Process::start(roadstead, &["provider", "run", "--json"]);
    provider.report();
    provider
}

/// Runs a command that must succeed, and returns what it reports.
fn succeed(roadstead: &Roadstead, arguments: &[&str]) -> Value {
    let output = roadstead.run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", standard_error(&output));
    json(&output)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// What the service of the demonstration answers at once, if it does. Where nobody has its address any more, whatever
/// stands behind this machine's gateway may answer in its place.
fn get(url: &str) -> Option<String> {
    let address = url.strip_prefix("http://")?.parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, LOOK).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (answer.starts_with("HTTP/1.") && answer.contains(" 200 ")).then_some(answer)
}

#[test]
fn four_processes_lose_nothing_when_they_are_killed() {
    for (chain, engine) in [("embedded", "embedded"), ("anvil", "docker")] {
        let mut life = Life::start(chain, engine);
        let agent = life.agent();
        let (manifest, key) = (life.manifest(), life.publisher_key());
        let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s"];
        let published = succeed(&life.roadstead, &publish);
        let (job, url) = (text(&published["job"]), text(&published["url"]));
        assert_eq!(published["http_status"], 200, "{published}");
        assert_eq!(published["is_agent"], false, "{published}");
        life.until_receipts(&job, 2);

        // The provider dies: its container goes on, and the next one adopts it.
        life.provider.take().unwrap().kill();
        assert!(get(&url).is_some(), "{engine}: the container outlives its provider");
        life.provider = Some(run_provider(&life.roadstead));
        life.until_receipts(&job, 2);
        assert!(get(&url).is_some(), "{engine}: the container was adopted");

        // The agent dies and stays away for more than five intervals: the container is frozen, and then runs on.
        let before = life.height();
        agent.kill();
        life.provider().until("frozen");
        while life.height() < before + 11 {
            sleep(LOOK);
        }
        let agent = life.agent();
        life.provider().until("runs again");
        life.until_receipts(&job, 2);

        // Published once more, it is the same job.
        let again = succeed(&life.roadstead, &publish);
        assert_eq!((&again["job"], &again["transaction"]), (&published["job"], &Value::Null));

        let added = succeed(&life.roadstead, &["job", "topup", &job, "1.5", "--key-file", &key]);
        let deposit = number(&added["deposit"]);
        assert_eq!(deposit, number(&published["deposit"]) + 1_500_000);
        let closed = succeed(&life.roadstead, &["job", "close", &job, "--key-file", &key]);
        let (paid, refund) = (number(&closed["paid"]), number(&closed["refund"]));
        assert!(paid > 0 && paid + refund == deposit, "{closed}");
        let withdrawn = succeed(&life.roadstead, &["withdraw", "--key-file", &key]);
        assert_eq!(number(&withdrawn["amount"]), refund);
        let bill = succeed(&life.roadstead, &["bill", "verify", &job]);
        assert_eq!(number(&bill["paid"]), paid);
        assert_eq!(number(&bill["due"]), paid, "one voucher paid for all of it");

        let end = Instant::now() + PATIENCE;
        while get(&url).is_some() {
            assert!(Instant::now() < end, "{engine}: the container is still there");
            sleep(LOOK);
        }
        let status = succeed(&life.roadstead, &["provider", "status"]);
        let is_closed = |job: &Value| job["phase"] == "closed";
        assert!(status["jobs"].as_array().unwrap().iter().all(is_closed), "{status}");
        for process in [Some(agent), life.provider.take(), life.devnet.take()] {
            let (status, said) = process.unwrap().interrupt();
            assert_eq!(status, 0, "{said}");
        }
    }
}

#[test]
fn whoever_publishes_without_an_agent_is_the_agent() {
    let life = Life::start("embedded", "embedded");
    let (manifest, key) = (life.manifest(), life.publisher_key());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s"];
    let own = ["--gateway", &life.gateway, "--json"];
    let mut publisher = Process::start(&life.roadstead, &[&publish[..], &own].concat());
    let published = publisher.report();
    assert_eq!(published["is_agent"], true, "{published}");
    let (job, url) = (text(&published["job"]), text(&published["url"]));
    publisher.until("receipt 2 is right");
    let (status, said) = publisher.interrupt();
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("the job runs on") && said.contains("roadstead agent"), "{said}");
    assert!(get(&url).is_some());

    let agent = life.agent();
    life.until_receipts(&job, 1);
    let closed = succeed(&life.roadstead, &["job", "close", &job, "--key-file", &key]);
    assert_eq!(closed["status"], "closed", "{closed}");
    // What is over is not found again: the same manifest is a new job.
    let another = succeed(&life.roadstead, &publish);
    assert_ne!(another["job"], published["job"]);
    let second = text(&another["job"]);
    succeed(&life.roadstead, &["job", "close", &second, "--key-file", &key]);
    drop(agent);
}

#[test]
fn what_is_interrupted_is_opened_once() {
    let life = Life::start("embedded", "embedded");
    let _agent = life.agent();
    let (manifest, key) = (life.manifest(), life.publisher_key());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s"];
    for said in ["is the only one", "Sealed image", "Job 0x", "The container runs"] {
        let mut publisher = Process::start(&life.roadstead, &publish);
        publisher.until(said);
        publisher.kill();
    }
    let published = succeed(&life.roadstead, &publish);
    assert_eq!(published["http_status"], 200, "{published}");
    let jobs = succeed(&life.roadstead, &["jobs"]);
    assert_eq!(jobs["agent"]["is_running"], true, "{jobs}");
    let open = |job: &&Value| job["status"] == "open";
    let open: Vec<_> = jobs["jobs"].as_array().unwrap().iter().filter(open).collect();
    assert_eq!(open.len(), 1, "{jobs}");
    let job = text(&published["job"]);
    succeed(&life.roadstead, &["job", "close", &job, "--key-file", &key]);
}

#[test]
fn a_prepared_job_is_opened_by_cast_alone() {
    let life = Life::start("embedded", "embedded");
    let (manifest, publisher) = (life.manifest(), text(&life.accounts["publisher"]));
    // The agent is another one than the one of the folder in which the job is prepared.
    let elsewhere = Roadstead::new();
    let market = text(&life.files["market"]);
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let own = ["agent", "--market", &market, "--gateway", &gateway, "--json"];
    let mut agent = Process::start(&life.roadstead, &own);
    let signer = text(&agent.report()["signer"]);
    let blocks = life.roadstead.home().join("publisher");
    let prepare = ["publish", "-f", &manifest, "--market", &market, "--interval", "2s"];
    let plan: PathBuf = elsewhere.home().join("job.plan.json");
    let foreign = ["--prepare", "--key-variable", "--publisher", &publisher, "--signer", &signer];
    let written = ["--plan", plan.to_str().unwrap(), "--gateway", &gateway];
    let arguments = [&prepare[..], &foreign, &written].concat();
    let prepared = succeed(&elsewhere, &arguments);
    assert_eq!(prepared["is_adopted"], false, "{prepared}");
    // The agent serves the blocks of its own home, so they are brought there.
    let from = elsewhere.home().join("publisher");
    let copied = Command::new("cp").arg("-r").args([&from, &blocks]).status().unwrap();
    assert!(copied.success());
    succeed(&life.roadstead, &["agent", "adopt", plan.to_str().unwrap()]);

    let key = fs::read_to_string(text(&life.files["publisher_key"])).unwrap();
    for line in prepared["lines"].as_array().unwrap() {
        let mut shell = Command::new("sh");
        shell.args(["-c", line.as_str().unwrap()]).env("PUBLISHER_KEY", &key);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}", standard_error(&output));
    }
    let job = text(&prepared["job"]);
    let seen = life.until(&job, "it is to run", |job| {
        job["phase"].to_string().contains("running") && number(&job["receipts"]) >= 1
    });
    assert!(get(seen["urls"]["8080"].as_str().unwrap()).is_some(), "{seen}");
    let key = life.publisher_key();
    succeed(&life.roadstead, &["job", "close", &job, "--key-file", &key]);
    drop(agent);
}

#[test]
fn what_a_wallet_lacks_is_said_with_the_command_that_mends_it() {
    let life = Life::start("embedded", "embedded");
    let _agent = life.agent();
    let wallet = Wallet::random();
    let key = life.roadstead.home().join("empty.key");
    let folder = StateFolder::open(life.roadstead.home().join("keys")).unwrap();
    let written = folder.write_secret("empty.key", wallet.to_hex().as_bytes()).unwrap();
    fs::rename(written, &key).unwrap();
    let (manifest, key) = (life.manifest(), key.to_str().unwrap().to_owned());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s", "--json"];
    let rich = fs::read_to_string(life.publisher_key()).unwrap();
    for missing in ["token units", "no ether"] {
        let output = life.roadstead.run(&publish);
        assert_eq!(output.status.code(), Some(1));
        let error = &json(&output)["error"];
        assert!(text(&error["message"]).contains(missing), "{error}");
        // In place of the question for the key of somebody who has what is missing.
        let command =
            text(&error["hint"]).replace("--interactive", &format!("--private-key {rich}"));
        let mended = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output();
        let mended = mended.unwrap();
        assert!(mended.status.success(), "{command}: {}", standard_error(&mended));
    }
    let published = succeed(&life.roadstead, &publish[..publish.len() - 1]);
    assert_eq!(published["http_status"], 200, "{published}");
}

#[test]
fn an_agent_that_dies_while_somebody_publishes_is_replaced() {
    let mut life = Life::start("embedded", "embedded");
    let agent = life.agent();
    let (manifest, key) = (life.manifest(), life.publisher_key());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s"];
    let published = succeed(&life.roadstead, &publish);
    agent.kill();
    // An agent that has heard nothing yet, and a provider that says nothing.
    life.provider.take().unwrap().kill();
    let agent = life.agent();
    let own = ["--gateway", &life.gateway, "--json"];
    let mut publisher = Process::start(&life.roadstead, &[&publish[..], &own].concat());
    publisher.until("lives already");
    publisher.until("Waiting for the provider");
    agent.kill();
    publisher.until("this process is the agent");
    life.provider = Some(run_provider(&life.roadstead));
    let again = publisher.report();
    assert_eq!((&again["job"], &again["is_agent"]), (&published["job"], &Value::Bool(true)));
    let job = text(&published["job"]);
    life.until_receipts(&job, 1);
    let (status, said) = publisher.interrupt();
    assert_eq!(status, 0, "{said}");
}

#[test]
fn whoever_waits_for_a_silent_node_can_be_interrupted() {
    let life = Life::start("embedded", "embedded");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let market = fs::read_to_string(text(&life.files["market"])).unwrap();
    let mut market: toml::Table = market.parse().unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    market["chain"]["rpc"] = toml::Value::from(vec![url]);
    let path = life.roadstead.home().join("silent.toml");
    fs::write(&path, market.to_string()).unwrap();
    let agent = Process::start(
        &life.roadstead,
        &["agent", "--gateway", "127.0.0.1:0", "--market", path.to_str().unwrap()],
    );
    // It has asked.
    let _asked = silent.accept().unwrap();
    let (status, said) = agent.interrupt();
    assert_eq!(status, 130, "{said}");
}

#[test]
fn nobody_is_named_to_accept_bills_by_mistake() {
    let life = Life::start("embedded", "embedded");
    let (manifest, key) = (life.manifest(), life.publisher_key());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--json"];
    let stranger = "0x00000000000000000000000000000000000000aa";
    for flag in ["--signer", "--publisher"] {
        let output = life.roadstead.run(&[&publish[..], &[flag, stranger]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", standard_error(&output));
    }
    let settings = life.roadstead.home().join("roadstead.toml");
    let before = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{before}\n[publish]\nsigner = '{stranger}'\n")).unwrap();
    let output = life.roadstead.run(&publish);
    fs::write(&settings, before).unwrap();
    let error = &json(&output)["error"];
    assert!(text(&error["message"]).contains("only be said on the command line"), "{error}");
    let jobs = succeed(&life.roadstead, &["jobs"]);
    assert_eq!(jobs["jobs"], Value::Array(Vec::new()), "{jobs}");
}

#[test]
fn one_more_job_is_opened_once_even_if_the_agent_dies_meanwhile() {
    let life = Life::start("embedded", "embedded");
    let agent = life.agent();
    let (manifest, key) = (life.manifest(), life.publisher_key());
    let publish = ["publish", "-f", &manifest, "--key-file", &key, "--interval", "2s"];
    let first = succeed(&life.roadstead, &publish);
    let another = ["--new", "--gateway", &life.gateway, "--json"];
    let mut publisher = Process::start(&life.roadstead, &[&publish[..], &another].concat());
    publisher.until("is open");
    agent.kill();
    let second = publisher.report();
    assert_ne!(second["job"], first["job"]);
    drop(publisher);
    let _agent = life.agent();
    let jobs = succeed(&life.roadstead, &["jobs"]);
    let jobs = jobs["jobs"].as_array().unwrap();
    assert_eq!(jobs.iter().filter(|job| job["status"] == "open").count(), 2, "{jobs:?}");
}
