//! Sending transactions, and what became of them.

use alloy::eips::BlockId;
use alloy::primitives::{B256, Bytes};
use alloy::rpc::types::TransactionReceipt;

use super::params::Params;
use super::{Reply, reply, shape};
use crate::block::Block;
use crate::chain::Devchain;
use crate::transaction;

pub(super) fn send_raw(chain: &Devchain, params: &Params<'_>) -> Reply {
    let raw: Bytes = params.required(0, "raw transaction")?;
    let gas_limit = chain.ledger().head().header.gas_limit;
    let transaction = transaction::decode(&raw, chain.chain_id(), gas_limit)?;
    let now = chain.now();
    let hash = chain.ledger().send(transaction, now)?;
    reply(&hash)
}

pub(super) fn by_hash(chain: &Devchain, params: &Params<'_>) -> Reply {
    let hash: B256 = params.required(0, "transaction hash")?;
    let (mined, waiting) = {
        let ledger = chain.ledger();
        (ledger.mined(&hash), ledger.waiting(&hash))
    };
    if let Some((block, index)) = mined {
        let entry = block.entries.get(index);
        return reply(&entry.map(|entry| shape::mined(&block, index, entry)));
    }
    reply(&waiting.map(|transaction| shape::waiting(&transaction)))
}

pub(super) fn receipt(chain: &Devchain, params: &Params<'_>) -> Reply {
    let hash: B256 = params.required(0, "transaction hash")?;
    let mined = chain.ledger().mined(&hash);
    reply(&mined.and_then(|(block, index)| {
        let entry = block.entries.get(index)?;
        Some(shape::receipt(&block, index, entry))
    }))
}

pub(super) fn block_receipts(chain: &Devchain, params: &Params<'_>) -> Reply {
    let id: BlockId = params.required(0, "block")?;
    if id.is_pending() {
        return reply(&receipts(&chain.pending()));
    }
    let block = {
        let ledger = chain.ledger();
        match id {
            BlockId::Hash(hash) => ledger.block_by_hash(&hash.block_hash),
            BlockId::Number(tag) => ledger.block(ledger.number(tag)),
        }
    };
    reply(&block.map(|block| receipts(&block)))
}

fn receipts(block: &Block) -> Vec<TransactionReceipt> {
    let all = block.entries.iter().enumerate();
    all.map(|(index, entry)| shape::receipt(block, index, entry)).collect()
}
