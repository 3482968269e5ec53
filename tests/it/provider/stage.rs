//! A market, a publisher with its agent, and the home of a provider's command.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use roadstead_devnet::{
    Blocks, ChainChoice, LocalChain, LocalMarket, LocalStore, StoreChoice, service,
};
use roadstead_journal::StateFolder;
use roadstead_publisher::{
    Agent, AgentEvent, AgentKeys, AgentLimits, Deal, Keys, OpenRequest, Ports, open, provider_key,
    provider_profile, publish, seal, wire,
};
use roadstead_types::{JobId, Seconds};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::mpsc as tasks, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    command::{Roadstead, finish, json, standard_error},
    market::{PATIENCE, amount},
};

/// As a chain for people makes them.
const BLOCKS: Blocks = Blocks::Every(Duration::from_secs(1));

/// A market that makes a block every second, and a home in which a provider's command lives.
pub(super) struct Stage {
    pub(super) roadstead: Roadstead,
    pub(super) local: LocalMarket,
    /// Until a test ends it.
    pub(super) chain: Option<LocalChain>,
    folder: TempDir,
    /// What `DOCKER_HOST` says, where it is not what it says to the tests.
    docker: Option<String>,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let chain = LocalChain::start(&ChainChoice::Embedded, BLOCKS, 0).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let market = StateFolder::open(folder.path().join("market")).unwrap();
        let local = LocalMarket::start(&chain, &market).await.unwrap();
        let roadstead = Roadstead::new();
        // Free a moment ago; a port that is taken by now fails the test with its name.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[provider]\nlisten = '/ip4/127.0.0.1/tcp/{port}'\nregion = 'test'\nprice-memory = '1'\n"
        );
        fs::write(roadstead.home().join("roadstead.toml"), settings).unwrap();
        Self { roadstead, local, chain: Some(chain), folder, docker: None }
    }

    /// Ends the chain, and starts another one where it was.
    pub(super) async fn restart_chain(&mut self) {
        let chain = self.chain.take().unwrap();
        let port = chain.url().rsplit(':').next().unwrap().parse().unwrap();
        chain.shutdown().await;
        let chain = LocalChain::start(&ChainChoice::Embedded, BLOCKS, port).await.unwrap();
        self.chain = Some(chain);
    }

    /// Names another daemon of Docker in the environment from now on.
    pub(super) fn let_docker_be(&mut self, host: &str) {
        self.docker = Some(host.to_owned());
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.roadstead.command(arguments);
        command.envs(self.docker.iter().map(|host| ("DOCKER_HOST", host)));
        command
    }

    /// The provider's folder.
    pub(super) fn home(&self) -> PathBuf {
        self.roadstead.home().join("provider")
    }

    /// An empty place for a file of the test.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `roadstead provider`.
    pub(super) fn provider(&self, arguments: &[&str]) -> Output {
        finish(self.command(&[&["provider"], arguments].concat()).spawn().unwrap())
    }

    /// The same with `--json`, which succeeds.
    pub(super) fn succeeds(&self, arguments: &[&str]) -> Value {
        let output = self.provider(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", standard_error(&output));
        json(&output)
    }

    /// The same without, which fails and says `what`.
    pub(super) fn fails(&self, arguments: &[&str], what: &str) -> String {
        let output = self.provider(arguments);
        let said = standard_error(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(what), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{output:?}");
        said
    }

    /// A provider with the market's funded account.
    pub(super) fn init(&self) -> Value {
        let (market, key) = (text(&self.local.market_file), text(&self.local.provider_key));
        self.succeeds(&["init", "--market", market, "--key-file", key])
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Daemon {
        let arguments = [&["provider", "run", "--json"], arguments].concat();
        Daemon::start(self.command(&arguments).spawn().unwrap())
    }

    pub(super) async fn publisher(&self) -> Publisher {
        Publisher::start(self).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.home().join("engine.txt").exists() {
            let reset = self.provider(&["reset", "--yes"]);
            if !thread::panicking() {
                assert!(reset.status.success(), "{}", standard_error(&reset));
            }
        }
    }
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A daemon that is ready. Dropped, it is killed; its containers are not.
pub(super) struct Daemon {
    child: Option<Child>,
    lines: Receiver<String>,
    pub(super) ready: Value,
}

impl Daemon {
    fn start(mut child: Child) -> Self {
        let (output, errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (said, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let (first, ready) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(output).read_line(&mut line);
            let _ = first.send(line);
        });
        let mut daemon = Self { child: Some(child), lines, ready: Value::Null };
        let line = ready.recv_timeout(PATIENCE).unwrap_or_default();
        match serde_json::from_str::<Value>(&line) {
            Ok(found) if found["pid"].is_u64() => daemon.ready = found,
            _ => panic!("it is not ready: {line:?}, {:?}", daemon.end(Signal::KILL)),
        }
        daemon
    }

    /// The first line from now on that holds `what`.
    pub(super) fn says(&self, what: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(what) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("it never said {what}, but {heard:#?}"),
            }
        }
    }

    /// Ends it as a terminal does: the signal goes to its whole group. Returns its status and all that was not heard.
    pub(super) fn end(&mut self, signal: Signal) -> (Option<i32>, Vec<String>) {
        let child = self.child.take().expect("it ends once");
        kill_process_group(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), signal).unwrap();
        let status = finish(child).status.code();
        (status, self.lines.iter().collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.end(Signal::KILL);
        }
    }
}

