//! A provider's prices as people compare them: what one core costs for an hour, a GiB for an hour, a GiB that moves.

use roadstead_core::due_for;
use roadstead_types::{Resource, Resources, Token, TokenAmount};

/// Units of usage in what a price is shown for.
const CORE_HOUR: u64 = 1_000 * 3_600;
const GIB_HOUR: u64 = 1_024 * 3_600;
const GIB: u64 = 1 << 30;

/// What is due for one of them, as bills are made.
pub(crate) fn shown(prices: &Resources<u128>, resource: Resource, token: &Token) -> String {
    let units = match resource {
        Resource::Cpu | Resource::Accelerator => CORE_HOUR,
        Resource::Memory | Resource::Storage => GIB_HOUR,
        Resource::NetworkIn | Resource::NetworkOut => GIB,
    };
    let used = Resources::from_fn(|each| if each == resource { units } else { 0 });
    match due_for(&used, prices) {
        // It costs something only in larger amounts.
        Some(due) if due.is_zero() && prices.get(resource) > 0 => {
            let least = TokenAmount::new(1).expect("one is a number of 96 bits");
            format!("< {}", token.format(least))
        }
        Some(due) => token.format(due),
        None => "more than can be paid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    #[test]
    fn prices_are_what_bills_will_say() {
        let token = Token { address: Address::ZERO, symbol: "RTD".into(), decimals: 6 };
        let prices = Resources {
            // What 0.02 for a core's hour becomes: rounded up, and due to the unit.
            cpu: 5_555_555_556,
            memory: 1,
            storage: u128::MAX,
            network_out: 1_000_000_000_000,
            ..Resources::default()
        };
        for (resource, expected) in [
            (Resource::Cpu, "0.02 RTD"),
            (Resource::Memory, "< 0.000001 RTD"),
            (Resource::Storage, "more than can be paid"),
            (Resource::NetworkIn, "0 RTD"),
            (Resource::NetworkOut, "1073.741824 RTD"),
        ] {
            assert_eq!(shown(&prices, resource, &token), expected, "{resource}");
        }
    }
}
