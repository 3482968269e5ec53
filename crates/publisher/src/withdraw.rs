//! Taking money out of the escrow.

use alloy_primitives::{Address, B256};
use roadstead_core::ports::{Call, ChainError, WriteError};
use roadstead_types::TokenAmount;
use serde::Serialize;

use crate::Ports;

/// What was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// In token base units.
    pub amount: TokenAmount,
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

/// Moves the account's whole free balance into its own wallet; of a balance above 96 bits, that much.
pub async fn withdraw(ports: &Ports) -> Result<Withdrawn, WithdrawError> {
    let to = ports.writer.account();
    let balance = ports.reader.escrow_balance(to).await?;
    let amount = TokenAmount::try_from(balance).unwrap_or(TokenAmount::MAX);
    if amount.is_zero() {
        return Ok(Withdrawn { amount, to, transaction: None });
    }
    let mined = ports.writer.submit(Call::Withdraw { to, amount: amount.into() }).await?;
    Ok(Withdrawn { amount, to, transaction: Some(mined.transaction) })
}
