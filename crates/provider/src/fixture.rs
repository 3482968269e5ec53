//! One job at a provider whose processes can end at any moment, and everybody around it.
//!
//! A process is a [`Host`] with its [`Desk`]; chain time is what a test says, and the meters do their steps when told.

mod chain;
mod parties;
mod workload;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256};
use roadstead_abi::job_id;
use roadstead_chain::Wallet;
use roadstead_core::{
    Cursor, Duty, JobBook, JobEvent, Offer, Opening, Presence, SettlePolicy, Situation,
    ports::{ContentStore, Engine, Phase},
    protocol::JobPhase,
    rate_per_hour,
};
use roadstead_crypto::{EncryptionSecret, NodeIdentity, seal_bundle, sha256};
use roadstead_journal::{Journal, JournalBinding, StateFolder};
use roadstead_testkit::{FakeEngine, MemorySources, MemoryStore};
use roadstead_types::{
    BundleBinding, Domain, ImageKey, InstanceId, JobId, PeerId, Resources, Seconds, SignedReceipt,
    Terms, Timestamp, TokenAmount,
    content::{RAW, content_id},
};
use tempfile::TempDir;
use tokio::task::yield_now;

use crate::{
    Keys, LoopbackEndpoints, Ports,
    deploy::{Host, Order},
    desk::Desk,
    holdings::Holdings,
    ledger::{Entry, Facts, Ledger, Life},
    metering::{Need, tend},
};
pub(crate) use chain::Chain;
pub(crate) use workload::{NoLayers, RESERVATION};
use workload::{PRICES, bundle, image};

/// When the job is opened.
const OPENED: Timestamp = Timestamp(1_800_000_000);

pub(crate) fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

/// So many seconds after the opening.
pub(crate) fn at(seconds: u32) -> Timestamp {
    OPENED.after(Seconds(seconds))
}

pub(crate) struct World {
    folder: StateFolder,
    /// Deleted with the world.
    homes: Vec<TempDir>,
    pub(crate) provider: Wallet,
    pub(crate) signer: Wallet,
    pub(crate) publisher: Wallet,
    pub(crate) terms: Terms,
    pub(crate) domain: Domain,
    pub(crate) job: JobId,
    pub(crate) offer: Offer,
    pub(crate) chain: Arc<Chain>,
    pub(crate) cache: Arc<MemoryStore>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) journal: Journal,
    pub(crate) host: Arc<Host>,
    pub(crate) desk: Desk,
    book: JobBook,
    cursor: Cursor,
    peers: [PeerId; 2],
    nonces: AtomicU64,
    /// A moment that no test lives to see: until then no time passes on the chain by itself.
    later: Instant,
}

fn open_journal(domain: &Domain) -> (TempDir, StateFolder, Journal) {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let binding =
        JournalBinding { chain: domain.chain, genesis: B256::ZERO, contract: domain.contract };
    let journal = Journal::open(&folder, &binding).unwrap();
    (home, folder, journal)
}

impl World {
    /// A job whose deposit is as good as endless.
    pub(crate) async fn new() -> Self {
        Self::with(100_000_000, 0).await
    }

