//! Whose money a publisher spends, and whether the key to it is here.

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use roadstead_chain::Wallet;
use roadstead_core::ports::{Call, ChainWriter, Mined, Resumed, SignError, Signer, WriteError};
use roadstead_types::Signature;

/// The account of a publisher.
#[derive(Clone, Debug)]
pub enum Purse {
    /// Its key is here.
    Open(Wallet),
    /// Its key is elsewhere: what it pays for can be prepared, and nothing sent or signed.
    Closed(Address),
}

impl Purse {
    /// Whose it is.
    pub fn address(&self) -> Address {
        match self {
            Self::Open(wallet) => wallet.address(),
            Self::Closed(address) => *address,
        }
    }
}

impl From<Wallet> for Purse {
    fn from(wallet: Wallet) -> Self {
        Self::Open(wallet)
    }
}

/// The key of the account is elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("its key is elsewhere")]
struct Elsewhere;

/// An account whose key is elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedPurse(pub(crate) Address);

#[async_trait]
impl ChainWriter for ClosedPurse {
    fn account(&self) -> Address {
        self.0
    }

    async fn resume(&self) -> Result<Vec<Resumed>, WriteError> {
        Ok(Vec::new())
    }

    async fn submit(&self, call: Call) -> Result<Mined, WriteError> {
        Err(WriteError::NoKey { call: call.name(), account: self.0 })
    }
}

#[async_trait]
impl Signer for ClosedPurse {
    fn address(&self) -> Address {
        self.0
    }

    async fn sign(&self, _digest: &B256) -> Result<Signature, SignError> {
        Err(SignError { address: self.0, source: Box::new(Elsewhere) })
    }
}
