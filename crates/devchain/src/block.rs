//! Blocks: executing transactions one after the other, and sealing the result under a real header.
//!
//! Transactions root, receipts root, logs bloom and state root are computed as on the main network,
//! so a block hash commits to everything in it. Coinbase, ommers, withdrawals, blobs and execution
//! requests are always empty.

use std::sync::Arc;

use alloy::consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS};
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{
    BlockBody, Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope, TxReceipt as _,
    TxType,
};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::eips::eip4895::Withdrawals;
use alloy::eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy::primitives::{Address, B256, Bloom, Log, U256, keccak256};
use alloy::rlp::Encodable;

use crate::evm::{Invalid, Rules, Surroundings, Verdict};
use crate::meter;
use crate::state::State;
use crate::transaction::{Transaction, message};

/// The base fee of the genesis block: an eighth less, and so the base fee of the first block, is
/// exactly one gwei.
const GENESIS_BASE_FEE: u64 = 1_142_857_142;

/// What a block costs by itself, as much as the least transaction.
const BLOCK_COST: u64 = 21_000;

/// A sealed block with everything that happened in it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    /// The length of the encoded block.
    pub(crate) size: usize,
    pub(crate) entries: Vec<Entry>,
}

/// One transaction of a block, and what it did.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) transaction: Arc<Transaction>,
    pub(crate) receipt: ReceiptEnvelope<Log>,
    pub(crate) gas_used: u64,
    /// How many logs of the block come before its own.
    pub(crate) first_log: usize,
    /// The address of the contract it created.
    pub(crate) contract: Option<Address>,
}

/// The state after a block, and what a message sees that executes there.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) surroundings: Surroundings,
}

impl Block {
    /// The first block, which holds no transactions.
    pub(crate) fn genesis(state: &State, gas_limit: u64, timestamp: u64) -> Self {
        let header = Header {
            number: 0,
            gas_limit,
            timestamp,
            base_fee_per_gas: Some(GENESIS_BASE_FEE),
            ..Header::default()
        };
        seal(header, state, Vec::new())
    }

    /// The base fee per gas.
    pub(crate) fn base_fee(&self) -> u64 {
        self.header.base_fee_per_gas.unwrap_or_default()
    }

    /// The base fee of the block after this one.
    pub(crate) fn next_base_fee(&self) -> u64 {
        next_base_fee(self.base_fee(), self.header.gas_used, self.header.gas_limit)
    }

    /// What a message sees that executes in this block.
    pub(crate) fn surroundings(&self, chain_id: u64) -> Surroundings {
        Surroundings {
            chain_id,
            number: self.header.number,
            timestamp: self.header.timestamp,
            gas_limit: self.header.gas_limit,
            base_fee: self.base_fee(),
            prevrandao: self.header.mix_hash,
        }
    }
}

/// A block in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    parent_hash: B256,
    surroundings: Surroundings,
    state: State,
    entries: Vec<Entry>,
    gas_used: u64,
    logs: usize,
}

/// Whether a valid transaction went into a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Included,
    /// It has to wait: too little gas is left, or the base fee is above what it pays.
    NotNow,
}

impl Draft {
    /// An empty block on top of `parent`, after which the state is `state`.
    pub(crate) fn new(parent: &Block, state: &State, chain_id: u64, timestamp: u64) -> Self {
        meter::charge(BLOCK_COST);
        let number = parent.header.number.saturating_add(1);
        let surroundings = Surroundings {
            chain_id,
            number,
            timestamp,
            gas_limit: parent.header.gas_limit,
            base_fee: parent.next_base_fee(),
            prevrandao: prevrandao(chain_id, number),
        };
        let mut state = state.clone();
        state.record_parent(number, parent.hash);
        let parent_hash = parent.hash;
        Self { parent_hash, surroundings, state, entries: Vec::new(), gas_used: 0, logs: 0 }
    }

    /// The state after the transactions so far.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// How many transactions are in.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Executes `transaction` as the next one, if it fits.
    pub(crate) fn push(&mut self, transaction: &Arc<Transaction>) -> Result<Fit, Invalid> {
        let left = self.surroundings.gas_limit.saturating_sub(self.gas_used);
        if transaction.gas_limit() > left
            || transaction.max_fee_per_gas() < u128::from(self.surroundings.base_fee)
        {
            return Ok(Fit::NotNow);
        }
        let mut execution =
            message(transaction).execute(&self.state, &self.surroundings, Rules::Consensus)?;
        let gas_used = execution.gas_used;
        let logs = std::mem::take(&mut execution.logs);
        let success = execution.verdict == Verdict::Success;
        let contract =
            transaction.is_create().then(|| transaction.signer().create(transaction.nonce()));
        execution.apply(&mut self.state);

        self.gas_used = self.gas_used.saturating_add(gas_used);
        let first_log = self.logs;
        self.logs += logs.len();
        let receipt = Receipt { status: success.into(), cumulative_gas_used: self.gas_used, logs };
        self.entries.push(Entry {
            transaction: Arc::clone(transaction),
            receipt: envelope(transaction.tx_type(), receipt),
            gas_used,
            first_log,
            contract,
        });
        Ok(Fit::Included)
    }