    pub(crate) async fn with(deposit: u128, start_fee: u128) -> Self {
        let (provider, signer, publisher) = (Wallet::random(), Wallet::random(), Wallet::random());
        let domain = Domain { chain: 31_337, contract: Address::repeat_byte(0xcc) };
        let (home, folder, journal) = open_journal(&domain);
        let keys = Keys::load_or_create(&folder).unwrap();
        let binding = BundleBinding {
            chain: domain.chain,
            contract: domain.contract,
            publisher: publisher.address(),
            provider: provider.address(),
        };
        let recovery = EncryptionSecret::generate().public_key();
        let plain = serde_json::to_vec(&bundle()).unwrap();
        let sealed = seal_bundle(&plain, &binding, &keys.encryption.public_key(), &recovery);
        let sealed = sealed.unwrap();
        let digest = sha256(&sealed);
        let terms = Terms {
            publisher: publisher.address(),
            provider: provider.address(),
            signer: signer.address(),
            rate_per_hour: rate_per_hour(&RESERVATION, &PRICES).unwrap(),
            start_fee: amount(start_fee),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 7,
            bundle: digest,
        };
        let job = job_id(&domain, &terms);
        let (cache, engine) = (Arc::new(MemoryStore::default()), Arc::new(FakeEngine::default()));
        cache.put(&content_id(RAW, digest), sealed.into()).await.unwrap();
        let chain = Arc::new(Chain::new(provider.address(), job));
        let opening = Opening { terms: terms.clone(), deposit: amount(deposit), source: vec![] };
        chain.happens(OPENED, JobEvent::Opened(Box::new(opening)));
        let offer = Offer {
            prices: Resources::default(),
            capacity: Resources::from_fn(|_| 1_000_000),
            interval: (Seconds(1), Seconds(3_600)),
            notice: Seconds(3_600),
            image_size: 1,
            settle: SettlePolicy { value: TokenAmount::MAX, age: Seconds(86_400) },
            grace: Seconds(3_600),
            silence: Seconds(3_600),
        };
        let ports = Ports {
            events: chain.clone(),
            reader: chain.clone(),
            writer: chain.clone(),
            signer: Arc::new(provider.clone()),
            journal: journal.clone(),
            poll_interval: Duration::from_millis(20),
            cache: cache.clone(),
            sources: Arc::new(MemorySources::default()),
            engine: engine.clone(),
            endpoints: Arc::new(LoopbackEndpoints),
        };
        let host = Self::process(ports, keys, offer, domain);
        let desk = Desk::new(host.clone(), provider.address(), "{}".into());
        let peers = [(); 2].map(|()| NodeIdentity::generate().peer_id());
        let mut world = Self {
            folder,
            homes: vec![home],
            provider,
            signer,
            publisher,
            terms,
            domain,
            job,
            offer,
            chain,
            cache,
            engine,
            journal,
            host,
            desk,
            book: JobBook::default(),
            cursor: Cursor::starting_at(1),
            peers,
            nonces: AtomicU64::default(),
            later: Instant::now() + Duration::from_secs(86_400),
        };
        world.prepare_image().await;
        // The journal is older than the job.
        world.host.ledger.learn_age(0).await.unwrap();
        world.sees_head(OPENED);
        world.read();
        world
    }

    fn process(ports: Ports, keys: Keys, offer: Offer, domain: Domain) -> Arc<Host> {
        let ledger = Ledger::new(domain, ports.journal.clone(), ports.signer.clone());
        let holdings = Holdings::default();
        Arc::new(Host { ports, keys, offer, ledger, holdings, report: Arc::new(|_| {}) })
    }

    /// The engine has the image, whatever is in the cache.
    pub(crate) async fn prepare_image(&self) {
        let key = ImageKey { tenant: self.terms.publisher, image: image().image };
        self.engine.prepare(&key, &NoLayers).await.unwrap();
    }

    /// What the next process is made of.
    pub(crate) fn ports(&self) -> Ports {
        let (journal, engine) = (self.journal.clone(), self.engine.clone());
        Ports { journal, engine, ..self.host.ports.clone() }
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys::load_or_create(&self.folder).unwrap()
    }

    /// The process ends; the next one has loaded what was kept and knows no time yet.
    pub(crate) async fn ends(&mut self) {
        let now = self.host.ledger.now().unwrap();
        self.host = Self::process(self.ports(), self.keys(), self.offer, self.domain);
        self.desk = Desk::new(self.host.clone(), self.provider.address(), "{}".into());
        self.host.ledger.load().await.unwrap();
        self.host.ledger.follow(&self.book);
        self.sees_head(now);
    }

    /// The process ends; the next one has read the chain to its end.
    pub(crate) async fn restarts(&mut self) {
        self.ends().await;
        self.read();
        self.host.ledger.learn_age(self.cursor.next()).await.unwrap();
    }

    /// The journal is lost, and the process with it. The next one makes a new journal in a block after that of the job.
    pub(crate) async fn loses_journal(&mut self) {
        let (home, _, journal) = open_journal(&self.domain);
        self.homes.push(home);
        self.journal = journal;
        self.restarts().await;
    }

    /// The engine's data is lost.
    pub(crate) async fn loses_instance(&self) {
        self.engine.remove(&self.id()).await.unwrap();
    }

