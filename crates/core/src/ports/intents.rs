//! Transactions that were signed and whose fate is not known yet.
//!
//! ```text
//!  signed ── intend (durable) ──> sent ──> in a block, or its nonce used otherwise ── done ──> forgotten
//! ```
//!
//! A process that ends after `intend` finds the transaction again and sends the same bytes, instead of signing another
//! one for the same purpose.

use std::error::Error;

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;

/// A signed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Who signed it.
    pub account: Address,
    /// Its number among the account's transactions.
    pub nonce: u64,
    /// The function that it calls, for messages.
    pub call: String,
    /// Its hash.
    pub transaction: B256,
    /// As it is sent.
    pub raw: Bytes,
}

/// The intents could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[error("signed transactions cannot be written down or read back")]
pub struct IntentError(#[source] pub Box<dyn Error + Send + Sync>);

/// Keeps intents.
#[async_trait]
pub trait Intents: Send + Sync {
    /// Keeps a transaction. Durable when it returns.
    async fn intend(&self, intent: &Intent) -> Result<(), IntentError>;

    /// Forgets every transaction of the account with this nonce: one of them is in a block, or none ever will be.
    async fn done(&self, account: Address, nonce: u64) -> Result<(), IntentError>;

    /// What is kept for an account, in the order of the nonces and, within one, of keeping.
    async fn pending(&self, account: Address) -> Result<Vec<Intent>, IntentError>;
}
