//! The time of the chain: the clock, plus what it was moved by.

use thiserror::Error;

/// The latest time there is: the largest integer that JavaScript clients represent exactly.
const MAX_TIME: u64 = (1 << 53) - 1;

/// Why the time does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TimeError {
    /// Time only moves forward.
    #[error("timestamp {timestamp} is not after the previous block, which has {previous}")]
    NotAfter {
        /// The time asked for.
        timestamp: u64,
        /// The timestamp of the latest block.
        previous: u64,
    },
    /// Beyond what clients can represent.
    #[error("the time would be later than {MAX_TIME}")]
    TooLate,
}

/// Decides the timestamp of the next block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    offset: i128,
    next: Option<u64>,
}

impl Time {
    /// A chain whose time is `start` when the clock shows `now`.
    pub(crate) fn starting(start: u64, now: u64) -> Result<Self, TimeError> {
        if start > MAX_TIME {
            return Err(TimeError::TooLate);
        }
        Ok(Self { offset: i128::from(start) - i128::from(now), next: None })
    }

    /// The timestamp of a block mined now, on top of one that has `previous`.
    pub(crate) fn next_block(&self, now: u64, previous: u64) -> u64 {
        let earliest = previous.saturating_add(1);
        self.next.unwrap_or_else(|| self.at(now)).max(earliest)
    }

    /// Says that a block with `timestamp` was mined. After a chosen timestamp the time runs on from
    /// there.
    pub(crate) fn mined(&mut self, now: u64, timestamp: u64) {
        if self.next.take().is_some() {
            self.offset = i128::from(timestamp) - i128::from(now);
        }
    }

    /// Moves the time forward, and returns by how many seconds it is now ahead of the clock.
    pub(crate) fn increase(&mut self, now: u64, seconds: u64) -> Result<i128, TimeError> {
        let offset = self.offset.saturating_add(i128::from(seconds));
        if i128::from(now).saturating_add(offset) > i128::from(MAX_TIME) {
            return Err(TimeError::TooLate);
        }
        self.offset = offset;
        Ok(offset)
    }

    /// Chooses the timestamp of the next block.
    pub(crate) fn set_next(&mut self, timestamp: u64, previous: u64) -> Result<(), TimeError> {
        if timestamp > MAX_TIME {
            return Err(TimeError::TooLate);
        }
        if timestamp <= previous {
            return Err(TimeError::NotAfter { timestamp, previous });
        }
        self.next = Some(timestamp);
        Ok(())
    }

    fn at(&self, now: u64) -> u64 {
        let time = i128::from(now).saturating_add(self.offset);
        u64::try_from(time.clamp(0, i128::from(MAX_TIME))).unwrap_or(MAX_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_with_the_clock_and_never_stands_still() {
        let time = Time::starting(1_000, 50).unwrap();
        assert_eq!(time.next_block(60, 1_000), 1_010);
        assert_eq!(time.next_block(60, 1_010), 1_011);
        assert_eq!(time.next_block(60, 5_000), 5_001);
    }

    #[test]
    fn a_chosen_timestamp_is_used_once_and_moves_the_time() {
        let mut time = Time::starting(1_000, 50).unwrap();
        assert_eq!(
            time.set_next(1_000, 1_000),
            Err(TimeError::NotAfter { timestamp: 1_000, previous: 1_000 })
        );
        time.set_next(2_000, 1_000).unwrap();
        assert_eq!(time.next_block(60, 1_000), 2_000);
        time.mined(60, 2_000);
        assert_eq!(time.next_block(65, 2_000), 2_005);
    }

    #[test]
    fn time_has_an_end() {
        let mut time = Time::starting(0, 0).unwrap();
        assert_eq!(time.increase(0, 100), Ok(100));
        assert_eq!(time.increase(0, u64::MAX), Err(TimeError::TooLate));
        assert_eq!(time.set_next(u64::MAX, 0), Err(TimeError::TooLate));
        assert_eq!(time.next_block(0, 0), 100);
    }
}
