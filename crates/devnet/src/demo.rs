//! The demonstration: a whole market on this machine, from the wallet to the refund.
//!
//! ```text
//!  1 chain and contracts   2 provider registers, daemon starts   3 job opened with a deposit
//!  4 the daemon sees the job and takes the start fee             7 notice, refund, withdrawal
//! ```
//!
//! What was paid and refunded is read from the chain, and the books of both sides are checked to the unit before the
//! report is returned.
//! Interrupted at any point, the scenario closes the job that it opened before it ends.

mod host;
mod renter;
mod report;

use std::{path::PathBuf, time::Duration};

use alloy_primitives::U256;
use roadstead_core::ports::ChainError;
use roadstead_journal::{FolderError, StateFolder};
use roadstead_provider::{DaemonError, KeyError, ProviderEvent, RegisterError};
use roadstead_publisher::{CloseError, OpenError, WithdrawError};
use roadstead_types::{JobId, Market, TokenAmount};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Blocks, ChainChoice, ChainStartError, LocalChain},
    market::{LocalMarket, MarketStartError},
};
use host::Host;
use renter::Renter;
use report::Stopwatch;

pub use report::{DemoContracts, DemoReport, DemoTimings, NotYet};

/// How long one side waits for the other before the demonstration counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// As on a public chain, only faster.
const BLOCKS: Blocks = Blocks::Every(Duration::from_secs(1));

/// What to play with.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Which chain.
    pub chain: ChainChoice,
    /// An empty folder for the files of market and provider.
    pub folder: PathBuf,
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
    /// The publisher sends its deposit.
    Opening {
        /// The job.
        job: JobId,
        /// How much.
        deposit: TokenAmount,
    },
    /// The provider's daemon saw or did something.
    Provider(ProviderEvent),
    /// The publisher gives notice.
    Closing,
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
    /// The provider has no keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The provider is not registered.
    #[error("the provider could not register")]
    Register(#[from] RegisterError),
    /// The provider's daemon ended too soon.
    #[error("the provider's daemon ended")]
    Daemon(#[from] DaemonError),
    /// The job is not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The job is not closed.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// The refund is still in the escrow.
    #[error(transparent)]
    Withdraw(#[from] WithdrawError),
    /// One side waited in vain.
    #[error("the provider {what} within {} s", PATIENCE.as_secs())]
    Silent {
        /// What it did not do.
        what: &'static str,
    },
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
}

/// Plays the demonstration. `stop` makes it close the job, clean up and return [`DemoError::Interrupted`].
pub async fn run(
    config: DemoConfig,
    stop: CancellationToken,
    report: impl Fn(DemoEvent) + Clone + Send + Sync + 'static,
) -> Result<DemoReport, DemoError> {
    let mut clock = Stopwatch::start();
    let Some(chain) = stop.run_until_cancelled(LocalChain::start(&config.chain, BLOCKS)).await
    else {
        return Err(DemoError::Interrupted { refund: None });
    };
    let chain = chain?;
    let played = play(&config, &chain, &stop, &mut clock, report).await;
    chain.shutdown().await;
    played
}

async fn play(
    config: &DemoConfig,
    chain: &LocalChain,
    stop: &CancellationToken,
    clock: &mut Stopwatch,
    report: impl Fn(DemoEvent) + Clone + Send + Sync + 'static,
) -> Result<DemoReport, DemoError> {
    let setting_up = async {
        let folder = StateFolder::open(config.folder.join("market"))?;
        let local = LocalMarket::start(chain, &folder).await?;
        report(DemoEvent::MarketReady {
            market: Box::new(local.market.clone()),
            market_file: local.market_file.clone(),
        });
        clock.lap(|timings| &mut timings.market);
        let host = Host::start(&local, &config.folder, report.clone()).await?;
        clock.lap(|timings| &mut timings.register);
        Ok::<_, DemoError>((local, host))
    };
    let Some(set_up) = stop.run_until_cancelled(setting_up).await else {
        return Err(DemoError::Interrupted { refund: None });
    };
    let (local, host) = set_up?;
    let rented = match Renter::connect(&local).await {
        Ok(renter) => renter.rent(stop, clock, &report).await,
        Err(error) => Err(error.into()),
    };
    host.shutdown().await?;
    Ok(DemoReport::new(&config.chain, &local.market, &rented?, clock))
}
