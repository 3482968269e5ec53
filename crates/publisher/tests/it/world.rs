//! A market in memory with one publisher, its agent and as many providers as a test wants.

use std::{sync::Arc, time::Duration};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use roadstead_chain::Wallet;
use roadstead_core::{
    Follower,
    ports::{ChainReader, RegistryEntry, SignError, Signer},
    rate_per_hour,
};
use roadstead_crypto::{NodeIdentity, sha256};
use roadstead_journal::{FolderError, Journal, JournalBinding, StateFolder};
use roadstead_publisher::{Agent, AgentError, AgentEvent, AgentLimits, AgentPorts, Ports, adopt};
use roadstead_testkit::MemoryStore;
use roadstead_types::{
    Domain, JobId, JobKey, JobPlan, Registration, Resources, Seconds, Signature, SignedReceipt,
    Tariff, Terms, Timestamp, TokenAmount,
};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{FakeAccount, FakeChain, START},
    host::Host,
    link::{FakeLink, Point, Trap, Traps},
};

/// When every job was opened: long enough ago for any backlog.
pub(crate) const OPENED: Timestamp = Timestamp(START.0 - 10_000);

/// What one second of full use costs.
pub(crate) const PER_SECOND: u128 = 7;

pub(crate) const DOMAIN: Domain = Domain { chain: 31_337, contract: Address::repeat_byte(0xcc) };

pub(crate) fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

/// So many seconds after the opening.
pub(crate) fn at(seconds: u32) -> Timestamp {
    Timestamp(OPENED.0 + seconds)
}

pub(crate) fn wallet(number: u8) -> Wallet {
    format!("{number:064x}").parse().unwrap()
}

pub(crate) fn tariff() -> Tariff {
    let reservation = Resources { cpu: 1_000, memory: 200, ..Resources::default() };
    let prices = Resources { cpu: 5_000_000_000, memory: 10_000_000_000, ..Resources::default() };
    Tariff { interval: Seconds(10), reservation, prices }
}

pub(crate) struct World {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) link: Arc<FakeLink>,
    pub(crate) journal: Journal,
    pub(crate) limits: AgentLimits,
    home: TempDir,
    hosts: u16,
    jobs: u64,
}

/// A job, and where it runs.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) job: JobId,
    pub(crate) host: Arc<Host>,
    pub(crate) plan: JobPlan,
}

