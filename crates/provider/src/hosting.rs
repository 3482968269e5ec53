//! What the daemon remembers about one job between its rounds. A crash loses all of it, and only means that what failed
//! is tried again sooner.

use std::{collections::HashMap, time::Duration};

use roadstead_core::{Duty, Presence};
use tokio::time::Instant;

/// How long a duty is left alone after it failed; doubled with each further failure of that duty.
const FIRST_REST: Duration = Duration::from_secs(5);

/// The longest rest.
const MAX_REST: Duration = Duration::from_secs(600);

/// How long a job that never ran is tried before it is given back.
pub(crate) const TRIAL: Duration = Duration::from_secs(3_600);

/// A job on this machine.
#[derive(Debug, Default)]
pub(crate) struct Hosting {
    /// How much of it is here.
    pub(crate) presence: Presence,
    /// Whether it is never served.
    pub(crate) is_refused: bool,
    /// Whether it ran. Then it is never refused.
    pub(crate) has_run: bool,
    /// Whether it was here when the daemon started, and was not deployed since.
    pub(crate) is_found: bool,
    /// When it was last begun to be deployed; `None` goes first.
    pub(crate) tried_at: Option<Instant>,
    running_since: Option<Instant>,
    first_failed_at: Option<Instant>,
    /// Of each duty that failed.
    rests: HashMap<Duty, Rest>,
}

/// How long a duty is left alone.
#[derive(Clone, Copy, Debug)]
struct Rest {
    length: Duration,
    until: Instant,
}

impl Hosting {
    /// A job that has an instance here when the daemon starts.
    pub(crate) fn found() -> Self {
        Self { presence: Presence::Partial, has_run: true, is_found: true, ..Self::default() }
    }

    /// Whether the duty failed too recently to be tried again.
    pub(crate) fn rests(&self, duty: Duty, now: Instant) -> bool {
        self.rests.get(&duty).is_some_and(|rest| now < rest.until)
    }

    /// Notes that the duty failed.
    pub(crate) fn failed(&mut self, duty: Duty, now: Instant) {
        let length = self
            .rests
            .get(&duty)
            .map_or(FIRST_REST, |rest| rest.length.saturating_mul(2).min(MAX_REST));
        self.rests.insert(duty, Rest { length, until: now + length });
        self.first_failed_at.get_or_insert(now);
        self.is_found = false;
    }

    /// Notes that the duty was done.
    pub(crate) fn succeeded(&mut self, duty: Duty, now: Instant) {
        if duty == Duty::Deploy {
            self.has_run = true;
            self.is_found = false;
            self.running_since = Some(now);
        } else {
            self.rests.remove(&duty);
        }
    }

    /// Notes that what ran has ended. Only what ran for longer than its last rest begins with a short one again.
    pub(crate) fn ended(&mut self, now: Instant) {
        let ran = self.running_since.take().map(|since| now - since);
        if self
            .rests
            .get(&Duty::Deploy)
            .is_some_and(|rest| ran.is_some_and(|ran| ran > rest.length))
        {
            self.rests.remove(&Duty::Deploy);
        }
        self.presence = Presence::Partial;
        self.failed(Duty::Deploy, now);
    }

    /// Whether a job that never ran was tried for long enough.
    pub(crate) fn is_hopeless(&self, now: Instant) -> bool {
        !self.has_run && self.first_failed_at.is_some_and(|first| now - first >= TRIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of rest that follow, as the daemon sees them.
    fn rest_of(hosting: &Hosting, from: Instant) -> u64 {
        let rests =
            |seconds: &u64| hosting.rests(Duty::Deploy, from + Duration::from_secs(*seconds));
        (0..2_000).take_while(rests).count().try_into().unwrap()
    }

    #[test]
    fn rests_grow_with_each_failure_and_are_bounded() {
        let (mut hosting, mut now) = (Hosting::default(), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..12 {
            hosting.failed(Duty::Deploy, now);
            rests.push(rest_of(&hosting, now));
            now += Duration::from_secs(1_000);
        }
        assert_eq!(rests[..4], [5, 10, 20, 40]);
        assert_eq!(rests[11], MAX_REST.as_secs());
        assert!(!hosting.rests(Duty::Remove, now));
        hosting.failed(Duty::Remove, now);
        assert!(!hosting.rests(Duty::Deploy, now));
    }

    #[test]
    fn duties_that_fail_in_turn_rest_ever_longer() {
        let (mut hosting, mut now) = (Hosting::default(), Instant::now());
        let duties = [Duty::Remove, Duty::Settle, Duty::Deploy];
        for rest in [5, 10, 20, 40].map(Duration::from_secs) {
            for duty in duties {
                assert!(!hosting.rests(duty, now), "{duty:?}");
                hosting.failed(duty, now);
            }
            for duty in duties {
                assert!(hosting.rests(duty, now + rest / 2), "{duty:?}");
            }
            now += rest;
        }
        // What one duty came to says nothing about another.
        hosting.failed(Duty::Remove, now);
        hosting.failed(Duty::Settle, now);
        hosting.succeeded(Duty::Settle, now);
        hosting.failed(Duty::Settle, now);
        let later = now + Duration::from_secs(6);
        assert!(hosting.rests(Duty::Remove, later) && !hosting.rests(Duty::Settle, later));
    }

    #[test]
    fn what_ends_at_once_is_started_ever_less_often() {
        let (mut hosting, mut now) = (Hosting::default(), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..4 {
            hosting.succeeded(Duty::Deploy, now);
            now += Duration::from_secs(2);
            hosting.ended(now);
            rests.push(rest_of(&hosting, now));
            now += Duration::from_secs(1_000);
        }
        assert_eq!(rests, [5, 10, 20, 40]);
        hosting.succeeded(Duty::Deploy, now);
        now += Duration::from_secs(41);
        hosting.ended(now);
        assert_eq!(rest_of(&hosting, now), 5);
    }

    #[test]
    fn only_what_never_ran_is_given_up() {
        let now = Instant::now();
        for (mut hosting, is_hopeless) in [(Hosting::default(), true), (Hosting::found(), false)] {
            hosting.failed(Duty::Deploy, now);
            assert!(!hosting.is_hopeless(now));
            hosting.failed(Duty::Deploy, now + TRIAL / 2);
            assert_eq!(hosting.is_hopeless(now + TRIAL), is_hopeless);
            hosting.succeeded(Duty::Deploy, now + TRIAL);
            assert!(!hosting.is_hopeless(now + TRIAL * 2));
        }
    }
}
