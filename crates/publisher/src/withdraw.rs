//! Taking money out of the escrow.

use alloy_primitives::{Address, B256, U256};
use roadstead_core::ports::{Call, ChainError, WriteError};
use serde::Serialize;

use crate::Ports;

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// In token base units.
    pub amount: U256,
    /// Into whose wallet.
    pub to: Address,
    /// The transaction, or `None` where there was nothing to take.
    pub transaction: Option<B256>,
}

/// Why the money is still in the escrow.
#[derive(Debug, thiserror::Error)]
pub enum WithdrawError {
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// The transaction did not take effect.
    #[error("the balance could not be withdrawn")]
    Write(#[from] WriteError),
}

/// Moves the account's whole free balance into its own wallet.
pub async fn withdraw(ports: &Ports) -> Result<Withdrawn, WithdrawError> {
    let to = ports.writer.account();
    let amount = ports.reader.escrow_balance(to).await?;
    if amount.is_zero() {
        return Ok(Withdrawn { amount, to, transaction: None });
    }
    let mined = ports.writer.submit(Call::Withdraw { to, amount }).await?;
    Ok(Withdrawn { amount, to, transaction: Some(mined.transaction) })
}
