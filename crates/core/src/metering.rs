//! The meter of one job: what its instances used, out of what an engine sees of them.
//!
//! ```text
//!  sightings: running, frozen, stopped ──> pending usage ── read: at most reservation x time ──> totals
//!                                                │ the rest is carried over
//! ```
//!
//! CPU and network come from counters, which begin anew with each life of an instance; memory and storage are what is
//! reserved, for the time that the instance was seen to run. Time between a sighting as running and one as anything else
//! is not counted, and neither is time that nobody saw.

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

/// A meter. It is kept with each receipt, so that a new process goes on where the last reading was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    read_at: Timestamp,
    total: Resources<u64>,
    /// Seen and not read yet; after a reading, what was above its bound.
    pending: Resources<u64>,
    seen_at: Timestamp,
    was_running: bool,
    /// Of the present life; `None` where what it used before is not known and not charged.
    counters: Option<Resources<u64>>,
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
            was_running: true,
            counters: Some(Resources::default()),
        }
    }

    /// A meter that goes on from a reading that was made elsewhere. What was used since is not charged.
    pub const fn resuming(to: Timestamp, total: Resources<u64>) -> Self {
        let nothing = Resources {
            cpu: 0,
            memory: 0,
            storage: 0,
            network_in: 0,
            network_out: 0,
            accelerator: 0,
        };
        let (read_at, seen_at) = (to, to);
        Self { read_at, total, pending: nothing, seen_at, was_running: false, counters: None }
    }

    /// When the last reading was made.
    pub const fn read_at(&self) -> Timestamp {
        self.read_at
    }

    /// Whether the instance ran when it was last seen.
    pub const fn was_running(&self) -> bool {
        self.was_running
    }

    /// The instance began a new life, so its counters begin at zero.
    pub fn restarted(&mut self, now: Timestamp) {
        self.see(now, Sighting::Stopped(None), &Resources::default());
        self.was_running = true;
    }

    /// Takes in how the instance was found.
    pub fn see(&mut self, now: Timestamp, sighting: Sighting, reservation: &Resources<u64>) {
        let (usage, runs) = match sighting {
            Sighting::Running(usage) => (Some(usage), true),
            Sighting::Frozen(usage) => (Some(usage), false),
            Sighting::Stopped(usage) => (usage, false),
        };
        if self.was_running && runs {
            let seconds = u64::from(now.since(self.seen_at).0);
            self.add(Resource::Memory, reservation.memory.saturating_mul(seconds));
            self.add(Resource::Storage, reservation.storage.saturating_mul(seconds));
        }
        if let Some(usage) = usage {
            let found = counted(&usage);
            if let Some(known) = self.counters {
                for resource in [Resource::Cpu, Resource::NetworkIn, Resource::NetworkOut] {
                    let growth = found.get(resource).saturating_sub(known.get(resource));
                    self.add(resource, growth);
                }
            }
            self.counters = Some(found);
        }
        if matches!(sighting, Sighting::Stopped(_)) {
            self.counters = Some(Resources::default());
        }
        self.seen_at = self.seen_at.max(now);
        self.was_running = runs;
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

/// Counters of an engine. What it does not meter has no price, so nothing is lost by counting none of it.
fn counted(usage: &Usage) -> Resources<u64> {
    Resources {
        cpu: usage.cpu.unwrap_or_default(),
        network_in: usage.network_in.unwrap_or_default(),
        network_out: usage.network_out.unwrap_or_default(),
        ..Resources::default()
    }
}
