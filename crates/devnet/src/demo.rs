//! The demonstration: a whole market on this machine, from the wallet to the refund.
//!
//! ```text
//!  1 chain and contracts        2 provider listens and registers, daemon starts
//!  3 prices asked for, image sealed and kept, bundle sealed, job opened with a deposit
//!  4 the daemon sees the job, fetches and opens both, runs the container
//!  5 the agent learns where, the service answers
//!  6 receipts, vouchers, settlements
//!  7 order, last bill, container gone, refund, withdrawal, bill recomputed
//! ```
//!
//! What was paid and refunded is read from the chain, and the books of both sides are checked to the unit before the
//! report is returned.
//! Interrupted at any point, the scenario closes the job that it opened before it ends. Given up, it still leaves no
//! container.

mod call;
mod host;
mod pins;
mod renter;
mod report;
mod workload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use alloy_primitives::U256;
use roadstead_core::ports::{ChainError, ContentError, ContentStore, Engine, EngineError};
use roadstead_image::SealProgress;
use roadstead_journal::{FolderError, StateFolder};
use roadstead_net::ListenError;
use roadstead_provider::{DaemonError, ProviderEvent, RegisterError};
use roadstead_publisher::{
    AgentError, AgentEvent, CloseError, CloseEvent, OpenError, ProfileError, PublishError,
    SealWorkloadError, SealedImage, VerifiedBill, VerifyError, WithdrawError,
};
use roadstead_types::{JobId, Market, TokenAmount};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Blocks, ChainChoice, ChainStartError, LocalChain},
    engine::EngineChoice,
    market::{LocalMarket, MarketStartError},
    store::{LocalStore, StoreChoice, StoreStartError},
};
use host::Host;
use pins::Pins;
use renter::Renter;
use report::Stopwatch;

pub use call::{Answer, CallError, call};
pub use report::{DemoReport, DemoTimings};
pub use workload::{WorkloadChoice, WorkloadError};

/// How long one side waits for the other before the demonstration counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a container may take until it runs.
const DEPLOY_PATIENCE: Duration = Duration::from_secs(900);

/// As on a public chain, only faster.
const BLOCKS: Blocks = Blocks::Every(Duration::from_secs(1));

/// What to play with.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Which chain.
    pub chain: ChainChoice,
    /// Where the publisher keeps its blocks.
    pub store: StoreChoice,
    /// What the provider runs containers with.
    pub engine: EngineChoice,
    /// What runs in them.
    pub workload: WorkloadChoice,
    /// An empty folder for the files of market, publisher and provider.
    pub folder: PathBuf,
    /// The program that the embedded engine starts for each container: one whose `main` begins with
    /// [`roadstead_runtime::shim::answer`].
    pub shim: PathBuf,
}

