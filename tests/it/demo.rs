//! `roadstead demo`, as a user runs it.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use roadstead_devnet::{Blocks, ChainChoice, LocalChain};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::{Roadstead, finish, json, signal_after, signal_after_with, standard_error},
    image,
};

/// A user without rights.
const NOBODY: u32 = 65_534;

/// Chain, store and engine where nothing else is said.
const EMBEDDED: [&str; 3] = ["embedded"; 3];

fn assert_complete(result: &Value, parts: [&str; 3]) {
    let number = |key: &str| result[key].as_u64().unwrap();
    assert_eq!(["chain", "store", "engine"].map(|part| result[part].as_str().unwrap()), parts);
    assert_eq!(result["chain_id"], 31_337);
    assert_eq!(number("deposit"), number("paid") + number("refunded"));
    assert!(number("paid") > 0, "{result}");
    assert!(number("refunded") > 0, "{result}");
    assert_eq!(result["job"].as_str().unwrap().len(), 66);
    for contract in ["registry", "payment", "token"] {
        assert_eq!(result["contracts"][contract].as_str().unwrap().len(), 42);
    }
    assert_eq!(number("http_status"), 200);
    // Docker gives a container an address of its own, which this machine alone reaches.
    let host = if parts[2] == "embedded" { "http://127.0.0.1:" } else { "http://" };
    assert!(result["url"].as_str().unwrap().starts_with(host), "{result}");
    assert!(result["image_root"].as_str().unwrap().starts_with("bafybei"));
    assert!(result["bundle"].as_str().unwrap().starts_with("bafkrei"));
    assert!(number("receipts") >= 3, "{result}");
    assert_eq!(number("vouchers"), number("receipts"));
    assert!(number("settlements") >= 2, "{result}");
    assert_eq!(result["bill_verified"], true);
    for stage in ["market", "register", "seal", "publish", "open", "deploy", "metering", "close"] {
        assert!(result["timings_ms"][stage].as_u64().unwrap() > 0, "{stage}: {result}");
    }
    assert!(result["timings_ms"]["first_response"].is_u64(), "{result}");
}

#[test]
fn two_demonstrations_at_once_balance_their_books_and_leave_nothing() {
    let roadstead = Roadstead::new();
    let demo = || roadstead.command(&["demo", "--json"]).spawn().unwrap();
    let (first, second) = (demo(), demo());
    for demo in [first, second] {
        let output = finish(demo);
        assert!(output.status.success(), "{}", standard_error(&output));
        assert_complete(&json(&output), EMBEDDED);
        let said = standard_error(&output);
        assert!(!said.contains("will ask again") && !said.contains("top it up"), "{said}");
        assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
    assert!(roadstead.files().is_empty(), "{:?}", roadstead.files());
}

/// The program of Kubo, where the environment names one.
fn kubo_program() -> Option<OsString> {
    env::var_os("KUBO_BINARY")
}

/// The second set of parts: none of them is ours. Its store is Kubo where there is one, and ours elsewhere.
#[test]
fn the_demonstration_plays_on_anvil_and_docker_and_kubo() {
    let roadstead = Roadstead::new();
    let store = if kubo_program().is_some() { "kubo" } else { "embedded" };
    let parts = ["--chain", "anvil", "--store", store, "--engine", "docker"];
    let output = roadstead.run(&[&["demo", "--json"], &parts[..]].concat());
    assert!(output.status.success(), "{}", standard_error(&output));
    assert_complete(&json(&output), ["anvil", store, "docker"]);
    assert!(roadstead.files().is_empty());
}

#[test]
fn the_demonstration_plays_on_anvil() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["demo", "--chain", "anvil", "--json"]);
    assert!(output.status.success(), "{}", standard_error(&output));
    assert_complete(&json(&output), ["anvil", "embedded", "embedded"]);
    assert!(roadstead.files().is_empty());
}

/// A Kubo daemon that is not the demonstration's own, with a gateway at a port that its configuration names.
struct ForeignKubo {
    program: OsString,
    daemon: Child,
    home: TempDir,
}

impl ForeignKubo {
    fn start(program: OsString) -> Self {
        let home = tempfile::tempdir().unwrap();
        run_kubo(&program, home.path(), &["init", "--profile=test"]);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let gateway = format!("/ip4/127.0.0.1/tcp/{}", free.local_addr().unwrap().port());
        drop(free);
        run_kubo(&program, home.path(), &["config", "Addresses.Gateway", &gateway]);
        let mut daemon = kubo_command(&program, home.path(), &["daemon", "--offline"]);
        let mut daemon = daemon.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("Daemon is ready") {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the daemon ended");
        }
        // It must not stop on a full pipe.
        std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
        Self { program, daemon, home }
    }

