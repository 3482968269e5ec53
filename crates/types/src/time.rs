//! Chain time: whole seconds, as in the contracts.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// A span of whole seconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u32);

impl Seconds {
    /// A span of whole hours; saturates.
    pub const fn from_hours(hours: u32) -> Self {
        Self(hours.saturating_mul(3_600))
    }
}

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no span of time: a whole number is expected with s, m, h or d behind it")]
pub struct UnknownSpan {
    /// What was given.
    pub text: String,
}

impl FromStr for Seconds {
    type Err = UnknownSpan;

    fn from_str(text: &str) -> Result<Self, UnknownSpan> {
        let unknown = || UnknownSpan { text: text.to_owned() };
        let unit = text.chars().next_back().ok_or_else(unknown)?;
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(unknown()),
        };
        let number = text.strip_suffix(unit).ok_or_else(unknown)?;
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        let number = is_number.then(|| number.parse::<u32>().ok()).flatten();
        let seconds = number.and_then(|number| number.checked_mul(factor));
        seconds.map(Self).ok_or_else(unknown)
    }
}

impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(u64::from(seconds.0))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} s", self.0)
    }
}

/// A moment in chain time: seconds since 1970, as block timestamps count them. 32 bits, as in the contracts: ends in 2106.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// The moment of a block whose header says `seconds`; the last one that can be expressed where that is later.
    pub fn from_block(seconds: u64) -> Self {
        Self(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// The span since an earlier moment; nothing where that is the later one.
    pub const fn since(self, earlier: Self) -> Seconds {
        Seconds(self.0.saturating_sub(earlier.0))
    }

    /// The moment so much later; saturates.
    pub const fn after(self, span: Seconds) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_their_usual_units() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("5m", 300), ("24h", 86_400), ("7d", 604_800)]
        {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "+1s", "1.5h", "5ss", "5 s", "99999999d", "5w", "5\u{e9}"]
        {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }

    #[test]
    fn block_times_after_2106_saturate_as_in_the_contracts() {
        assert_eq!(Timestamp::from_block(1 << 32), Timestamp(u32::MAX));
        assert_eq!(Timestamp::from_block(7), Timestamp(7));
    }
}
