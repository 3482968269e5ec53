//! The arithmetic of prices and bills. Whole numbers only; a sum is never rounded before its end.

use alloy_primitives::U256;
use roadstead_types::{Resource, Resources, Seconds, TokenAmount};

/// Prices are token base units per this many units of usage.
pub const PRICE_UNIT: u64 = 1_000_000_000_000;

const SECONDS_PER_HOUR: u64 = 3_600;

/// What one hour costs with every resource used as far as it is reserved:
/// `ceil(3600 x sum(reservation[i] x price[i]) / 10^12)`. A reservation counts units of usage a second: a thousandth
/// of a core uses one CPU millisecond a second, a MiB one MiB second. `None` where it is no amount of 96 bits.
pub fn rate_per_hour(
    reservation: &Resources<u64>,
    prices: &Resources<u128>,
) -> Option<TokenAmount> {
    // Six products of 64 and 128 bits, times 3600, are below 2^207.
    let per_second = Resource::ALL.iter().fold(U256::ZERO, |sum, resource| {
        sum + U256::from(reservation.get(*resource)) * U256::from(prices.get(*resource))
    });
    let per_hour = per_second * U256::from(SECONDS_PER_HOUR);
    TokenAmount::try_from(per_hour.div_ceil(U256::from(PRICE_UNIT))).ok()
}

/// What is due for totals: `floor(sum(total[i] x price[i]) / 10^12)`. `None` where it is no amount of 96 bits.
pub fn due_for(total: &Resources<u64>, prices: &Resources<u128>) -> Option<TokenAmount> {
    // Six products of 64 and 128 bits are below 2^195.
    let sum = Resource::ALL.iter().fold(U256::ZERO, |sum, resource| {
        sum + U256::from(total.get(*resource)) * U256::from(prices.get(*resource))
    });
    TokenAmount::try_from(sum / U256::from(PRICE_UNIT)).ok()
}

/// What a span costs at an hourly rate, rounded up; the largest amount where it is more.
pub fn cost_of(rate_per_hour: TokenAmount, span: Seconds) -> TokenAmount {
    let cost = U256::from(rate_per_hour.units()) * U256::from(span.0);
    TokenAmount::try_from(cost.div_ceil(U256::from(SECONDS_PER_HOUR))).unwrap_or(TokenAmount::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amount(units: u128) -> TokenAmount {
        TokenAmount::new(units).unwrap()
    }

    fn cpu<T: Copy + Default>(cpu: T) -> Resources<T> {
        Resources { cpu, ..Resources::default() }
    }

    #[test]
    fn an_hour_is_rounded_up_once() {
        let one = Resources::from_fn(|_| 1);
        // 6 x 3600 of 10^12 parts: far below one unit, and still not free.
        assert_eq!(rate_per_hour(&one, &Resources::from_fn(|_| 1)), Some(amount(1)));
        assert_eq!(rate_per_hour(&one, &Resources::default()), Some(TokenAmount::ZERO));
        // Exactly one unit.
        assert_eq!(rate_per_hour(&cpu(1_000_000_000), &cpu(1)), Some(amount(4)));
        assert_eq!(rate_per_hour(&cpu(1_000_000_000_000), &cpu(1)), Some(amount(3_600)));
    }

    #[test]
    fn what_is_no_amount_is_nothing() {
        let most = Resources::from_fn(|_| u64::MAX);
        assert_eq!(rate_per_hour(&most, &Resources::from_fn(|_| u128::MAX)), None);
    }

    #[test]
    fn a_span_is_rounded_up() {
        assert_eq!(cost_of(amount(3_600), Seconds(7)), amount(7));
        assert_eq!(cost_of(amount(1), Seconds(1)), amount(1));
        assert_eq!(cost_of(amount(1), Seconds(0)), TokenAmount::ZERO);
        assert_eq!(cost_of(TokenAmount::MAX, Seconds(u32::MAX)), TokenAmount::MAX);
    }

    proptest! {
        #[test]
        fn the_rate_covers_every_use_within_the_reservation(
            reserved in any::<[u32; 6]>(),
            price in any::<[u64; 6]>(),
            share in 0u64..=100,
        ) {
            let mut index = 0..6;
            let reservation = Resources::from_fn(|_| u64::from(reserved[index.next().unwrap()]));
            let mut index = 0..6;
            let prices = Resources::from_fn(|_| u128::from(price[index.next().unwrap()]));
            let rate = rate_per_hour(&reservation, &prices).unwrap();
            let used = Resources::from_fn(|resource| reservation.get(resource) * share / 100);
            let cost = rate_per_hour(&used, &prices).unwrap();
            prop_assert!(cost <= rate);
        }
    }
}
