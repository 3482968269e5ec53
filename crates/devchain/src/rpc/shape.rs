//! Blocks, transactions, receipts and logs in the shape that clients expect.

use alloy::consensus::{Sealed, Transaction as _, TxEnvelope};
use alloy::eips::eip4895::Withdrawals;
use alloy::primitives::U256;
use alloy::rpc::types::{
    Block as RpcBlock, BlockTransactions, Header, Log, Transaction as RpcTransaction,
    TransactionInfo, TransactionReceipt,
};

use crate::block::{Block, Entry};
use crate::transaction::Transaction;

/// A block, with whole transactions or their hashes.
pub(super) fn block(block: &Block, full: bool) -> RpcBlock {
    let header = Sealed::new_unchecked(block.header.clone(), block.hash);
    let transactions = if full {
        let all = block.entries.iter().enumerate();
        BlockTransactions::Full(all.map(|(index, entry)| mined(block, index, entry)).collect())
    } else {
        let all = block.entries.iter();
        BlockTransactions::Hashes(all.map(|entry| *entry.transaction.hash()).collect())
    };
    RpcBlock {
        header: Header::from_consensus(header, Some(U256::ZERO), Some(U256::from(block.size))),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

/// A transaction in its block.
pub(super) fn mined(block: &Block, index: usize, entry: &Entry) -> RpcTransaction {
    let info = TransactionInfo {
        hash: Some(*entry.transaction.hash()),
        index: position(index),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        base_fee: block.header.base_fee_per_gas,
        block_timestamp: Some(block.header.timestamp),
    };
    RpcTransaction::from_transaction(entry.transaction.as_ref().clone(), info)
}

/// A transaction that waits for a block.
pub(super) fn waiting(transaction: &Transaction) -> RpcTransaction {
    let info = TransactionInfo { hash: Some(*transaction.hash()), ..TransactionInfo::default() };
    RpcTransaction::<TxEnvelope>::from_transaction(transaction.clone(), info)
}

/// What a transaction did.
pub(super) fn receipt(block: &Block, index: usize, entry: &Entry) -> TransactionReceipt {
    let logs = logs(block, index, entry);
    let mut logs = logs.into_iter();
    TransactionReceipt {
        inner: entry
            .receipt
            .clone()
            .map_logs(|inner| logs.next().unwrap_or_else(|| Log { inner, ..Log::default() })),
        transaction_hash: *entry.transaction.hash(),
        transaction_index: position(index),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: entry.gas_used,
        effective_gas_price: entry.transaction.effective_gas_price(block.header.base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: entry.transaction.signer(),
        to: entry.transaction.to(),
        contract_address: entry.contract,
    }
}

/// The logs of a transaction.
pub(super) fn logs(block: &Block, index: usize, entry: &Entry) -> Vec<Log> {
    let all = entry.receipt.logs().iter().zip(entry.first_log..);
    all.map(|(inner, place)| Log {
        inner: inner.clone(),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(*entry.transaction.hash()),
        transaction_index: position(index),
        log_index: position(place),
        removed: false,
    })
    .collect()
}

fn position(index: usize) -> Option<u64> {
    u64::try_from(index).ok()
}
