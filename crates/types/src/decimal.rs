//! Decimal numbers with units behind them, as people write them, in whole numbers.

/// The longest text: its digits, and those digits times any unit, fit into 128 bits.
const MAX_LENGTH: usize = 20;

/// A decimal number: `digits / 10^places`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// All digits, without the point.
    pub digits: u128,
    /// How many of them stand behind the point.
    pub places: u32,
}

impl Decimal {
    /// Reads the number that a text begins with, and returns the rest: its unit. `None` where there is none, where it
    /// begins or ends with its point, or where the text is longer than any quantity.
    pub fn before_unit(text: &str) -> Option<(Self, &str)> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let end = text.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (number, ""),
        };
        if whole.is_empty() || fraction.contains('.') {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some((Self { digits, places: u32::try_from(fraction.len()).ok()? }, unit))
    }

    /// The number times `scale`, without what is below a whole.
    pub fn scaled_down(self, scale: u64) -> Option<u64> {
        u64::try_from(self.digits.checked_mul(scale.into())? / 10_u128.pow(self.places)).ok()
    }

    /// The number times `scale`, rounded up.
    pub fn scaled_up(self, scale: u64) -> Option<u64> {
        let scaled = self.digits.checked_mul(scale.into())?;
        u64::try_from(scaled.div_ceil(10_u128.pow(self.places))).ok()
    }
}

/// How many bytes a unit stands for, as Kubernetes writes them: `Ki` and `k`, but not none.
pub fn bytes_of_unit(unit: &str) -> Option<u64> {
    Some(match unit {
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    })
}
