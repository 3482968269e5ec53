//! The chain as its owner holds it: a cheap handle on one ledger behind one lock.
//!
//! The lock is held to look something up, and to mine. Calls, estimates and questions about the
//! pending block copy what they need, which shares nearly everything, and execute without it. No lock
//! is ever held across an await.

mod ledger;
mod time;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::eips::BlockId;
use alloy::primitives::{Address, U256};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::block::{Block, Draft, Snapshot};
use crate::config::{Clock, Config, Mining};
pub(crate) use ledger::{Ledger, LookupError, SendError};
pub use time::TimeError;

/// The least gas a block must have room for: one plain transfer.
const MIN_GAS_LIMIT: u64 = 21_000;

/// How many requests or batches are answered at the same time; more wait for their turn.
const WORKERS: usize = 8;

/// A development chain. Clones are handles on the same chain, which lives as long as the last of
/// them and keeps everything in memory.
#[derive(Clone)]
pub struct Devchain {
    shared: Arc<Shared>,
}

struct Shared {
    chain_id: u64,
    interval: Option<Duration>,
    clock: Arc<dyn Clock>,
    ledger: Mutex<Ledger>,
    workers: Arc<Semaphore>,
}

/// Why a chain does not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No transaction would ever fit into a block.
    #[error("a block gas limit of {gas_limit} has no room for a transfer of {MIN_GAS_LIMIT} gas")]
    GasLimitTooLow {
        /// The limit asked for.
        gas_limit: u64,
    },
    /// A block every zero seconds.
    #[error("the interval between blocks must not be zero")]
    ZeroInterval,
    /// Not even the latest state would be kept.
    #[error("the state of at least one block must be kept")]
    NoStateHistory,
    /// The genesis block would lie too far in the future.
    #[error(transparent)]
    Time(#[from] TimeError),
}

impl fmt::Debug for Devchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devchain")
            .field("chain_id", &self.shared.chain_id)
            .field("block_number", &self.block_number())
            .finish()
    }
}

impl Devchain {
    /// Starts a chain; its genesis block exists at once.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        if config.gas_limit < MIN_GAS_LIMIT {
            return Err(ConfigError::GasLimitTooLow { gas_limit: config.gas_limit });
        }
        if config.state_history == 0 {
            return Err(ConfigError::NoStateHistory);
        }
        let interval = match config.mining {
            Mining::Interval(Duration::ZERO) => return Err(ConfigError::ZeroInterval),
            Mining::Interval(interval) => Some(interval),
            Mining::Automine | Mining::Manual => None,
        };
        let ledger = Ledger::new(&config)?;
        let Config { chain_id, clock, .. } = config;
        Ok(Self {
            shared: Arc::new(Shared {
                chain_id,
                interval,
                clock,
                ledger: Mutex::new(ledger),
                workers: Arc::new(Semaphore::new(WORKERS)),
            }),
        })
    }

    /// The chain id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    /// The number of the latest block.
    #[must_use]
    pub fn block_number(&self) -> u64 {
        self.ledger().head().header.number
    }

    /// The timestamp of the latest block, in seconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(&self) -> u64 {
        self.ledger().head().header.timestamp
    }

    /// Mines one block with all waiting transactions that fit, and returns its number.
    ///
    /// Executes up to a block of gas on the calling thread.
    pub fn mine(&self) -> u64 {
        let now = self.now();
        self.ledger().mine(now).header.number
    }

    /// Moves the time of the chain forward; the next block shows it.
    pub fn increase_time(&self, by: Duration) -> Result<(), TimeError> {
        let now = self.now();
        self.ledger().time_mut().increase(now, by.as_secs()).map(drop)
    }

    /// Gives `address` exactly `balance`, without a transaction.
    ///
    /// The latest state changes at once; the state root shows it from the next block on.
    pub fn set_balance(&self, address: Address, balance: U256) {
        self.ledger().set_balance(address, balance);
    }

    /// How often blocks are mined on their own.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.shared.interval
    }

    /// The time of the clock.
    pub(crate) fn now(&self) -> u64 {
        self.shared.clock.now()
    }

    /// The state after a block, or what it would be after the pending one.
    pub(crate) fn snapshot(&self, id: BlockId) -> Result<Snapshot, LookupError> {
        if id.is_pending() {
            return Ok(self.draft().into_snapshot());
        }
        self.ledger().snapshot(id)
    }

    /// The block that would be mined now.
    pub(crate) fn pending(&self) -> Block {
        self.draft().seal().0
    }

    fn draft(&self) -> Draft {
        let now = self.now();
        // The lock is free again before anything is executed.
        let outlook = self.ledger().outlook(now);
        outlook.execute()
    }

    /// Runs `work` on a blocking thread, once less than [`WORKERS`] do. Whoever stops waiting for it
    /// does not stop it.
    pub(crate) async fn on_worker<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Nobody closes the semaphore, so there always is a permit in the end.
        let permit = Arc::clone(&self.shared.workers).acquire_owned().await.ok();
        let chain = self.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&chain)
        })
        .await
    }

    /// Everything, for as long as the guard lives.
    ///
    /// A panic under the lock cannot leave a block half applied, because a block is put together
    /// beside the ledger and added at the end; so a poisoned lock is still good.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn only_a_few_requests_execute_at_the_same_time() {
        let chain = Devchain::new(Config::default()).unwrap();
        let [now, most] = [0, 0].map(|zero| Arc::new(AtomicUsize::new(zero)));
        let tasks: Vec<_> = (0..4 * WORKERS)
            .map(|_| {
                let (chain, now, most) = (chain.clone(), Arc::clone(&now), Arc::clone(&most));
                let work = move |_: &Devchain| {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(10));
                    now.fetch_sub(1, Ordering::SeqCst);
                };
                tokio::spawn(async move { chain.on_worker(work).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let most = most.load(Ordering::SeqCst);
        assert!((2..=WORKERS).contains(&most), "{most}");
    }

    #[test]
    fn the_pending_block_needs_no_lock_while_it_executes() {
        let chain = Devchain::new(Config::default()).unwrap();
        let outlook = chain.ledger().outlook(chain.now());
        // A lock that is held would be waited for here for ever.
        assert_eq!(chain.mine(), 1);
        assert_eq!(outlook.execute().seal().0.header.number, 1);
    }
}
