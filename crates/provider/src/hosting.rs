//! What the daemon remembers about one job between its rounds.

use std::time::Duration;

use roadstead_core::{Duty, Presence};
use tokio::time::Instant;

/// How long a job is left alone after a duty failed; doubled with each further failure.
const REST: Duration = Duration::from_secs(5);

/// The longest rest.
const MAX_REST: Duration = Duration::from_secs(600);

/// A job on this machine.
#[derive(Debug, Default)]
pub(crate) struct Hosting {
    /// How much of it is here.
    pub(crate) presence: Presence,
    /// Whether it is never served.
    pub(crate) is_refused: bool,
    /// What failed last, how often in a row, and when it may be tried again.
    resting: Option<(Duty, u32, Instant)>,
}

impl Hosting {
    /// A job that something is here of.
    pub(crate) const fn found() -> Self {
        Self { presence: Presence::Partial, is_refused: false, resting: None }
    }

    /// Whether the duty failed too recently to be tried again.
    pub(crate) fn rests(&self, duty: Duty, now: Instant) -> bool {
        self.resting.is_some_and(|(failed, _, until)| failed == duty && now < until)
    }

    /// Notes that the duty failed.
    pub(crate) fn failed(&mut self, duty: Duty, now: Instant) {
        let before = match self.resting {
            Some((failed, times, _)) if failed == duty => times,
            _ => 0,
        };
        let rest = REST.saturating_mul(2u32.saturating_pow(before)).min(MAX_REST);
        self.resting = Some((duty, before.saturating_add(1), now + rest));
    }

    /// Notes that the duty was done.
    pub(crate) fn succeeded(&mut self, duty: Duty) {
        if self.resting.is_some_and(|(failed, ..)| failed == duty) {
            self.resting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_end_with_success() {
        let mut hosting = Hosting::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..40 {
            hosting.failed(Duty::Deploy, now);
            let start = now;
            while hosting.rests(Duty::Deploy, now) {
                now += Duration::from_secs(5);
            }
            rests.push((now - start).as_secs());
        }
        assert_eq!(rests[..4], [5, 10, 20, 40]);
        assert_eq!(rests[39], MAX_REST.as_secs());
        assert!(!hosting.rests(Duty::Remove, now));

        hosting.failed(Duty::Deploy, now);
        hosting.succeeded(Duty::Deploy);
        assert!(!hosting.rests(Duty::Deploy, now));
        hosting.failed(Duty::Deploy, now);
        assert!(!hosting.rests(Duty::Deploy, now + REST));
    }
}
