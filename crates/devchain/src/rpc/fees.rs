//! What a transaction should pay.

use alloy::consensus::Transaction as _;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{U64, U256};
use alloy::rpc::types::FeeHistory;

use super::params::Params;
use super::{Reply, RpcError, reply};
use crate::block::Block;
use crate::chain::Devchain;

/// The tip to suggest: one gwei, more than enough where every transaction gets in.
const SUGGESTED_TIP: u128 = 1_000_000_000;

/// The most blocks of one answer; more are cut off, as the specification allows.
const MAX_BLOCKS: u64 = 1_024;

/// The most percentiles of one question.
const MAX_PERCENTILES: usize = 100;

/// The price of blob gas while nobody uses any.
const BLOB_BASE_FEE: u128 = 1;

pub(super) fn gas_price(chain: &Devchain) -> Reply {
    let base_fee = chain.ledger().head().next_base_fee();
    reply(&U256::from(u128::from(base_fee).saturating_add(SUGGESTED_TIP)))
}

pub(super) fn priority_fee() -> Reply {
    reply(&U256::from(SUGGESTED_TIP))
}

pub(super) fn history(chain: &Devchain, params: &Params<'_>) -> Reply {
    let count: U64 = params.required(0, "block count")?;
    let newest: BlockNumberOrTag = params.required(1, "newest block")?;
    let percentiles: Option<Vec<f64>> = params.optional(2, "reward percentiles")?;
    check(percentiles.as_deref().unwrap_or_default())?;

    let count = u64::try_from(count).unwrap_or(MAX_BLOCKS).min(MAX_BLOCKS);
    if count == 0 {
        return reply(&FeeHistory::default());
    }
    let blocks = {
        let ledger = chain.ledger();
        let (newest, head) = (ledger.number(newest), ledger.head().header.number);
        if newest > head {
            let message = format!("block {newest} is not known, the latest is {head}");
            return Err(RpcError::invalid_params(message));
        }
        ledger.blocks(newest.saturating_sub(count - 1), newest)
    };
    let mut base_fees: Vec<u128> = blocks.iter().map(|block| block.base_fee().into()).collect();
    base_fees.extend(blocks.last().map(|block| u128::from(block.next_base_fee())));
    reply(&FeeHistory {
        base_fee_per_blob_gas: vec![BLOB_BASE_FEE; base_fees.len()],
        base_fee_per_gas: base_fees,
        gas_used_ratio: blocks.iter().map(|block| gas_used_ratio(block)).collect(),
        blob_gas_used_ratio: vec![0.0; blocks.len()],
        oldest_block: blocks.first().map_or(0, |block| block.header.number),
        reward: percentiles
            .map(|percentiles| blocks.iter().map(|block| rewards(block, &percentiles)).collect()),
    })
}

fn check(percentiles: &[f64]) -> Result<(), RpcError> {
    if percentiles.len() > MAX_PERCENTILES {
        let message = format!("at most {MAX_PERCENTILES} reward percentiles can be asked for");
        return Err(RpcError::invalid_params(message));
    }
    let in_range = percentiles.iter().all(|percentile| (0.0..=100.0).contains(percentile));
    if !in_range || !percentiles.is_sorted() {
        let message = "reward percentiles must rise from 0 to 100".to_owned();
        return Err(RpcError::invalid_params(message));
    }
    Ok(())
}

fn gas_used_ratio(block: &Block) -> f64 {
    block.header.gas_used as f64 / block.header.gas_limit as f64
}

/// The tips at the given percentiles, each transaction weighted by the gas it used.
fn rewards(block: &Block, percentiles: &[f64]) -> Vec<u128> {
    let mut tips: Vec<(u128, u64)> = block
        .entries
        .iter()
        .map(|entry| {
            let tip = entry.transaction.effective_tip_per_gas(block.base_fee());
            (tip.unwrap_or_default(), entry.gas_used)
        })
        .collect();
    tips.sort_unstable();
    let at = |percentile: &f64| {
        let threshold = block.header.gas_used as f64 * percentile / 100.0;
        let mut sum = 0u64;
        let reached = tips.iter().find(|(_, gas_used)| {
            sum = sum.saturating_add(*gas_used);
            let sum = sum as f64;
            sum >= threshold
        });
        reached.or(tips.last()).map_or(0, |(tip, _)| *tip)
    };
    percentiles.iter().map(at).collect()
}
