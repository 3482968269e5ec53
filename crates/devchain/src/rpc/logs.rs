//! Searching logs, within bounds: of the filter, and of the answer by number and by size.

use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use super::params::Params;
use super::{Reply, RpcError, reply, shape};
use crate::chain::{Devchain, LookupError};
use crate::meter;

/// The most logs of one answer.
const MAX_LOGS: usize = 10_000;

/// About the most bytes of one answer.
const MAX_BYTES: usize = 25 * 1024 * 1024;

/// The most addresses in a filter, and the most topics at one position of it.
const MAX_CHOICES: usize = 1_000;

/// What a block costs that is only looked through.
const SEARCH_COST: u64 = 100;

pub(super) fn logs(chain: &Devchain, params: &Params<'_>) -> Reply {
    let filter: Filter = params.required(0, "filter")?;
    check(&filter)?;
    let blocks = {
        let ledger = chain.ledger();
        match filter.block_option {
            FilterBlockOption::AtBlockHash(hash) => {
                vec![ledger.block_by_hash(&hash).ok_or(LookupError::UnknownHash(hash))?]
            }
            FilterBlockOption::Range { from_block, to_block } => {
                let number = |tag: Option<BlockNumberOrTag>| {
                    ledger.number(tag.unwrap_or(BlockNumberOrTag::Latest))
                };
                let (first, last) = (number(from_block), number(to_block));
                // A client that has seen everything asks for what follows the head.
                let head = ledger.head().header.number;
                if first > last && first <= head {
                    let message = format!("the range from block {first} to {last} is empty");
                    return Err(RpcError::invalid_params(message));
                }
                ledger.blocks(first, last)
            }
        }
    };
    meter::charge(u64::try_from(blocks.len()).unwrap_or(u64::MAX).saturating_mul(SEARCH_COST));
    let mut found: Vec<Log> = Vec::new();
    let mut bytes = 0usize;
    for block in blocks.iter().filter(|block| filter.matches_bloom(block.header.logs_bloom)) {
        for (index, entry) in block.entries.iter().enumerate() {
            for log in shape::logs(block, index, entry) {
                if filter.matches(&log.inner) {
                    bytes = bytes.saturating_add(size(&log));
                    found.push(log);
                }
            }
            if bytes > MAX_BYTES {
                let message = format!("the query returns more than {MAX_BYTES} bytes");
                return Err(RpcError::limit(message));
            }
            if found.len() > MAX_LOGS {
                let message = format!("the query returns more than {MAX_LOGS} results");
                return Err(RpcError::limit(message));
            }
        }
    }
    reply(&found)
}

fn check(filter: &Filter) -> Result<(), RpcError> {
    let addresses = filter.address.len();
    let topics = filter.topics.iter().map(|position| position.len()).max().unwrap_or_default();
    for (name, count) in [("addresses", addresses), ("topics at one position", topics)] {
        if count > MAX_CHOICES {
            let message = format!("the filter has {count} {name}, the limit is {MAX_CHOICES}");
            return Err(RpcError::invalid_params(message));
        }
    }
    Ok(())
}

/// About the length of a log in the answer: its data and topics in hexadecimal, and the rest of it.
fn size(log: &Log) -> usize {
    let data = &log.inner.data;
    600 + 70 * data.topics().len() + 2 * data.data.len()
}
