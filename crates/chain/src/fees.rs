//! What a transaction offers per unit of gas (EIP-1559). Pure: the figures come from a node, which may lie.

use alloy::providers::utils::{Eip1559Estimation, Eip1559Estimator};

/// The most that is ever offered per unit of gas, in wei: 500 gwei. A node that asks for more is broken or hostile.
pub(crate) const LIMIT: u128 = 500_000_000_000;

/// Twice the base fee, so that the transaction outlives six full blocks, and the median of the recent tips.
pub(crate) fn estimator() -> Eip1559Estimator {
    Eip1559Estimator::new(|base_fee: u128, rewards: &[Vec<u128>]| {
        let mut tips: Vec<u128> =
            rewards.iter().filter_map(|block| block.first().copied()).collect();
        tips.sort_unstable();
        let tip = tips.get(tips.len() / 2).copied().unwrap_or(0).max(1);
        Eip1559Estimation {
            max_fee_per_gas: base_fee.saturating_mul(2).saturating_add(tip),
            max_priority_fee_per_gas: tip,
        }
    })
}

/// A new offer for a transaction that waits: what is asked for now, and at least the eighth more without which nodes
/// refuse a replacement. `None` where that is above [`LIMIT`].
pub(crate) fn raised(
    offered: Eip1559Estimation,
    now: Eip1559Estimation,
) -> Option<Eip1559Estimation> {
    let more = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
    let raised = Eip1559Estimation {
        max_fee_per_gas: now.max_fee_per_gas.max(more(offered.max_fee_per_gas)),
        max_priority_fee_per_gas: now
            .max_priority_fee_per_gas
            .max(more(offered.max_priority_fee_per_gas)),
    };
    (raised.max_fee_per_gas <= LIMIT).then_some(raised)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fees(fee: u128, tip: u128) -> Eip1559Estimation {
        Eip1559Estimation { max_fee_per_gas: fee, max_priority_fee_per_gas: tip }
    }

    #[test]
    fn the_offer_is_twice_the_base_fee_and_the_median_tip() {
        let estimate = |base_fee, tips: &[u128]| {
            let rewards: Vec<_> = tips.iter().map(|tip| vec![*tip]).collect();
            estimator().estimate(base_fee, &rewards)
        };
        assert_eq!(estimate(100, &[5, 1, 3]), fees(203, 3));
        assert_eq!(estimate(100, &[]), fees(201, 1));
        assert_eq!(estimate(u128::MAX, &[u128::MAX]).max_fee_per_gas, u128::MAX);
    }

    #[test]
    fn an_offer_is_raised_by_an_eighth_or_to_what_is_asked() {
        assert_eq!(raised(fees(800, 8), fees(0, 0)), Some(fees(901, 10)));
        assert_eq!(raised(fees(800, 8), fees(2_000, 1)), Some(fees(2_000, 10)));
        assert_eq!(raised(fees(LIMIT, 8), fees(0, 0)), None);
    }

    proptest! {
        #[test]
        fn a_raised_offer_replaces_the_old_one_and_stays_within_the_limit(
            fee in 0..=LIMIT, tip in 0..=LIMIT, now_fee in any::<u128>(), now_tip in any::<u128>(),
        ) {
            if let Some(raised) = raised(fees(fee, tip), fees(now_fee, now_tip)) {
                prop_assert!(raised.max_fee_per_gas * 8 >= fee * 9);
                prop_assert!(raised.max_priority_fee_per_gas.saturating_mul(8) >= tip * 9);
                prop_assert!(raised.max_fee_per_gas <= LIMIT);
            }
        }
    }
}
