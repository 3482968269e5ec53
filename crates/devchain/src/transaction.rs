//! Transactions at the door: what can be said about one from its bytes alone.

use alloy::consensus::transaction::{Recovered, SignerRecoverable};
use alloy::consensus::{Transaction as _, TxEnvelope, Typed2718};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::TxKind;
use thiserror::Error;

use crate::evm::{Invalid, Message};

/// A signed transaction with its sender.
pub(crate) type Transaction = Recovered<TxEnvelope>;

/// The most bytes a transaction may have, as on other nodes.
const MAX_SIZE: usize = 128 * 1024;

/// The type byte of a transaction that carries blobs.
const BLOB_TYPE: u8 = 3;

/// Why bytes are not a transaction for this chain.
#[derive(Debug, Error)]
pub(crate) enum Malformed {
    #[error("oversized data: transaction size {0}, limit {MAX_SIZE}")]
    Oversized(usize),
    #[error("blob transactions are not supported by this chain")]
    Blob,
    #[error("failed to decode transaction")]
    Encoding(#[source] alloy::eips::eip2718::Eip2718Error),
    #[error("failed to decode transaction: unexpected bytes after its end")]
    TrailingBytes,
    #[error("invalid sender: the signature does not recover")]
    Signature(#[source] alloy::consensus::crypto::RecoveryError),
    #[error("a transaction that sets code needs at least one authorization")]
    NoAuthorization,
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Decodes a raw transaction and checks everything that needs no state.
pub(crate) fn decode(
    mut raw: &[u8],
    chain_id: u64,
    block_gas_limit: u64,
) -> Result<Transaction, Malformed> {
    if raw.len() > MAX_SIZE {
        return Err(Malformed::Oversized(raw.len()));
    }
    if raw.first() == Some(&BLOB_TYPE) {
        return Err(Malformed::Blob);
    }
    let envelope = TxEnvelope::decode_2718(&mut raw).map_err(Malformed::Encoding)?;
    if !raw.is_empty() {
        return Err(Malformed::TrailingBytes);
    }
    // A legacy transaction may be valid on every chain.
    if envelope.chain_id().is_some_and(|id| id != chain_id) {
        return Err(Invalid::ChainId.into());
    }
    if envelope.authorization_list().is_some_and(|list| list.is_empty()) {
        return Err(Malformed::NoAuthorization);
    }
    let transaction = envelope.try_into_recovered().map_err(Malformed::Signature)?;
    message(&transaction).check(block_gas_limit)?;
    Ok(transaction)
}

/// What a transaction asks of the machine.
pub(crate) fn message(transaction: &Transaction) -> Message {
    Message {
        kind: transaction.ty(),
        from: transaction.signer(),
        to: transaction.to().map_or(TxKind::Create, TxKind::Call),
        nonce: transaction.nonce(),
        gas_limit: transaction.gas_limit(),
        max_fee: transaction.max_fee_per_gas(),
        max_tip: transaction.max_priority_fee_per_gas(),
        value: transaction.value(),
        input: transaction.input().clone(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        authorizations: transaction.authorization_list().unwrap_or_default().to_vec(),
    }
}
