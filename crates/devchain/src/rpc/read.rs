//! Questions about blocks and accounts.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, U64, U256};

use super::params::Params;
use super::{Reply, RpcError, reply, shape};
use crate::block::Snapshot;
use crate::chain::Devchain;

pub(super) fn chain_id(chain: &Devchain) -> Reply {
    reply(&U64::from(chain.chain_id()))
}

pub(super) fn network_version(chain: &Devchain) -> Reply {
    reply(&chain.chain_id().to_string())
}

pub(super) fn client_version() -> Reply {
    reply(&concat!("roadstead-devchain/v", env!("CARGO_PKG_VERSION")))
}

pub(super) fn block_number(chain: &Devchain) -> Reply {
    reply(&U64::from(chain.block_number()))
}

pub(super) fn syncing() -> Reply {
    reply(&false)
}

/// The chain signs nothing, so it has no accounts to offer.
pub(super) fn accounts() -> Reply {
    reply(&[Address::ZERO; 0])
}

pub(super) fn block_by_number(chain: &Devchain, params: &Params<'_>) -> Reply {
    let tag: BlockNumberOrTag = params.required(0, "block")?;
    let full = params.optional(1, "full transactions")?.unwrap_or(false);
    if tag.is_pending() {
        return reply(&shape::block(&chain.pending(), full));
    }
    let block = {
        let ledger = chain.ledger();
        ledger.block(ledger.number(tag))
    };
    reply(&block.map(|block| shape::block(&block, full)))
}

pub(super) fn block_by_hash(chain: &Devchain, params: &Params<'_>) -> Reply {
    let hash: B256 = params.required(0, "block hash")?;
    let full = params.optional(1, "full transactions")?.unwrap_or(false);
    let block = chain.ledger().block_by_hash(&hash);
    reply(&block.map(|block| shape::block(&block, full)))
}

pub(super) fn balance(chain: &Devchain, params: &Params<'_>) -> Reply {
    let address = params.required(0, "address")?;
    reply(&snapshot(chain, params, 1)?.state.balance(address))
}

pub(super) fn code(chain: &Devchain, params: &Params<'_>) -> Reply {
    let address = params.required(0, "address")?;
    reply(&snapshot(chain, params, 1)?.state.code(address))
}

pub(super) fn storage(chain: &Devchain, params: &Params<'_>) -> Reply {
    let address = params.required(0, "address")?;
    let slot: U256 = params.required(1, "slot")?;
    let value = snapshot(chain, params, 2)?.state.storage(address, slot);
    reply(&B256::from(value))
}

pub(super) fn transaction_count(chain: &Devchain, params: &Params<'_>) -> Reply {
    let address = params.required(0, "address")?;
    // Counted from the queue, because a waiting transaction need not fit into the next block.
    if params.optional::<BlockId>(1, "block")?.is_some_and(|id| id.is_pending()) {
        return reply(&U64::from(chain.ledger().pending_nonce(address)));
    }
    reply(&U64::from(snapshot(chain, params, 1)?.state.nonce(address)))
}

/// The state that the block parameter at `index` asks for, the latest one without it.
pub(super) fn snapshot(
    chain: &Devchain,
    params: &Params<'_>,
    index: usize,
) -> Result<Snapshot, RpcError> {
    let id = params.optional(index, "block")?.unwrap_or_else(BlockId::latest);
    Ok(chain.snapshot(id)?)
}
