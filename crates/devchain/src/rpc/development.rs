//! What only a development chain can do: mining on demand, moving time, giving money.

use alloy::primitives::{U64, U256};
use serde::Deserialize;

use super::params::Params;
use super::{Reply, RpcError, reply};
use crate::chain::Devchain;

/// The most blocks of one request.
const MAX_BLOCKS: u64 = 10_000;

/// The parameter of `evm_mine`: a timestamp, or an object.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "MineParameter")]
struct MineOptions {
    timestamp: Option<U64>,
    blocks: Option<U64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MineParameter {
    Timestamp(U64),
    Options { timestamp: Option<U64>, blocks: Option<U64> },
}

impl From<MineParameter> for MineOptions {
    fn from(parameter: MineParameter) -> Self {
        match parameter {
            MineParameter::Timestamp(timestamp) => {
                Self { timestamp: Some(timestamp), blocks: None }
            }
            MineParameter::Options { timestamp, blocks } => Self { timestamp, blocks },
        }
    }
}

pub(super) fn evm_mine(chain: &Devchain, params: &Params<'_>) -> Reply {
    let options: MineOptions = params.optional(0, "timestamp or options")?.unwrap_or_default();
    let blocks = count(options.blocks)?;
    let mut timestamp = options.timestamp;
    for _ in 0..blocks {
        let now = chain.now();
        let mut ledger = chain.ledger();
        if let Some(timestamp) = timestamp.take() {
            ledger.set_next_timestamp(small(timestamp))?;
        }
        ledger.mine(now);
    }
    reply(&"0x0")
}

/// Mines some blocks, and moves the time forward by an interval before each of them if one is given.
pub(super) fn mine(chain: &Devchain, params: &Params<'_>) -> Reply {
    let blocks = count(params.optional(0, "blocks")?)?;
    let interval = params.optional(1, "interval")?.map_or(0, small);
    for _ in 0..blocks {
        let now = chain.now();
        let mut ledger = chain.ledger();
        ledger.time_mut().increase(now, interval)?;
        ledger.mine(now);
    }
    reply(&())
}

pub(super) fn increase_time(chain: &Devchain, params: &Params<'_>) -> Reply {
    let seconds: U64 = params.required(0, "seconds")?;
    let now = chain.now();
    let ahead = chain.ledger().time_mut().increase(now, small(seconds))?;
    reply(&i64::try_from(ahead).unwrap_or(i64::MAX))
}

pub(super) fn set_next_timestamp(chain: &Devchain, params: &Params<'_>) -> Reply {
    let timestamp: U64 = params.required(0, "timestamp")?;
    chain.ledger().set_next_timestamp(small(timestamp))?;
    reply(&())
}

pub(super) fn set_automine(chain: &Devchain, params: &Params<'_>) -> Reply {
    let automine = params.required(0, "automine")?;
    let now = chain.now();
    chain.ledger().set_automine(automine, now);
    reply(&())
}

pub(super) fn set_balance(chain: &Devchain, params: &Params<'_>) -> Reply {
    let address = params.required(0, "address")?;
    let balance: U256 = params.required(1, "balance")?;
    chain.set_balance(address, balance);
    reply(&())
}

fn count(blocks: Option<U64>) -> Result<u64, RpcError> {
    let blocks = blocks.map_or(1, small);
    if blocks > MAX_BLOCKS {
        let message = format!("at most {MAX_BLOCKS} blocks can be mined at once");
        return Err(RpcError::invalid_params(message));
    }
    Ok(blocks)
}

fn small(number: U64) -> u64 {
    number.to()
}