/// A publisher whose agent accepts what is right.
pub(super) struct Publisher {
    ports: Ports,
    keys: Keys,
    agent_keys: AgentKeys,
    store: LocalStore,
    events: tasks::Receiver<AgentEvent>,
    folder: PathBuf,
    _stop: DropGuard,
}

impl Publisher {
    async fn start(stage: &Stage) -> Self {
        let folder = StateFolder::open(stage.place("publisher")).unwrap();
        let keys = Keys::load_or_create(&folder).unwrap();
        let agent_keys = AgentKeys::load_or_create(&folder).unwrap();
        let store = LocalStore::start(&StoreChoice::Embedded, &stage.place("blocks")).await;
        let store = store.unwrap();
        let (market, wallet) = (stage.local.market.clone(), stage.local.publisher.clone());
        let ports = wire(market, wallet, store.store(), &folder, &keys).await.unwrap();
        let (said, events) = tasks::channel(10_000);
        let report = move |event| drop(said.try_send(event));
        let stop = CancellationToken::new();
        let agent = Agent::new(ports.agent(&agent_keys), AgentLimits::default(), report);
        tokio::spawn(agent.run(stop.clone()));
        let (folder, stop) = (stage.place("workload"), stop.drop_guard());
        Self { ports, keys, agent_keys, store, events, folder, _stop: stop }
    }

    /// Opens a job for the service of the demonstration, at the prices that the provider asks for.
    pub(super) async fn open_job(&self, stage: &Stage) -> JobId {
        let provider = stage.local.provider.address();
        let image = self.folder.join("image");
        service::pack(&image).unwrap();
        let workload = service::workload(&image);
        let sealed = seal(&self.ports, &self.keys, workload, &self.folder, |_| {}).await.unwrap();
        let deal = Deal {
            provider,
            signer: self.agent_keys.signer.address(),
            deposit: amount(5_000_000),
            prices: provider_profile(&self.ports, provider).await.unwrap().prices,
            interval: Seconds(2),
            start_fee: amount(500),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            source: self.store.source().to_owned(),
        };
        let key = provider_key(&self.ports, provider).await.unwrap();
        let market = &stage.local.market;
        let prepared = publish(&self.ports, &self.keys, market, &sealed, &key, &deal).await;
        let opened = open(&self.ports, OpenRequest::from(&prepared.unwrap().plan)).await;
        opened.unwrap().job
    }

    /// Waits until receipt `last` is accepted, and checks that the ones from `next` on came one after the other.
    pub(super) async fn accepts(&mut self, next: u32, last: u32) {
        let mut expected = next;
        let accepted = async {
            while expected <= last {
                match self.events.recv().await.expect("the agent runs") {
                    AgentEvent::Accepted { receipt, .. } => {
                        assert_eq!(receipt.seq, expected);
                        expected += 1;
                    }
                    event @ (AgentEvent::Refused { .. }
                    | AgentEvent::Equivocation { .. }
                    | AgentEvent::Restored { .. }) => panic!("{event:?}"),
                    _ => {}
                }
            }
        };
        let accepted = timeout(PATIENCE, accepted).await;
        accepted.unwrap_or_else(|_| panic!("receipt {expected} was never accepted"));
    }
}

/// The status of the answer at `url`.
pub(super) fn call(url: &str) -> u16 {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What is left on this machine of the engine in a folder that is gone: processes, mounts, control groups, and whatever
/// Docker has.
pub(super) fn left_of(folder: &Path, engine: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text(folder)) {
            left.push(line);
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(text(folder))).map(str::to_owned));
    find_named(Path::new("/sys/fs/cgroup"), engine, 3, &mut left);
    let filter = format!("label=roadstead.engine={engine}");
    for kind in [["ps", "--all"].as_slice(), &["network", "ls"], &["images", "--all"]] {
        let listed =
            Command::new("docker").args(kind).args(["--quiet", "--filter", &filter]).output();
        let listed = listed.expect("there is no docker command; script/setup installs it");
        assert!(listed.status.success(), "{}", standard_error(&listed));
        left.extend(String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned));
    }
    left
}

fn find_named(folder: &Path, name: &str, depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str() == Some(name) {
            found.push(entry.path().display().to_string());
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            find_named(&entry.path(), name, depth - 1, found);
        }
    }
}
