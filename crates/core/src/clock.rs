//! Chain time between two blocks.
//!
//! ```text
//!                    ┌── a head that is a minute behind the known one ──> doubted
//!   known head <─────┤                                                      │ one that is not: the known head stands
//!                    └── a second one that bears the first out <────────────┘
//! ```
//!
//! A head counts at once where it is ahead, however far: a development chain may be moved by hours. Between heads that
//! agree the time never goes back, and neither does it after a reorganisation to one that is a little behind. A head
//! that is behind by more than a minute says that one of the two is wrong. It takes the next one to tell which: where
//! that is behind as well, the known head was a mistake, and the time is that of the new one, which may be long before
//! what was told. So one head that a broken node puts into the future, or one into the past, is made good by the two
//! after it; a node that goes on with it is believed.
//!
//! All is lost with the process. Who must not go back, as a receipt must not behind the one before, has to see to that.

use std::time::Instant;

use roadstead_types::Timestamp;

/// How far a head may be behind the known one without contradicting it, in seconds.
const REORGANISED: u32 = 60;

/// What time it is on the chain: the time of the newest head and what passed since it was first seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainClock {
    head: Option<(Timestamp, Instant)>,
    last: Timestamp,
    /// The newest head, where it contradicts the known one.
    doubted: Option<(Timestamp, Instant)>,
}

impl ChainClock {
    /// Notes the newest head, seen at `at`.
    pub fn see(&mut self, head: Timestamp, at: Instant) {
        if self.head.is_some_and(|(known, _)| is_contradicted(known, head)) {
            match self.doubted {
                Some((first, seen)) if !is_contradicted(first, head) => {
                    // The same head again is no younger for it.
                    let seen = if first == head { seen } else { at };
                    *self = Self { head: Some((head, seen)), ..Self::default() };
                }
                _ => self.doubted = Some((head, at)),
            }
            return;
        }
        self.doubted = None;
        self.last = self.now(at).unwrap_or_default();
        if self.head.is_none_or(|(known, _)| known != head) {
            self.head = Some((head, at));
        }
    }

    /// The time of the newest head that is not in doubt: whatever is mined next is not older, unless that head was wrong.
    pub fn head(&self) -> Option<Timestamp> {
        self.head.map(|(head, _)| head)
    }

    /// The time at `at`; `None` before the first head was seen.
    pub fn now(&self, at: Instant) -> Option<Timestamp> {
        let (head, seen) = self.head?;
        let passed = at.saturating_duration_since(seen).as_secs();
        let now = head.0.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX));
        Some(Timestamp(now).max(self.last))
    }
}

/// Whether a chain whose head was `known` cannot well have this one later.
fn is_contradicted(known: Timestamp, later: Timestamp) -> bool {
    later.0.saturating_add(REORGANISED) < known.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// A clock, and the time of the machine in seconds since the test began.
    struct Watch {
        clock: ChainClock,
        start: Instant,
    }

    impl Watch {
        fn new() -> Self {
            Self { clock: ChainClock::default(), start: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn see(&mut self, head: u32, seconds: u64) {
            self.clock.see(Timestamp(head), self.at(seconds));
        }

        fn now(&self, seconds: u64) -> Option<u32> {
            self.clock.now(self.at(seconds)).map(|now| now.0)
        }
    }

    #[test]
    fn time_goes_on_between_heads_and_never_back() {
        let mut watch = Watch::new();
        assert_eq!(watch.now(0), None);
        watch.see(100, 0);
        assert_eq!(watch.now(7), Some(107));
        // The same head again is no younger for it.
        watch.see(100, 9);
        assert_eq!(watch.now(10), Some(110));
        // A head that is behind the clock, as after a reorganisation.
        watch.see(105, 12);
        assert_eq!(watch.now(12), Some(112));
        assert_eq!(watch.clock.head(), Some(Timestamp(105)));
        assert_eq!(watch.now(30), Some(123));
    }

    #[test]
    fn a_reorganisation_to_a_head_that_is_a_little_behind_does_not_go_back() {
        let mut watch = Watch::new();
        watch.see(1_000, 0);
        for seconds in [1, 2, 3] {
            watch.see(1_000 - REORGANISED, seconds);
            assert_eq!(watch.now(seconds), Some(1_001));
        }
        assert_eq!(watch.clock.head(), Some(Timestamp(1_000 - REORGANISED)));
        assert_eq!(watch.now(70), Some(1_009));
    }

    #[test]
    fn a_jump_ahead_counts_at_once() {
        let mut watch = Watch::new();
        watch.see(1_000, 0);
        watch.see(1_000 + 7 * 3_600, 1);
        assert_eq!(watch.now(1), Some(1_000 + 7 * 3_600));
    }

    #[test]
    fn one_head_of_a_broken_node_is_made_good() {
        let mut watch = Watch::new();
        watch.see(1_000, 0);
        watch.see(1_000_000, 1);
        assert_eq!(watch.now(1), Some(1_000_000));
        watch.see(1_002, 2);
        assert_eq!(watch.now(2), Some(1_000_001), "either may be wrong");
        watch.see(1_003, 3);
        assert_eq!(watch.now(3), Some(1_003));
        assert_eq!(watch.clock.head(), Some(Timestamp(1_003)));
        watch.see(1_001, 4);
        assert_eq!(watch.now(4), Some(1_004), "from here on it does not go back");
    }

    #[test]
    fn the_same_head_bears_itself_out_and_is_no_younger_for_it() {
        let mut watch = Watch::new();
        watch.see(1_000_000, 1);
        watch.see(1_000, 2);
        watch.see(1_000, 12);
        assert_eq!(watch.now(12), Some(1_010));
    }

    #[test]
    fn one_head_in_the_past_changes_nothing() {
        let mut watch = Watch::new();
        watch.see(1_000, 0);
        watch.see(5, 1);
        assert_eq!((watch.clock.head(), watch.now(1)), (Some(Timestamp(1_000)), Some(1_001)));
        watch.see(1_002, 2);
        watch.see(5, 3);
        assert_eq!(watch.now(3), Some(1_003), "what was doubted before is forgotten");
    }

    #[test]
    fn two_heads_in_the_past_that_contradict_each_other_prove_nothing() {
        let mut watch = Watch::new();
        watch.see(10_000, 0);
        watch.see(5_000, 1);
        watch.see(1_000, 2);
        assert_eq!(watch.now(2), Some(10_002));
        watch.see(1_001, 3);
        assert_eq!(watch.now(3), Some(1_001));
    }

    proptest! {
        #[test]
        fn heads_that_agree_never_take_it_back(
            steps in proptest::collection::vec((-i64::from(REORGANISED)..5_000, 0..500_u64), 1..40),
        ) {
            let mut watch = Watch::new();
            let (mut head, mut seconds, mut before) = (100_000_i64, 0, 0);
            for (step, passed) in steps {
                head += step;
                seconds += passed;
                watch.see(u32::try_from(head).unwrap(), seconds);
                let now = watch.now(seconds).unwrap();
                prop_assert!(now >= before && i64::from(now) >= head);
                before = now;
            }
        }

        #[test]
        fn two_heads_that_agree_are_believed_after_any(
            others in proptest::collection::vec(any::<u32>(), 0..10), head in 0..u32::MAX / 2,
        ) {
            let mut watch = Watch::new();
            for other in others {
                watch.see(other, 0);
            }
            watch.see(head, 0);
            watch.see(head + 1, 0);
            watch.see(head + 2, 0);
            prop_assert!(watch.clock.head() == Some(Timestamp(head + 2)));
        }
    }
}