impl World {
    pub(crate) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let peer = NodeIdentity::generate().peer_id();
        Self {
            chain: Arc::new(FakeChain::new(DOMAIN)),
            link: Arc::new(FakeLink::new(peer, Arc::new(Traps::default()))),
            journal: open_journal(&home, "journal").await,
            limits: AgentLimits::default(),
            home,
            hosts: 0,
            jobs: 0,
        }
    }

    /// The agent's disk is lost; what it was told by hand is told again.
    pub(crate) async fn lose_disk(&mut self, plans: &[&JobPlan]) {
        self.journal = open_journal(&self.home, "another").await;
        for plan in plans {
            adopt(&self.journal, &DOMAIN, plan).await.unwrap();
        }
    }

    /// The agent's machine is started anew: all that is left is on its disk.
    pub(crate) async fn restart_machine(&mut self) {
        self.journal = open_journal(&self.home, "elsewhere").await;
        self.journal = open_journal(&self.home, "journal").await;
    }

    pub(crate) fn host(&mut self) -> Arc<Host> {
        self.host_as(|_| {})
    }

    /// A registered provider, changed as a test likes.
    pub(crate) fn host_as(&mut self, change: impl FnOnce(&mut Host)) -> Arc<Host> {
        self.hosts += 1;
        let wallet = wallet(100 + u8::try_from(self.hosts).unwrap());
        let mut host = Host::new(self.hosts, self.chain.clone(), DOMAIN, wallet);
        change(&mut host);
        let host = Arc::new(host);
        self.link.add(host.clone());
        self.register(&host);
        host
    }

    pub(crate) fn register(&self, host: &Host) {
        let profile = sha256(host.profile().as_bytes());
        let entry = Registration { endpoint: host.endpoint(), keys: Vec::new(), profile };
        self.chain.register(host.wallet.address(), RegistryEntry::Registered(entry));
    }

    /// A job that the agent does not know.
    pub(crate) fn unknown_job(&mut self, host: &Arc<Host>, deposit: u128) -> Place {
        self.jobs += 1;
        let tariff = tariff();
        let terms = Terms {
            publisher: wallet(1).address(),
            provider: host.wallet.address(),
            signer: wallet(2).address(),
            rate_per_hour: rate_per_hour(&tariff.reservation, &tariff.prices).unwrap(),
            start_fee: amount(0),
            notice: Seconds(3_600),
            window: Seconds(0),
            salt: self.jobs,
            bundle: B256::repeat_byte(9),
        };
        let job = self.chain.open(&terms, amount(deposit), OPENED);
        host.take_job(job, &terms, tariff, OPENED);
        let key = JobKey { chain: DOMAIN.chain, contract: DOMAIN.contract, job };
        let (deposit, source) = (amount(deposit), String::new());
        Place { job, host: host.clone(), plan: JobPlan { key, terms, deposit, source, tariff } }
    }

    /// A provider with a job that the agent follows.
    pub(crate) async fn job(&mut self, deposit: u128) -> Place {
        let host = self.host();
        self.job_at(&host, deposit).await
    }

    pub(crate) async fn job_at(&mut self, host: &Arc<Host>, deposit: u128) -> Place {
        let place = self.unknown_job(host, deposit);
        adopt(&self.journal, &DOMAIN, &place.plan).await.unwrap();
        place
    }

    pub(crate) fn agent_ports(&self) -> AgentPorts {
        AgentPorts {
            events: self.chain.clone(),
            reader: self.chain.clone(),
            poll_interval: Duration::from_secs(1),
            link: self.link.clone(),
            journal: self.journal.clone(),
            signer: Arc::new(Pen { wallet: wallet(2), traps: self.link.traps.clone() }),
            domain: DOMAIN,
            from_block: 0,
        }
    }

    pub(crate) fn start(&self) -> Running {
        let stop = CancellationToken::new();
        let ports = self.agent_ports();
        let (sender, events) = mpsc::channel(4_096);
        let agent = Agent::new(ports, self.limits, move |event| {
            let sent = sender.try_send(event);
            assert!(!matches!(sent, Err(TrySendError::Full(_))), "nobody looks at the events");
        });
        let task = tokio::spawn(agent.run(stop.clone()));
        Running { stop, task, events }
    }

    /// Runs an agent until it is cut off at a point of its work, or has had nothing more to do for long. Whether it was
    /// cut off.
    pub(crate) async fn run_into(&self, at: Point, nth: u32) -> bool {
        let running = self.start();
        self.link.traps.set(Some(Trap { at, nth, stop: running.stop.clone() }));
        let cut_off = timeout(Duration::from_secs(300), running.stop.cancelled()).await;
        running.end().await;
        self.link.traps.set(None);
        cut_off.is_ok()
    }

    pub(crate) fn publisher(&self) -> Ports {
        let account = wallet(1).address();
        Ports {
            events: self.chain.clone(),
            reader: self.chain.clone(),
            writer: Arc::new(FakeAccount { chain: self.chain.clone(), account }),
            poll_interval: Duration::from_secs(1),
            store: Arc::new(MemoryStore::default()),
            link: self.link.clone(),
            journal: self.journal.clone(),
            wallet: Arc::new(wallet(1)),
            domain: DOMAIN,
            from_block: 0,
            opening: Arc::default(),
            resumed: Arc::default(),
        }
    }

    pub(crate) async fn follower(&self, job: JobId) -> Follower {
        let followers = self.journal.followers().await.unwrap();
        followers.into_iter().find(|(id, _)| *id == job).unwrap().1
    }

    pub(crate) async fn kept(&self, job: JobId) -> Vec<SignedReceipt> {
        self.journal.receipts(job, 0, 10_000).await.unwrap()
    }

    pub(crate) async fn slot(&self, job: JobId) -> roadstead_types::Job {
        self.chain.job(job).await.unwrap()
    }
}

async fn open_journal(home: &TempDir, name: &str) -> Journal {
    let folder = loop {
        match StateFolder::open(home.path().join(name)) {
            Ok(folder) => break folder,
            // What a dropped agent had begun to write is still being written; no virtual time passes before its end.
            Err(FolderError::InUse { .. }) => sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let Domain { chain, contract } = DOMAIN;
    Journal::open(&folder, &JournalBinding { chain, genesis: B256::ZERO, contract }).unwrap()
}

/// The agent's key, with a trap behind it.
struct Pen {
    wallet: Wallet,
    traps: Arc<Traps>,
}

#[async_trait]
impl Signer for Pen {
    fn address(&self) -> Address {
        self.wallet.address()
    }

    async fn sign(&self, digest: &B256) -> Result<Signature, SignError> {
        let signed = self.wallet.sign(digest).await;
        self.traps.pass(Point::AfterSignature).await;
        signed
    }
}

/// An agent at work.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
    events: mpsc::Receiver<AgentEvent>,
}

impl Running {
    /// The next event that `wanted` takes; those before it are lost.
    pub(crate) async fn next<T>(&mut self, wanted: impl Fn(&AgentEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the agent goes on");
                if let Some(found) = wanted(&event) {
                    return found;
                }
            }
        };
        timeout(Duration::from_secs(7_200), found).await.expect("the event comes")
    }

    /// All that was told and not looked at yet.
    pub(crate) fn told(&mut self) -> Vec<AgentEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Ends the agent, and gives what it told last.
    pub(crate) async fn end(mut self) -> Vec<AgentEvent> {
        self.stop.cancel();
        (&mut self.task).await.unwrap().unwrap();
        self.told()
    }
}
