//! Searching logs.

use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use super::params::Params;
use super::{Reply, RpcError, reply, shape};
use crate::chain::{Devchain, LookupError};

/// The most logs of one answer.
const MAX_LOGS: usize = 10_000;

pub(super) fn logs(chain: &Devchain, params: &Params<'_>) -> Reply {
    let filter: Filter = params.required(0, "filter")?;
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
    let mut found: Vec<Log> = Vec::new();
    for block in blocks.iter().filter(|block| filter.matches_bloom(block.header.logs_bloom)) {
        for (index, entry) in block.entries.iter().enumerate() {
            let logs = shape::logs(block, index, entry);
            found.extend(logs.into_iter().filter(|log| filter.matches(&log.inner)));
            if found.len() > MAX_LOGS {
                let message = format!("the query returns more than {MAX_LOGS} results");
                return Err(RpcError::limit(message));
            }
        }
    }
    reply(&found)
}
