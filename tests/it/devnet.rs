//! `roadstead devnet`, as a user runs it beside other programs.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::mpsc,
    thread,
    time::Instant,
};

use roadstead_journal::StateFolder;
use roadstead_types::Market;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::{
    command::{Roadstead, finish, signal_after, standard_error},
    market::PATIENCE,
};

const CHAINS: [&str; 2] = ["embedded", "anvil"];

/// A local market at ports of its own. Dropped, it is ended: killed, it could not end its children.
struct Devnet {
    child: Option<Child>,
    report: Value,
}

impl Devnet {
    fn start(roadstead: &Roadstead, chain: &str) -> Self {
        let command = &["devnet", "--chain", chain, "--port", "0", "--json"];
        let mut child = roadstead.command(command).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let (said, first) = mpsc::channel();
        thread::spawn(move || {
            let (mut line, mut output) = (String::new(), BufReader::new(output));
            let _ = output.read_line(&mut line);
            let _ = said.send(line);
        });
        let mut devnet = Self { child: Some(child), report: Value::Null };
        let line = first.recv_timeout(PATIENCE).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(report) => devnet.report = report,
            Err(_) => {
                panic!("{chain} said {line:?}: {}", standard_error(&devnet.end(Signal::INT)))
            }
        }
        devnet
    }

    fn text(&self, pointer: &str) -> &str {
        self.report
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}: {}", self.report))
            .as_str()
            .unwrap()
    }

    fn port(&self, part: &str) -> String {
        self.text(part).rsplit(':').next().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.text(&format!("/files/{name}")).into()
    }

    /// What `cast` says of the chain.
    fn cast(&self, arguments: &[&str]) -> String {
        cast(&[arguments, &["--rpc-url", self.text("/urls/chain")]].concat())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id().try_into().unwrap()).unwrap()
    }

    /// Ends it as Ctrl-C does in a terminal: the signal goes to its children as well.
    fn end(&mut self, signal: Signal) -> Output {
        kill_process_group(self.pid(), signal).unwrap();
        finish(self.child.take().unwrap())
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.end(Signal::INT);
        }
    }
}