    /// Reads the chain to its end, as the daemon does.
    pub(crate) fn read(&mut self) {
        let batch = self.chain.batch(&self.cursor);
        self.cursor = batch.cursor.clone();
        let changes = self.book.apply(batch);
        self.host.ledger.close(&changes.closed);
        self.host.ledger.follow(&self.book);
        self.host.ledger.read_up_to(self.host.ledger.times().map(|(head, _)| head));
    }

    /// The time of the newest block, and of all that is done before the next one.
    pub(crate) fn sees_head(&self, head: Timestamp) {
        self.host.ledger.see_head(head, self.later);
    }

    pub(crate) fn happens(&mut self, seconds: u32, event: JobEvent) {
        self.chain.happens(at(seconds), event);
        self.sees_head(at(seconds));
        self.read();
    }

    pub(crate) fn id(&self) -> InstanceId {
        InstanceId::first(self.job)
    }

    pub(crate) fn order(&self) -> Order {
        let slot = self.facts().slot;
        let (deposit, paid) = (slot.deposit, slot.paid);
        Order { job: self.job, terms: self.terms.clone(), deposit, paid, source: Vec::new() }
    }

    /// Brings the job to run, or adopts it.
    pub(crate) async fn deploy(&self) {
        self.host.deploy(&self.order(), false).await.unwrap();
    }

    /// A deployment that is cut off when its instance was started, and does not know it yet.
    pub(crate) async fn deploy_up_to_the_start(&self) {
        let before = self.engine.starts(&self.id());
        self.engine.mute_starts(true);
        let order = self.order();
        let started = async {
            while self.engine.starts(&self.id()) == before {
                yield_now().await;
            }
        };
        tokio::select! {
            deployed = self.host.deploy(&order, false) => panic!("{deployed:?}"),
            () = started => {}
        }
        self.engine.mute_starts(false);
    }

    pub(crate) async fn ready(&self) {
        self.host.ledger.ready(self.job, Life::New).await.unwrap();
    }

    pub(crate) fn entry(&self) -> Arc<Entry> {
        self.host.ledger.entry(self.job).unwrap()
    }

    pub(crate) fn facts(&self) -> Facts {
        self.entry().facts()
    }

    pub(crate) fn is_final(&self) -> bool {
        self.facts().account.is_some_and(|account| account.is_final())
    }

    pub(crate) fn need(&self) -> Option<Need> {
        Need::of(&self.facts(), self.host.ledger.now().unwrap(), &self.host)
    }

    /// So many seconds after the opening the chain is read, and the meters do all that they have to.
    pub(crate) async fn at(&mut self, seconds: u32) {
        self.sees_head(at(seconds));
        self.read();
        self.tend().await;
    }

    pub(crate) async fn tend(&self) {
        for _ in 0..4 {
            let now = self.host.ledger.now().unwrap();
            // What fails is tried again later.
            tend(&self.host, &self.entry(), now).await.ok();
        }
    }

    pub(crate) async fn receipts(&self) -> Vec<SignedReceipt> {
        self.journal.receipts(self.job, 0, 10_000).await.unwrap()
    }

    /// MiB seconds that were billed.
    pub(crate) async fn billed(&self) -> u64 {
        self.receipts().await.last().map_or(0, |newest| newest.receipt.total.memory)
    }

    pub(crate) async fn phase(&self) -> Option<Phase> {
        self.engine.observe(&self.id()).await.unwrap().map(|seen| seen.phase)
    }

    /// What the daemon would do, given what of the job is here.
    pub(crate) fn duty(&self, presence: Presence) -> Option<Duty> {
        let facts = self.facts();
        let (head, now) = self.host.ledger.times().unwrap();
        let is_refused = matches!(facts.phase, JobPhase::Refused { .. });
        let situation = Situation {
            terms: &facts.terms,
            job: &facts.slot,
            presence,
            is_refused: is_refused || (facts.is_ordered_away && facts.account.is_none()),
            account: facts.account.as_ref(),
            missing_since: facts.missing_since(),
            policy: &self.offer.settle,
            head,
            now,
        };
        situation.duty()
    }
}