    /// What a message sees that executes at the end of the block, which is not finished for it.
    pub(crate) fn into_snapshot(self) -> Snapshot {
        Snapshot { state: self.state, surroundings: self.surroundings }
    }

    /// Finishes the block, and gives the state after it.
    pub(crate) fn seal(self) -> (Block, State) {
        let header = Header {
            parent_hash: self.parent_hash,
            number: self.surroundings.number,
            gas_limit: self.surroundings.gas_limit,
            gas_used: self.gas_used,
            timestamp: self.surroundings.timestamp,
            mix_hash: self.surroundings.prevrandao,
            base_fee_per_gas: Some(self.surroundings.base_fee),
            ..Header::default()
        };
        (seal(header, &self.state, self.entries), self.state)
    }
}

/// Fills in what follows from the content of the block.
fn seal(header: Header, state: &State, entries: Vec<Entry>) -> Block {
    let transactions: Vec<TxEnvelope> =
        entries.iter().map(|entry| entry.transaction.inner().clone()).collect();
    let receipts: Vec<&ReceiptEnvelope<Log>> = entries.iter().map(|entry| &entry.receipt).collect();
    let header = Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root: state.root(),
        transactions_root: calculate_transaction_root(&transactions),
        receipts_root: calculate_receipt_root(&receipts),
        logs_bloom: receipts
            .iter()
            .fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom()),
        difficulty: U256::ZERO,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..header
    };
    let hash = header.hash_slow();
    let withdrawals = Some(Withdrawals::default());
    let body = BlockBody { transactions, ommers: Vec::new(), withdrawals };
    let size = header.clone().into_block(body).length();
    Block { header, hash, size, entries }
}

fn envelope(kind: TxType, receipt: Receipt<Log>) -> ReceiptEnvelope<Log> {
    let receipt = receipt.into_with_bloom();
    match kind {
        TxType::Legacy => ReceiptEnvelope::Legacy(receipt),
        TxType::Eip2930 => ReceiptEnvelope::Eip2930(receipt),
        TxType::Eip1559 => ReceiptEnvelope::Eip1559(receipt),
        TxType::Eip4844 => ReceiptEnvelope::Eip4844(receipt),
        TxType::Eip7702 => ReceiptEnvelope::Eip7702(receipt),
    }
}

/// The base fee after a block (EIP-1559). It does not grow past the greatest number: full blocks bring
/// it there soon enough, and the library's own function overflows.
fn next_base_fee(base_fee: u64, gas_used: u64, gas_limit: u64) -> u64 {
    let BaseFeeParams { max_change_denominator, elasticity_multiplier } = BaseFeeParams::ethereum();
    let target = (u128::from(gas_limit) / elasticity_multiplier).max(1);
    let (base_fee, gas_used) = (u128::from(base_fee), u128::from(gas_used));
    let change = |gas: u128| base_fee * gas / target / max_change_denominator;
    let next = if gas_used > target {
        base_fee.saturating_add(change(gas_used - target).max(1))
    } else {
        base_fee.saturating_sub(change(target - gas_used))
    };
    u64::try_from(next).unwrap_or(u64::MAX)
}

/// The randomness of a block: different in every block, and the same in every run.
fn prevrandao(chain_id: u64, number: u64) -> B256 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&chain_id.to_be_bytes());
    seed[8..].copy_from_slice(&number.to_be_bytes());
    keccak256(seed)
}

#[cfg(test)]
mod tests {
    use alloy::eips::eip1559::calc_next_block_base_fee;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 30_000_000;

    proptest! {
        #[test]
        fn the_next_base_fee_is_that_of_the_reference_implementation(
            base_fee in 0..=u64::MAX / 2,
            gas_used in 0..=LIMIT,
        ) {
            let reference =
                calc_next_block_base_fee(gas_used, LIMIT, base_fee, BaseFeeParams::ethereum());
            prop_assert_eq!(next_base_fee(base_fee, gas_used, LIMIT), reference);
        }
    }

    #[test]
    fn the_base_fee_ends_at_the_greatest_number_and_falls_from_there() {
        let mut base_fee = GENESIS_BASE_FEE;
        for _ in 0..300 {
            base_fee = next_base_fee(base_fee, LIMIT, LIMIT);
        }
        assert_eq!(base_fee, u64::MAX);
        assert_eq!(next_base_fee(u64::MAX - 1, LIMIT / 2 + 1, LIMIT), u64::MAX);
        assert_eq!(next_base_fee(u64::MAX, LIMIT / 2, LIMIT), u64::MAX);
        assert_eq!(next_base_fee(u64::MAX, 0, LIMIT), u64::MAX - u64::MAX / 8);
    }
}
