//! Quantities as a provider's operator writes them: prices in whole tokens, cores, bytes.
//!
//! Whole numbers only. A price is rounded up, so that nothing is sold below it; what a machine has is rounded down.

use std::str::FromStr;

use alloy_primitives::U256;
use roadstead_core::PRICE_UNIT;
use roadstead_types::{Decimal, Resources, Token, bytes_of_unit};

/// Units of usage in what a price is for.
const CORE_HOUR: u64 = 1_000 * 3_600;
const GIB_HOUR: u64 = 1_024 * 3_600;
const GIB: u64 = 1 << 30;

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct UnknownQuantity {
    /// What was given.
    pub text: String,
    /// What is expected.
    pub expected: &'static str,
}

fn power_of_ten(exponent: u32) -> Option<U256> {
    U256::from(10).checked_pow(U256::from(exponent))
}

/// A price in whole tokens: `0.02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPrice(Decimal);

impl FromStr for TokenPrice {
    type Err = UnknownQuantity;

    fn from_str(text: &str) -> Result<Self, UnknownQuantity> {
        match Decimal::before_unit(text) {
            Some((price, "")) => Ok(Self(price)),
            _ => Err(unknown(text, "a price in whole tokens, such as 0.02")),
        }
    }
}

/// A price that no contract can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a price is more than can be paid")]
pub struct PriceTooHigh;

impl TokenPrice {
    /// What one unit costs where `units` of usage cost this, in the form of bills and rounded up.
    fn per_usage(self, token: &Token, units: u64) -> Result<u128, PriceTooHigh> {
        let price = || {
            let scale = power_of_ten(u32::from(token.decimals))?;
            let scaled = U256::from(self.0.digits).checked_mul(scale)?;
            let scaled = scaled.checked_mul(U256::from(PRICE_UNIT))?;
            let units = power_of_ten(self.0.places)?.checked_mul(U256::from(units))?;
            u128::try_from(scaled.div_ceil(units)).ok()
        };
        price().ok_or(PriceTooHigh)
    }
}

/// What a provider asks for, in whole tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceList {
    /// For one core and hour.
    pub cpu: TokenPrice,
    /// For one GiB of memory and hour.
    pub memory: TokenPrice,
    /// For one GiB of storage and hour.
    pub storage: TokenPrice,
    /// For one GiB received.
    pub network_in: TokenPrice,
    /// For one GiB sent.
    pub network_out: TokenPrice,
}

impl PriceList {
    /// The prices as the market has them, in base units of its token per 10^12 units of usage. Each is rounded up, by less
    /// than one base unit for a core's hour, a GiB's hour or a GiB.
    pub fn prices(&self, token: &Token) -> Result<Resources<u128>, PriceTooHigh> {
        Ok(Resources {
            cpu: self.cpu.per_usage(token, CORE_HOUR)?,
            memory: self.memory.per_usage(token, GIB_HOUR)?,
            storage: self.storage.per_usage(token, GIB_HOUR)?,
            network_in: self.network_in.per_usage(token, GIB)?,
            network_out: self.network_out.per_usage(token, GIB)?,
            accelerator: 0,
        })
    }
}

/// Cores, in thousandths: `4`, `0.5` or `500m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores(pub u64);

impl FromStr for Cores {
    type Err = UnknownQuantity;

    fn from_str(text: &str) -> Result<Self, UnknownQuantity> {
        let cores = Decimal::before_unit(text).and_then(|(number, unit)| match unit {
            "" => number.scaled_down(1_000),
            "m" => number.scaled_down(1),
            _ => None,
        });
        cores.map(Self).ok_or_else(|| unknown(text, "a number of cores, such as 4, 0.5 or 500m"))
    }
}

/// Bytes: `16Gi`, `500M` or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = UnknownQuantity;

    fn from_str(text: &str) -> Result<Self, UnknownQuantity> {
        let bytes = bytes(text, 1);
        bytes.map(Self).ok_or_else(|| unknown(text, "a number of bytes, such as 16Gi or 500M"))
    }
}

/// MiB: a plain number of MiB, or bytes with a unit, such as `2Gi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mebibytes(pub u64);

impl FromStr for Mebibytes {
    type Err = UnknownQuantity;