fn cast(arguments: &[&str]) -> String {
    let output = Command::new("cast").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{error}; script/setup installs cast"));
    assert!(output.status.success(), "cast {arguments:?}: {}", standard_error(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Asks a server of this machine and returns the status and the body of its answer.
fn http(url: &str, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn check_chain(devnet: &Devnet) {
    assert_eq!(devnet.cast(&["chain-id"]), "31337");
    assert_eq!(devnet.report["chain_id"], 31_337);
    let number = || devnet.cast(&["block-number"]).parse::<u64>().unwrap();
    let (first, start) = (number(), Instant::now());
    while number() <= first {
        assert!(start.elapsed() < PATIENCE, "no block after {first}");
    }
}

fn check_market(devnet: &Devnet) {
    let market = fs::read_to_string(devnet.file("market")).unwrap();
    let market = Market::from_toml(&market).unwrap();
    assert!(market.devnet);
    assert_eq!(market.rpc, [devnet.text("/urls/chain")]);
    for (name, address) in [
        ("registry", market.contracts.registry),
        ("payment", market.contracts.payment),
        ("token", market.token.address),
    ] {
        let reported = devnet.text(&format!("/contracts/{name}"));
        assert!(reported.eq_ignore_ascii_case(&address.to_string()), "{name}: {reported}");
        assert!(devnet.cast(&["code", reported]).len() > 100, "{name}");
    }
}

fn check_accounts(devnet: &Devnet) {
    let (publisher, provider) =
        (devnet.text("/accounts/publisher"), devnet.text("/accounts/provider"));
    for (name, account) in [("publisher", publisher), ("provider", provider)] {
        let file = devnet.file(&format!("{name}_key"));
        assert_eq!(file.file_name().unwrap().to_str().unwrap(), format!("{name}.key"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600, "{name}");
        let key = fs::read_to_string(file).unwrap();
        let owner = cast(&["wallet", "address", "--private-key", &key]);
        assert!(owner.eq_ignore_ascii_case(account), "{name}: {owner}");
        let sent =
            devnet.cast(&["send", "--private-key", &key, "--value", "1", "--json", provider]);
        let sent: Value = serde_json::from_str(&sent).unwrap();
        assert_eq!(sent["status"], "0x1", "{name}: {sent}");
    }
    let token = devnet.text("/contracts/token");
    let tokens = |account| devnet.cast(&["call", token, "balanceOf(address)(uint256)", account]);
    // Behind the amount stands how large that is.
    assert_eq!(tokens(publisher).split(' ').next(), Some("1000000000000"), "{}", tokens(publisher));
    assert_eq!(tokens(provider), "0");
}

fn check_store(devnet: &Devnet) {
    let (store, gateway) = (devnet.text("/urls/store"), devnet.text("/urls/gateway"));
    let (status, version) = http(store, "POST", "/api/v0/version", "", "");
    assert_eq!(status, 200);
    assert!(serde_json::from_str::<Value>(&version).unwrap()["Version"].is_string(), "{version}");

    let (_, told) = http(store, "POST", "/api/v0/config?arg=Addresses.Gateway", "", "");
    let told: Value = serde_json::from_str(&told).unwrap();
    let port = devnet.port("/urls/gateway");
    assert_eq!(told["Value"], format!("/ip4/127.0.0.1/tcp/{port}"));

    let form = "Content-Type: multipart/form-data; boundary=x\r\n";
    let body = "--x\r\nContent-Disposition: form-data; name=\"data\"; filename=\"block\"\r\n\r\na block\r\n--x--\r\n";
    let (status, answer) = http(store, "POST", "/api/v0/block/put?cid-codec=raw", form, body);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let path = format!("/ipfs/{}?format=raw", answer["Key"].as_str().unwrap());
    assert_eq!(http(gateway, "GET", &path, "", ""), (200, "a block".to_owned()));
}

/// The folder is nobody's, and holds nothing of the market any more.
fn check_gone(roadstead: &Roadstead, chain: &str) {
    let folder = roadstead.home().join("devnet");
    let left: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"], "{chain}");
    StateFolder::open(folder).unwrap();
}

#[test]
fn a_local_market_is_there_for_others_until_it_is_ended() {
    // The second as a supervisor ends it.
    for (chain, signal) in [("embedded", Signal::INT), ("anvil", Signal::TERM)] {
        let roadstead = Roadstead::new();
        let mut devnet = Devnet::start(&roadstead, chain);
        assert_eq!(devnet.text("/chain"), chain);
        check_chain(&devnet);
        check_market(&devnet);
        check_accounts(&devnet);
        check_store(&devnet);
        let output = devnet.end(signal);
        let said = standard_error(&output);
        assert_eq!(output.status.code(), Some(0), "{chain}: {said}");
        for reset in ["roadstead provider reset", "roadstead agent reset"] {
            assert!(said.contains(reset), "{chain}: {said}");
        }
        check_gone(&roadstead, chain);
        for part in ["chain", "store", "gateway"] {
            let url = devnet.text(&format!("/urls/{part}"));
            TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap_err();
        }
    }
}

#[test]
fn a_taken_port_is_one_clear_error_that_names_its_holder() {
    let first = Roadstead::new();
    let holder = Devnet::start(&first, "embedded");
    let port = holder.port("/urls/chain");
    let name = fs::read_to_string(format!("/proc/{}/comm", holder.pid().as_raw_nonzero())).unwrap();
    let expected = format!(
        "error: port {port} of 127.0.0.1 is taken by `{}` (process {})",
        name.trim_end(),
        holder.pid().as_raw_nonzero()
    );
    for chain in CHAINS {
        let roadstead = Roadstead::new();
        let output = roadstead.run(&["devnet", "--chain", chain, "--port", &port]);
        assert_eq!(output.status.code(), Some(1), "{chain}");
        let error = standard_error(&output);
        assert!(error.contains(&expected), "{chain}: {error}");
        assert!(error.contains("`--port 0`"), "{chain}: {error}");
        check_gone(&roadstead, chain);
    }
}

#[test]
fn the_chain_cannot_have_a_port_of_the_store() {
    let roadstead = Roadstead::new();
    let output = roadstead.run(&["devnet", "--port", "47580"]);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: port 47580 is asked for twice"), "{error}");
    assert!(error.contains("`--port 0`"), "{error}");
    check_gone(&roadstead, "embedded");
}

#[test]
fn a_chain_that_nobody_runs_is_asked_for_in_vain() {
    let roadstead = Roadstead::new();
    let dead = ["devnet", "--chain", "http://127.0.0.1:1", "--port", "0"];
    let output = roadstead.run(&dead);
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("hint: is there a development chain at that address?"), "{error}");
    check_gone(&roadstead, "embedded");
}

#[test]
fn a_second_signal_cuts_off_whoever_does_not_finish() {
    let roadstead = Roadstead::new();
    let mut devnet = Devnet::start(&roadstead, "embedded");
    // Requests that are never sent to their end, which a server waits for.
    let half = ["chain", "store", "gateway"].map(|part| {
        let host =
            devnet.text(&format!("/urls/{part}")).strip_prefix("http://").unwrap().to_owned();
        let mut stream = TcpStream::connect(&host).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 10\r\n\r\n1").unwrap();
        stream
    });
    let (status, said) = signal_twice(devnet.child.take().unwrap(), "Ending;");
    drop(half);
    assert_eq!(status, 130, "{said}");
    assert!(said.contains("the local market was cut off"), "{said}");
    assert!(!said.contains("The local market is gone"), "{said}");
    check_gone(&roadstead, "embedded");
}

/// Signals the child as Ctrl-C does, and once more when it says `text`. Its status and what it said after that.
fn signal_twice(child: Child, text: &str) -> (i32, String) {
    let group = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process_group(group, Signal::INT).unwrap();
    signal_after(child, text, Signal::INT)
}

#[test]
fn a_missing_anvil_is_one_clear_error() {
    let roadstead = Roadstead::new();
    let mut command = roadstead.command(&["devnet", "--chain", "anvil", "--port", "0"]);
    let output = finish(command.env("PATH", roadstead.home()).spawn().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(
        error.contains("error: `anvil` is not on the path; `script/setup` installs it"),
        "{error}"
    );
    check_gone(&roadstead, "anvil");
}

#[test]
fn a_home_has_one_local_market_at_a_time() {
    for chain in CHAINS {
        let roadstead = Roadstead::new();
        let first = Devnet::start(&roadstead, chain);
        let output = roadstead.run(&["devnet", "--chain", chain, "--port", "0", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{chain}");
        let error = standard_error(&output);
        assert!(error.contains("/devnet is in use by"), "{chain}: {error}");
        // The one that runs was not disturbed.
        check_market(&first);
    }
}

#[test]
fn what_a_killed_market_left_is_no_obstacle() {
    let roadstead = Roadstead::new();
    let mut killed = Devnet::start(&roadstead, "embedded");
    let key = fs::read(killed.file("publisher_key")).unwrap();
    killed.end(Signal::KILL);
    assert!(killed.file("market").exists());
    let next = Devnet::start(&roadstead, "embedded");
    check_market(&next);
    assert_ne!(fs::read(next.file("publisher_key")).unwrap(), key);
}

#[test]
fn a_market_whose_chain_ends_ends_with_it_and_says_so() {
    let roadstead = Roadstead::new();
    let mut devnet = Devnet::start(&roadstead, "anvil");
    let pid = devnet.pid().as_raw_nonzero();
    let children = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flat_map(|thread| {
        let children = fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    let children: Vec<_> = children.collect();
    let [anvil] = &children[..] else { panic!("{children:?}") };
    let name = fs::read_to_string(Path::new("/proc").join(anvil).join("comm")).unwrap();
    assert_eq!(name.trim_end(), "anvil");
    kill_process(Pid::from_raw(anvil.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    let output = finish(devnet.child.take().unwrap());
    assert_eq!(output.status.code(), Some(1));
    let error = standard_error(&output);
    assert!(error.contains("error: the chain ended by itself, and the market with it"), "{error}");
    check_gone(&roadstead, "anvil");
}

#[test]
fn people_are_told_what_to_type_next() {
    let roadstead = Roadstead::new();
    let mut child = roadstead.command(&["devnet", "--port", "0"]).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let (said, text) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        // To the end: it must not write to nobody.
        for line in BufReader::new(output).lines() {
            text += &(line.unwrap() + "\n");
            if text.ends_with(" jobs\n") {
                let _ = said.send(text.clone());
            }
        }
    });
    let mut devnet = Devnet { child: Some(child), report: Value::Null };
    let text = text.recv_timeout(PATIENCE).unwrap();
    let folder = roadstead.home().join("devnet");
    let home = roadstead.home().display();
    let (market, keys) = (folder.join("market.toml"), ["provider.key", "publisher.key"]);
    let [provider, publisher] = keys.map(|key| folder.join(key).display().to_string());
    for line in [
        format!(
            "roadstead --home {home} provider init --market {} --key-file {provider}",
            market.display()
        ),
        format!("roadstead --home {home} provider register"),
        format!("roadstead --home {home} provider run"),
        format!(
            "roadstead --home {home} publish --market {} --key-file {publisher} --provider 0x",
            market.display()
        ),
        format!("roadstead --home {home} jobs"),
    ] {
        assert!(text.lines().any(|found| found.starts_with(&line)), "{line}: {text}");
    }
    assert_eq!(devnet.end(Signal::INT).status.code(), Some(0));
}
