//! Keys that sign what the contracts verify.

use std::error::Error;

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use roadstead_types::Signature;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[error("{address} does not sign")]
pub struct SignError {
    /// Whose key it is.
    pub address: Address,
    /// The reason.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// The key of one account.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Its account.
    fn address(&self) -> Address;

    /// Signs a digest. The same digest gives the same bytes (RFC 6979).
    async fn sign(&self, digest: &B256) -> Result<Signature, SignError>;
}