    fn rpc(&self) -> String {
        let api = std::fs::read_to_string(self.home.path().join("api")).unwrap();
        format!("http://127.0.0.1:{}", api.trim().rsplit('/').next().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> String {
        run_kubo(&self.program, self.home.path(), arguments)
    }
}

impl Drop for ForeignKubo {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn kubo_command(program: &OsString, home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("IPFS_PATH", home).stdin(Stdio::null());
    command
}

fn run_kubo(program: &OsString, home: &Path, arguments: &[&str]) -> String {
    let output = kubo_command(program, home, arguments).output().unwrap();
    assert!(output.status.success(), "{}", standard_error(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_foreign_kubo_keeps_no_pin_of_the_demonstration() {
    let Some(program) = kubo_program() else { return };
    let kubo = ForeignKubo::start(program);
    let pins = || {
        let pins = kubo.run(&["pin", "ls", "--type=recursive", "--quiet"]);
        let mut pins: Vec<_> = pins.lines().map(str::to_owned).collect();
        pins.sort();
        pins
    };
    let before = pins();
    let roadstead = Roadstead::new();
    let rpc = kubo.rpc();
    let output = roadstead.run(&["demo", "--json", "--store", &rpc]);
    assert!(output.status.success(), "{}", standard_error(&output));
    let result = json(&output);
    assert_complete(&result, ["embedded", &rpc, "embedded"]);
    // It was there: only a collection, which is its owner's affair, removes what nobody pins.
    for block in ["image_root", "bundle"] {
        kubo.run(&["block", "stat", result[block].as_str().unwrap()]);
    }
    assert_eq!(pins(), before);

    let demo = roadstead.command(&["demo", "--store", &rpc]).spawn().unwrap();
    let (status, rest) = signal_after(demo, "The container runs", Signal::INT);
    assert_eq!(status, 130, "{rest}");
    assert_eq!(pins(), before);
}

#[test]
fn a_missing_kubo_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let mut command = roadstead.command(&["demo", "--store", "kubo"]);
    let output = finish(command.env("KUBO_BINARY", "/no/such/ipfs").spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: there is no Kubo: `/no/such/ipfs` was not found"), "{error}");
    assert!(error.contains("KUBO_BINARY"), "{error}");
    assert!(!error.contains("[1/7]"), "nothing was started: {error}");
    assert!(roadstead.files().is_empty());
}

#[test]
fn a_store_that_is_not_there_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["demo", "--store", "http://127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    let expected = "error: the content store cannot be used: http://127.0.0.1:1 cannot be used: ";
    assert!(error.contains(expected), "{error}");
    assert!(roadstead.files().is_empty());
}

#[test]
fn people_get_a_table() {
    let roadstead = Roadstead::new();
    let mut command = roadstead.command(&["demo"]);
    // A proxy that does not know this machine changes nothing.
    command.env("HTTP_PROXY", "http://127.0.0.1:1").env("http_proxy", "http://127.0.0.1:1");
    let output = finish(command.spawn().unwrap());
    assert!(output.status.success(), "{}", standard_error(&output));
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(table.contains(" RTD = deposit"), "{table}");
    assert!(table.contains("the bill follows from its receipts"), "{table}");
    assert!(table.contains("answered HTTP 200"), "{table}");
    assert!(standard_error(&output).starts_with("This plays a market on this machine"));
}

#[test]
fn interrupted_while_the_job_is_open_it_closes_the_job() {
    // The second as if the terminal were closed.
    for (chain, engine, signal) in
        [("embedded", "embedded", Signal::INT), ("anvil", "docker", Signal::HUP)]
    {
        let roadstead = Roadstead::new();
        let demo = ["demo", "--chain", chain, "--engine", engine];
        let demo = roadstead.command(&demo).spawn().unwrap();
        let (status, rest) = signal_after(demo, "The container runs", signal);
        assert_eq!(status, 130, "{chain}: {rest}");
        assert!(rest.contains("The container and its image are gone."), "{chain}: {rest}");
        assert!(rest.contains("The job was closed, "), "{chain}: {rest}");
        assert!(rest.contains("The publisher withdrew "), "{chain}: {rest}");
        assert!(roadstead.files().is_empty());
    }
}

#[test]
fn interrupted_twice_it_gives_up() {
    let roadstead = Roadstead::new();
    let chain = LocalChain::start(&ChainChoice::Anvil, Blocks::Every(Duration::from_secs(1)), 0);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chain = runtime.block_on(chain).unwrap();
    let demo = roadstead.command(&["demo", "--chain", chain.url()]).spawn().unwrap();
    let group = Pid::from_raw(demo.id().try_into().unwrap()).unwrap();
    let second = move |line: &str| {
        if line.contains("Once more to give that up") {
            kill_process_group(group, Signal::INT).unwrap();
        }
    };
    let (status, rest) = signal_after_with(demo, "The container runs", Signal::INT, second);
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
    for (home, expected) in [
        (file.join("home"), "Not a directory"),
        // Nobody makes folders there, not even root.
        ("/proc/roadstead".into(), "cannot create /proc/roadstead"),
    ] {
        let mut command = roadstead.command(&["demo"]);
        let output = finish(command.env("ROADSTEAD_HOME", &home).spawn().unwrap());
        assert_eq!(output.status.code(), Some(1));
        let error = standard_error(&output);
        let (_, error) = error.split_once("error: ").unwrap();
        assert!(error.contains(home.to_str().unwrap()) && error.contains(expected), "{error}");
    }
}

#[test]
fn an_ordinary_user_is_told_so_in_one_sentence() {
    let roadstead = Roadstead::new();
    let home = roadstead.home().to_owned();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = roadstead.command(&["demo"]);
    let output = finish(command.uid(NOBODY).gid(NOBODY).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: this engine needs root"), "{error}");
    assert!(error.contains("hint: run it with sudo"), "{error}");
    assert!(error.contains("`--engine docker`"), "{error}");
    assert!(!error.contains("[1/7]"), "nothing was started: {error}");
    assert!(roadstead.files().is_empty());
}

#[test]
fn an_image_that_other_tools_made_is_served() {
    let roadstead = Roadstead::new();
    let scratch = tempfile::tempdir().unwrap();
    let layout = image::httpd(scratch.path());
    let archive = scratch.path().join("image.tar");
    image::skopeo(&[
        "copy",
        &format!("oci:{}:latest", layout.display()),
        &format!("oci-archive:{}:latest", archive.display()),
    ]);
    for path in [layout, archive] {
        let output = roadstead.run(&["demo", "--json", "--image", path.to_str().unwrap()]);
        let said = standard_error(&output);
        assert!(output.status.success(), "{}: {said}", path.display());
        assert_complete(&json(&output), EMBEDDED);
        assert!(said.contains(image::PAGE), "{said}");
    }
    assert!(roadstead.files().is_empty());
}

#[test]
fn a_workload_of_the_users_own_is_served() {
    let roadstead = Roadstead::new();
    let scratch = tempfile::tempdir().unwrap();
    image::httpd(scratch.path());
    let manifest = scratch.path().join("workload.yaml");
    let text = "version: 1\nname: own\ncontainers:\n- image: layout\n  ports: [9000]\n  read_only: true\n  \
        command: [/bin/busybox, httpd, -f, -p, '9000', -h, /www/second]\n";
    std::fs::write(&manifest, text).unwrap();
    let output = roadstead.run(&["demo", "--json", "--workload", manifest.to_str().unwrap()]);
    let said = standard_error(&output);
    assert!(output.status.success(), "{said}");
    assert_complete(&json(&output), EMBEDDED);
    assert!(said.contains(image::SECOND_PAGE), "{said}");
}

#[test]
fn every_mistake_of_a_manifest_is_reported_with_its_path() {
    let roadstead = Roadstead::new();
    let manifest = roadstead.home().join("workload.yaml");
    let text = "version: 1\nname: Own\ncontainers:\n- image: layout\n  prots: [9000]\n  user: [7]\nresources:\n  cpu: none\n";
    std::fs::write(&manifest, text).unwrap();
    let output = roadstead.run(&["demo", "--workload", manifest.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    for path in ["name: ", "containers[0].prots: ", "containers[0].user: ", "resources.cpu: "] {
        assert!(error.contains(&format!("\n  {path}")), "{path}: {error}");
    }
    assert!(error.contains("hint: docs/workload.md"), "{error}");
    assert_eq!(roadstead.files(), [manifest]);
}

#[test]
fn what_is_no_image_is_one_clear_error_and_costs_nothing() {
    let roadstead = Roadstead::new();
    let file = roadstead.home().join("image.tar");
    std::fs::write(&file, "not an archive").unwrap();
    for path in [file.clone(), roadstead.home().join("missing")] {
        let output = roadstead.run(&["demo", "--image", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let error = standard_error(&output);
        let expected = format!("error: the image {} cannot be used: ", path.display());
        assert!(error.contains(&expected), "{error}");
        assert!(!error.contains("opens job"), "{error}");
        assert_eq!(roadstead.files(), std::slice::from_ref(&file));
    }
}

#[test]
fn a_program_that_is_not_in_the_image_ends_the_job_with_its_money_back() {
    let roadstead = Roadstead::new();
    let scratch = tempfile::tempdir().unwrap();
    image::httpd(scratch.path());
    let manifest = scratch.path().join("workload.yaml");
    let text = "version: 1\nname: own\ncontainers:\n- image: layout\n  ports: [9000]\n  command: [/bin/missing]\n";
    std::fs::write(&manifest, text).unwrap();
    let output = roadstead.run(&["demo", "--workload", manifest.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: the provider refused the job: "), "{error}");
    assert!(error.contains("The publisher withdrew 2 RTD."), "{error}");
    assert!(roadstead.files().is_empty());
}
