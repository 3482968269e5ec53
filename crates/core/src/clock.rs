//! Chain time between two blocks.

use std::time::Instant;

use roadstead_types::Timestamp;

/// What time it is on the chain: the time of the newest head and what passed since it was first seen. Never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChainClock {
    head: Option<(Timestamp, Instant)>,
    last: Timestamp,
}

impl ChainClock {
    /// Notes the newest head, seen at `at`.
    pub fn see(&mut self, head: Timestamp, at: Instant) {
        self.last = self.now(at).unwrap_or_default();
        if self.head.is_none_or(|(known, _)| known != head) {
            self.head = Some((head, at));
        }
    }

    /// The time of the newest head: whatever is mined next is not older.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_goes_on_between_heads_and_never_back() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = ChainClock::default();
        assert_eq!(clock.now(start), None);
        clock.see(Timestamp(100), start);
        assert_eq!(clock.now(at(7)), Some(Timestamp(107)));
        // The same head again is no younger for it.
        clock.see(Timestamp(100), at(9));
        assert_eq!(clock.now(at(10)), Some(Timestamp(110)));
        // A head that is behind the clock, as after a reorganisation.
        clock.see(Timestamp(105), at(12));
        assert_eq!(clock.now(at(12)), Some(Timestamp(112)));
        assert_eq!(clock.head(), Some(Timestamp(105)));
        assert_eq!(clock.now(at(30)), Some(Timestamp(123)));
    }
}
