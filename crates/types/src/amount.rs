//! Money is a whole number of the token's base units, at most 96 bits, as in the contracts.

use std::fmt;

use alloy_primitives::{Address, U256, Uint};
use serde::{Deserialize, Serialize};

/// A sum in base units of the market's token: 0 ..= 2^96 - 1, the range of the contracts' `uint96`. Serialised as that
/// whole number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "u128", try_from = "u128")]
pub struct TokenAmount(u128);

/// Why a number is not a token amount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AmountError {
    /// The number needs more than 96 bits.
    #[error("amount is above 2^96 - 1 base units")]
    TooLarge,
}

impl TokenAmount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount that the contracts can hold for one job.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// Wraps a number of base units.
    pub const fn new(units: u128) -> Result<Self, AmountError> {
        if units > Self::MAX.0 { Err(AmountError::TooLarge) } else { Ok(Self(units)) }
    }

    /// The number of base units.
    pub const fn units(self) -> u128 {
        self.0
    }

    /// Whether there is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Self::MAX`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0).ok()
    }

    /// The difference, or nothing where `other` is the larger.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl From<TokenAmount> for u128 {
    fn from(amount: TokenAmount) -> Self {
        amount.0
    }
}

impl TryFrom<u128> for TokenAmount {
    type Error = AmountError;

    fn try_from(units: u128) -> Result<Self, AmountError> {
        Self::new(units)
    }
}

impl From<TokenAmount> for U256 {
    fn from(amount: TokenAmount) -> Self {
        Self::from(amount.0)
    }
}

impl From<Uint<96, 2>> for TokenAmount {
    fn from(units: Uint<96, 2>) -> Self {
        Self(units.to())
    }
}

impl From<TokenAmount> for Uint<96, 2> {
    fn from(amount: TokenAmount) -> Self {
        Self::from(amount.0)
    }
}

impl TryFrom<U256> for TokenAmount {
    type Error = AmountError;

    fn try_from(value: U256) -> Result<Self, AmountError> {
        u128::try_from(value).map_err(|_| AmountError::TooLarge).and_then(Self::new)
    }
}

impl fmt::Display for TokenAmount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A text that is no amount of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no amount: digits are expected, with at most {decimals} behind a point")]
pub struct UnknownAmount {
    /// What was given.
    pub text: String,
    /// How many digits may stand behind the point.
    pub decimals: u8,
}

/// The one ERC-20 token of a market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Where the token's contract is.
    pub address: Address,
    /// Its short name, for people.
    pub symbol: String,
    /// How many digits of an amount stand after the decimal point.
    pub decimals: u8,
}

impl Token {
    /// The amount that a person wrote, in whole tokens: `12.5`.
    pub fn parse(&self, text: &str) -> Result<TokenAmount, UnknownAmount> {
        let width = usize::from(self.decimals);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        let is_sound = !whole.is_empty()
            && is_number(whole)
            && is_number(fraction)
            && fraction.len() <= width
            && !text.ends_with('.');
        let units = is_sound.then(|| format!("{whole}{fraction:0<width$}").parse::<u128>().ok());
        let amount = units.flatten().and_then(|units| TokenAmount::new(units).ok());
        let unknown = || UnknownAmount { text: text.to_owned(), decimals: self.decimals };
        amount.ok_or_else(unknown)
    }

    /// The amount for people, in whole tokens and with the symbol: `12.5 RTD`.
    pub fn format(&self, amount: TokenAmount) -> String {
        let digits = format!("{:0>width$}", amount.0, width = usize::from(self.decimals) + 1);
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(self.decimals));
        match fraction.trim_end_matches('0') {
            "" => format!("{whole} {}", self.symbol),
            fraction => format!("{whole}.{fraction} {}", self.symbol),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(decimals: u8) -> Token {
        Token { address: Address::ZERO, symbol: "RTD".into(), decimals }
    }

    #[test]
    fn amounts_are_shown_in_whole_tokens() {
        let amount = |units| TokenAmount::new(units).unwrap();
        assert_eq!(token(6).format(amount(12_500_000)), "12.5 RTD");
        assert_eq!(token(6).format(amount(1)), "0.000001 RTD");
        assert_eq!(token(0).format(amount(70)), "70 RTD");
        assert_eq!(token(18).format(TokenAmount::ZERO), "0 RTD");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let long = "9".repeat(40);
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e6", "1,5", "1.2345678", " 1", &long] {
            assert!(token(6).parse(text).is_err(), "{text}");
        }
        assert_eq!(token(6).parse("007.50").unwrap().units(), 7_500_000);
        assert_eq!(token(0).parse("3").unwrap().units(), 3);
    }

    #[test]
    fn the_range_is_that_of_uint96() {
        assert_eq!(TokenAmount::new((1 << 96) - 1), Ok(TokenAmount::MAX));
        assert_eq!(TokenAmount::new(1 << 96), Err(AmountError::TooLarge));
        assert_eq!(TokenAmount::MAX.checked_add(TokenAmount::new(1).unwrap()), None);
        assert_eq!(TokenAmount::try_from(U256::MAX), Err(AmountError::TooLarge));
        let written = serde_json::to_string(&TokenAmount::MAX).unwrap();
        assert_eq!(written, "79228162514264337593543950335");
        assert_eq!(serde_json::from_str::<TokenAmount>(&written).unwrap(), TokenAmount::MAX);
        assert!(serde_json::from_str::<TokenAmount>("79228162514264337593543950336").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_the_whole_amount(units in 0..(1u128 << 96), decimals in 0u8..=30) {
            let shown = token(decimals).format(TokenAmount::new(units).unwrap());
            let (whole, fraction) = shown.strip_suffix(" RTD").unwrap().split_once('.').unwrap_or((
                shown.strip_suffix(" RTD").unwrap(),
                "",
            ));
            let width = usize::from(decimals);
            prop_assert!(fraction.len() <= width && !fraction.ends_with('0'));
            prop_assert!(whole == "0" || !whole.starts_with('0'));
            let digits = format!("{whole}{fraction:0<width$}");
            prop_assert_eq!(digits.parse::<u128>().unwrap(), units);
            let written = shown.strip_suffix(" RTD").unwrap();
            let read = token(decimals).parse(written).unwrap();
            prop_assert_eq!(read.units(), units);
        }
    }
}
