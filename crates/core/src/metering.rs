//! The meter of one job: what its instances used, out of what an engine sees of them.
//!
//! ```text
//!  sightings: running, frozen, stopped ──> pending usage ── read: at most reservation x time ──> totals
//!                                                │ the rest is carried over
//! ```
//!
//! CPU and network come from counters; memory, storage and accelerators are what is reserved, for the time that the
//! instance was seen to run. Time between a sighting as running and one as anything else is not counted. A process that ends
//! loses what was seen since the meter was last kept; the counters go on without it, and time between two sightings as
//! running counts however long it was.
//!
//! Counters begin at zero with a new life of the instance, and a new life is one that was announced: by
//! [`Meter::restarted`], or by a sighting of the end of the one before. It is counted in full. Within a life each counter
//! counts, by itself, only what is above the highest that it showed: one that cannot be read, or that falls, counts nothing
//! until it is above that again. So what was used is billed once, whatever was read in between, and a life that nobody
//! announced costs the provider what is below the last one's counters.

use roadstead_types::{Resource, Resources, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ports::Usage;

/// How an instance was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It runs; its counters.
    Running(Usage),
    /// It is frozen; its counters.
    Frozen(Usage),
    /// It has ended, with the last counters where they are known; the next life begins at zero.
    Stopped(Option<Usage>),
}

/// How the instance was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Life {
    /// Not yet by this meter: what its counters hold was billed by another one, or is not billed.
    Unseen,
    Running,
    Frozen,
    Stopped,
}

/// A meter. It is kept with each receipt, so that a new process goes on where the last reading was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    read_at: Timestamp,
    total: Resources<u64>,
    /// Seen and not read yet; after a reading, what was above its bound.
    pending: Resources<u64>,
    seen_at: Timestamp,
    life: Life,
    /// The highest that each showed in this life; where one is absent, what it holds when it appears is not charged.
    counters: Resources<Option<u64>>,
}

/// What a reading gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Where the interval begins.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// Usage since the start.
    pub total: Resources<u64>,
}

impl Meter {
    /// A meter for an instance that is ready now and has used nothing.
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            read_at: now,
            total: Resources::default(),
            pending: Resources::default(),
            seen_at: now,
            life: Life::Running,
            counters: AT_ZERO,
        }
    }

    /// A meter that goes on from a reading that was made elsewhere. What was used since is not charged.
    pub fn resuming(to: Timestamp, total: Resources<u64>) -> Self {
        Self {
            read_at: to,
            total,
            pending: Resources::default(),
            seen_at: to,
            life: Life::Unseen,
            counters: Resources::default(),
        }
    }

    /// When the last reading was made.
    pub const fn read_at(&self) -> Timestamp {
        self.read_at
    }

    /// Whether the instance ran when it was last seen.
    pub const fn was_running(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    /// The instance began a new life, so its counters begin at zero.
    pub fn restarted(&mut self, now: Timestamp) {
        self.seen_at = self.seen_at.max(now);
        self.life = Life::Running;
        self.counters = AT_ZERO;
    }

    /// Takes in how the instance was found.
    pub fn see(&mut self, now: Timestamp, sighting: Sighting, reservation: &Resources<u64>) {
        let (usage, life) = match sighting {
            Sighting::Running(usage) => (Some(usage), Life::Running),
            Sighting::Frozen(usage) => (Some(usage), Life::Frozen),
            Sighting::Stopped(usage) => (usage, Life::Stopped),
        };
        if self.life == Life::Stopped && life != Life::Stopped {
            self.counters = AT_ZERO;
        }
        if let Some(usage) = usage {
            self.count(&usage);
        }
        if self.was_running() && life == Life::Running {
            let seconds = u64::from(now.since(self.seen_at).0);
            for resource in [Resource::Memory, Resource::Storage, Resource::Accelerator] {
                self.add(resource, reservation.get(resource).saturating_mul(seconds));
            }
        }
        self.seen_at = self.seen_at.max(now);
        self.life = life;
    }

    fn count(&mut self, usage: &Usage) {
        let found = Resources {
            cpu: usage.cpu,
            network_in: usage.network_in,
            network_out: usage.network_out,
            ..Resources::default()
        };
        let known = self.counters;
        for resource in Resource::ALL {
            if let (Some(found), Some(known)) = (found.get(resource), known.get(resource)) {
                self.add(resource, found.saturating_sub(known));
            }
        }
        self.counters = Resources::from_fn(|each| found.get(each).max(known.get(each)));
    }

    /// Ends an interval now; `None` where no whole second has passed since the last one. Growth above reservation times
    /// time is left for later intervals.
    pub fn read(&mut self, now: Timestamp, reservation: &Resources<u64>) -> Option<Reading> {
        let (from, to) = (self.read_at, now);
        let seconds = u64::from(to.since(from).0);
        if seconds == 0 {
            return None;
        }
        let grown = Resources::from_fn(|resource| {
            self.pending.get(resource).min(reservation.get(resource).saturating_mul(seconds))
        });
        let (total, pending) = (self.total, self.pending);
        self.total = Resources::from_fn(|each| total.get(each).saturating_add(grown.get(each)));
        self.pending = Resources::from_fn(|each| pending.get(each) - grown.get(each));
        self.read_at = to;
        Some(Reading { from, to, total: self.total })
    }

    fn add(&mut self, resource: Resource, growth: u64) {
        let pending = self.pending;
        self.pending = Resources::from_fn(|each| {
            let more = if each == resource { growth } else { 0 };
            pending.get(each).saturating_add(more)
        });
    }
}

/// The counters of a life that begins. Of resources without a counter they are never read.
const AT_ZERO: Resources<Option<u64>> = Resources {
    cpu: Some(0),
    memory: None,
    storage: None,
    network_in: Some(0),
    network_out: Some(0),
    accelerator: None,
};
