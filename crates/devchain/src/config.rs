//! What a chain is started with: accounts, mining and the clock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::{Address, U256};

/// The settings of a development chain. Change what matters and take the rest from
/// [`Config::default`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The chain id; 31337, as development chains have it.
    pub chain_id: u64,
    /// The timestamp of the genesis block. The time of the chain starts there and runs with the
    /// clock; without it the chain starts at the time of the clock.
    pub genesis_timestamp: Option<u64>,
    /// When blocks are mined.
    pub mining: Mining,
    /// The gas limit of every block.
    pub gas_limit: u64,
    /// Accounts that exist in the genesis block, with their balance in wei.
    pub accounts: Vec<(Address, U256)>,
    /// For how many of the latest blocks the state can still be asked; at least one.
    pub state_history: usize,
    /// Where the time of blocks comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chain_id: 31337,
            genesis_timestamp: None,
            mining: Mining::Automine,
            gas_limit: 30_000_000,
            accounts: Vec::new(),
            state_history: 1024,
            clock: Arc::new(SystemClock),
        }
    }
}

/// When blocks are mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// A block for every transaction that is ready, before the call that sends it returns.
    Automine,
    /// A block every so often, empty or not, with all waiting transactions that fit. Needs the
    /// miner task to run.
    Interval(Duration),
    /// A block only when somebody asks for one.
    Manual,
}

/// A source of wall-clock time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Seconds since the Unix epoch.
    fn now(&self) -> u64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
    }
}

/// A clock that only moves when it is told to, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: u64) -> Self {
        Self(AtomicU64::new(now))
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