    fn from_str(text: &str) -> Result<Self, UnknownQuantity> {
        let bytes = bytes(text, 1 << 20);
        let size = bytes.map(|bytes| Self(bytes >> 20));
        size.ok_or_else(|| unknown(text, "a number of MiB, or bytes with a unit, such as 2Gi"))
    }
}

fn bytes(text: &str, without_unit: u64) -> Option<u64> {
    let (number, unit) = Decimal::before_unit(text)?;
    number.scaled_down(if unit.is_empty() { without_unit } else { bytes_of_unit(unit)? })
}

fn unknown(text: &str, expected: &'static str) -> UnknownQuantity {
    UnknownQuantity { text: text.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;
    use proptest::prelude::*;
    use roadstead_core::{due_for, rate_per_hour};

    use super::*;

    fn token(decimals: u8) -> Token {
        Token { address: Address::ZERO, symbol: "RTD".into(), decimals }
    }

    fn all(price: &str) -> PriceList {
        let price = price.parse().unwrap();
        PriceList {
            cpu: price,
            memory: price,
            storage: price,
            network_in: price,
            network_out: price,
        }
    }

    fn only<T: Copy + Default>(at: usize, value: T) -> Resources<T> {
        let mut index = 0..6;
        Resources::from_fn(|_| if index.next() == Some(at) { value } else { T::default() })
    }

    #[test]
    fn a_price_that_nobody_can_pay_is_refused() {
        assert_eq!(all("1").prices(&token(255)), Err(PriceTooHigh));
        let most = "9".repeat(20);
        assert_eq!(all(&most).prices(&token(18)), Err(PriceTooHigh));
        assert_eq!(all("0").prices(&token(18)), Ok(Resources::default()));
    }

    #[test]
    fn quantities_have_units() {
        let cores = |text: &str| text.parse::<Cores>().map(|cores| cores.0).ok();
        assert_eq!([cores("4"), cores("0.5"), cores("1500m")], [4_000, 500, 1_500].map(Some));
        let size = |text: &str| text.parse::<Mebibytes>().map(|size| size.0).ok();
        assert_eq!([size("2048"), size("2Gi"), size("1.5Mi")], [2_048, 2_048, 1].map(Some));
        let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0).ok();
        assert_eq!([bytes("7"), bytes("500M"), bytes("1Ki")], [7, 500_000_000, 1_024].map(Some));
        for text in ["", "x", "-1", "1 Gi", "1.", ".5", "1e3", "99999999999Ti", &"9".repeat(40)] {
            assert_eq!((cores(text), size(text), bytes(text)), (None, None, None), "{text}");
            assert!(text.parse::<TokenPrice>().is_err(), "{text}");
        }
        assert!("1.5x".parse::<TokenPrice>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_priced_costs_its_price_or_one_unit_more(
            price in 0..=1u64 << 50, decimals in 0u8..=18,
        ) {
            let token = token(decimals);
            let amount = roadstead_types::TokenAmount::new(price.into()).unwrap();
            let written = token.format(amount);
            let prices = all(written.strip_suffix(" RTD").unwrap()).prices(&token).unwrap();
            // A core, a GiB of memory and a GiB of storage for an hour; a GiB in and a GiB out.
            for (at, reserved, used) in [
                (0, Some(1_000), 3_600_000),
                (1, Some(1_024), 3_686_400),
                (2, Some(1_024), 3_686_400),
                (3, None, 1 << 30),
                (4, None, 1 << 30),
            ] {
                let due = due_for(&only(at, used), &prices).unwrap().units();
                prop_assert_eq!(due, u128::from(price));
                if let Some(reserved) = reserved {
                    let rate = rate_per_hour(&only(at, reserved), &prices).unwrap().units();
                    prop_assert!((due..=due + 1).contains(&rate), "{rate} for {price}");
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.kKMGTimhd+-]{0,40}|\\PC{0,40}") {
            let _ = (text.parse::<Cores>(), text.parse::<Mebibytes>(), text.parse::<Bytes>());
            if let Ok(price) = text.parse::<TokenPrice>() {
                let _ = price.per_usage(&token(6), GIB);
            }
        }
    }
}