/// What just happened.
#[derive(Debug)]
pub enum DemoEvent {
    /// Contracts are deployed and accounts funded.
    MarketReady {
        /// The market.
        market: Box<Market>,
        /// Where its facts are written.
        market_file: PathBuf,
    },
    /// The provider stands in the registry.
    Registered(roadstead_provider::Registered),
    /// The publisher's image is being sealed.
    Sealing(SealProgress),
    /// It lies sealed in the publisher's store.
    Sealed(SealedImage),
    /// The publisher sends its deposit.
    Opening {
        /// The job.
        job: JobId,
        /// How much.
        deposit: TokenAmount,
    },
    /// The provider's daemon saw or did something.
    Provider(ProviderEvent),
    /// The publisher's agent saw or did something.
    Agent(AgentEvent),
    /// The service was called.
    Answered {
        /// Where.
        url: String,
        /// What it said.
        answer: Answer,
    },
    /// The publisher leaves.
    Closing,
    /// How it leaves.
    Leaving(CloseEvent),
    /// The bill was recomputed from its receipts.
    Verified(VerifiedBill),
    /// What the provider did not earn is in the publisher's wallet again.
    Refunded {
        /// How much.
        amount: TokenAmount,
    },
}

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder cannot be used.
    #[error("the demonstration's folder cannot be used")]
    Folder(#[from] FolderError),
    /// There is no chain.
    #[error(transparent)]
    Chain(#[from] ChainStartError),
    /// There is no market on it.
    #[error(transparent)]
    Market(#[from] MarketStartError),
    /// The chain stopped to answer.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// There is nothing to run containers with.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The provider has no keys.
    #[error(transparent)]
    ProviderKeys(#[from] roadstead_provider::KeyError),
    /// The provider cannot reach the world.
    #[error("the provider cannot work")]
    Provider(#[from] roadstead_provider::WireError),
    /// The provider cannot be reached.
    #[error("the provider cannot listen")]
    Listen(#[from] ListenError),
    /// It listens nowhere.
    #[error("the provider listens at no address")]
    NoAddress,
    /// The provider is not registered.
    #[error("the provider could not register")]
    Register(#[from] RegisterError),
    /// The provider's daemon ended too soon.
    #[error("the provider's daemon ended")]
    Daemon(#[from] DaemonError),
    /// The publisher has no keys.
    #[error(transparent)]
    PublisherKeys(#[from] roadstead_publisher::KeyError),
    /// The publisher cannot reach the world.
    #[error("the publisher cannot work")]
    Publisher(#[from] roadstead_publisher::WireError),
    /// The publisher's agent ended too soon.
    #[error("the publisher's agent ended")]
    Agent(#[from] AgentError),
    /// What the provider offers is not known.
    #[error("the provider's offer cannot be had")]
    Profile(#[from] ProfileError),
    /// The bill does not follow from its receipts.
    #[error("the bill is wrong")]
    Verify(#[from] VerifyError),
    /// The publisher's blocks cannot be kept, or not be fetched by anybody.
    #[error(transparent)]
    Store(#[from] StoreStartError),
    /// The provider's cache does not say what it holds.
    #[error("the provider's cache cannot be used")]
    Cache(#[source] ContentError),
    /// The publisher's store did not let go what it had been given.
    #[error("the publisher's blocks stay pinned in its store")]
    Unpin(#[source] ContentError),
    /// There is nothing to run.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The image is not sealed.
    #[error(transparent)]
    Seal(#[from] SealWorkloadError),
    /// The job is not prepared.
    #[error("the job could not be prepared")]
    Publish(#[from] PublishError),
    /// The job is not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The provider does not serve the job.
    #[error("the provider refused the job: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// There is nothing to call.
    #[error("the workload has no port that could be called")]
    NoPort,
    /// The service does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something of the job outlived it.
    #[error("{instances} containers, {images} images and {pins} graphs of blocks are left")]
    LeftBehind {
        /// Running or not.
        instances: usize,
        /// Opened ones.
        images: usize,
        /// In the provider's cache.
        pins: usize,
    },
    /// The job is not closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The refund is still in the escrow.
    #[error(transparent)]
    Withdraw(#[from] WithdrawError),
    /// One side waited in vain.
    #[error("the provider {what} within {} s", within.as_secs())]
    Silent {
        /// What it did not do.
        what: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// The provider's daemon or the publisher's agent ended while it was waited for.
    #[error("the provider's daemon or the publisher's agent ended without a word")]
    Gone,
    /// The sums do not add up.
    #[error("the books do not balance: {what} is {found}, {expected} was expected")]
    Books {
        /// Which sum.
        what: &'static str,
        /// What the chain says.
        found: U256,
        /// What it should be.
        expected: U256,
    },
    /// The user had enough. Nothing is left behind.
    #[error("interrupted")]
    Interrupted {
        /// What came back from the job that was open, if one was.
        refund: Option<TokenAmount>,
    },
    /// The user had enough even of cleaning up. No container is left behind.
    #[error("given up; on a chain that still runs, the job may be open")]
    Abandoned,
}

/// How to end a demonstration before its end.
#[derive(Clone, Debug, Default)]
pub struct DemoStop {
    /// Closes the job, cleans up and returns [`DemoError::Interrupted`].
    pub interrupt: CancellationToken,
    /// Leaves the job as it is, removes the containers and returns [`DemoError::Abandoned`].
    pub abandon: CancellationToken,
}

/// Plays the demonstration.
pub async fn run(
    config: DemoConfig,
    stop: DemoStop,
    report: impl Fn(DemoEvent) + Clone + Send + Sync + 'static,
) -> Result<DemoReport, DemoError> {
    let mut clock = Stopwatch::start();
    // The part that a machine is most likely to lack comes first: nothing is started in vain.
    let engine = config.engine.open(&config.folder.join("engine"), &config.shim).await?;
    let starting = async {
        let chain = LocalChain::start(&config.chain, BLOCKS, 0).await?;
        // Last: it may be a process that works in the folder, and only a shutdown waits for its end.
        let store = LocalStore::start(&config.store, &config.folder.join("store")).await?;
        Ok::<_, DemoError>((chain, store))
    };
    let Some(started) = stop.interrupt.run_until_cancelled(starting).await else {
        return Err(DemoError::Interrupted { refund: None });
    };
    let (chain, store) = started?;
    let pins = Arc::new(Pins::of(store.store()));
    let mut host = None;
    let parts = Parts { chain: &chain, engine, store: pins.clone(), source: store.source() };
    let playing = play(&config, parts, &mut host, &stop.interrupt, &mut clock, report);
    let played = stop.abandon.run_until_cancelled(playing).await;
    let ended = match host {
        Some(host) => host.shutdown().await,
        None => Ok(()),
    };
    let released = pins.release().await.map_err(DemoError::Unpin);
    store.shutdown().await;
    chain.shutdown().await;
    match played.unwrap_or(Err(DemoError::Abandoned)) {
        // A daemon that ended says why.
        Ok(report) => ended.and(released).map(|()| report),
        Err(DemoError::Gone) => ended.and(Err(DemoError::Gone)),
        // It says that nothing is left behind.
        Err(interrupted @ DemoError::Interrupted { .. }) => released.and(Err(interrupted)),
        Err(error) => Err(error),
    }
}

/// What runs before the demonstration begins, and ends after it.
struct Parts<'a> {
    chain: &'a LocalChain,
    engine: Arc<dyn Engine>,
    /// Where the publisher keeps its blocks.
    store: Arc<dyn ContentStore>,
    /// Where the provider fetches them.
    source: &'a str,
}

async fn play(
    config: &DemoConfig,
    parts: Parts<'_>,
    host: &mut Option<Host>,
    stop: &CancellationToken,
    clock: &mut Stopwatch,
    report: impl Fn(DemoEvent) + Clone + Send + Sync + 'static,
) -> Result<DemoReport, DemoError> {
    let Parts { chain, engine, store, source } = parts;
    let setting_up = async {
        let folder = StateFolder::open(config.folder.join("market"))?;
        let local = LocalMarket::start(chain, &folder).await?;
        report(DemoEvent::MarketReady {
            market: Box::new(local.market.clone()),
            market_file: local.market_file.clone(),
        });
        clock.lap(|timings| &mut timings.market);
        let host = Host::start(&local, &config.folder, engine, report.clone()).await?;
        clock.lap(|timings| &mut timings.register);
        Ok::<_, DemoError>((local, host))
    };
    let Some(set_up) = stop.run_until_cancelled(setting_up).await else {
        return Err(DemoError::Interrupted { refund: None });
    };
    let (local, started) = set_up?;
    let host = host.insert(started);
    let renter = Renter::start(&local, &config.folder, store, source, report.clone()).await?;
    let rented = renter.rent(config, host.deployed(), stop, clock, &report).await;
    let ended = renter.shutdown().await;
    let rented = match (rented, ended) {
        // An agent that ended says why.
        (Err(DemoError::Gone), Err(error)) => return Err(error),
        (rented, ended) => rented.and_then(|rented| ended.map(|()| rented))?,
    };
    host.check_empty().await?;
    Ok(DemoReport::new(config, &local.market, &rented, clock))
}
