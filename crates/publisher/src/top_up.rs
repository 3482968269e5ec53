//! Adding to the deposit of a job.
//!
//! Each call adds once more. What a process signed that ended before it could say so comes through with the next one;
//! the next call about that job then says so and adds nothing, for it may well be the same call again.

use std::sync::PoisonError;

use alloy_primitives::{Address, B256, U256};
use roadstead_abi::top_up_of;
use roadstead_core::ports::{Call, ChainError, WriteError};
use roadstead_types::{JobId, JobStatus, TokenAmount};
use serde::Serialize;

use crate::Ports;

/// A job with more in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ToppedUp {
    /// Which.
    pub job: JobId,
    /// What was added, in token base units.
    pub added: TokenAmount,
    /// All that was ever put in, in token base units.
    pub deposit: TokenAmount,
    /// The transaction.
    pub transaction: B256,
    /// Whether it is that of an earlier process, which did not live to see it. Nothing else was added.
    pub resumed: bool,
}

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum TopUpError {
    /// Nobody could use it.
    #[error("job {job} does not live: it was never opened, or is closed")]
    NotLive {
        /// Its id.
        job: JobId,
    },
    /// The contracts take nothing for a job that is being left.
    #[error("notice was given for job {job}; nothing can be added to it any more")]
    NoticeRuns {
        /// Its id.
        job: JobId,
    },
    /// The wallet holds too little.
    #[error("{account} holds {balance} token units, {amount} are to be added")]
    NotEnoughTokens {
        /// The wallet.
        account: Address,
        /// What it holds.
        balance: U256,
        /// What is needed.
        amount: TokenAmount,
    },
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// A transaction did not take effect.
    #[error("the deposit could not be added to")]
    Write(#[from] WriteError),
}

/// Adds to the deposit of an open job, whoever opened it; or says what an earlier process has added.
pub async fn top_up(
    ports: &Ports,
    job: JobId,
    amount: TokenAmount,
) -> Result<ToppedUp, TopUpError> {
    let account = ports.writer.account();
    // An allowance is one number for the whole wallet, so whoever raises it must be the next to use it.
    let _turn = ports.opening.lock().await;
    if let Some((added, transaction)) = take_resumed(ports, job) {
        let deposit = ports.reader.job(job).await?.deposit;
        return Ok(ToppedUp { job, added, deposit, transaction, resumed: true });
    }
    match ports.reader.job(job).await?.status() {
        JobStatus::Open => {}
        JobStatus::Closing => return Err(TopUpError::NoticeRuns { job }),
        JobStatus::Absent | JobStatus::Closed => return Err(TopUpError::NotLive { job }),
    }
    let balance = ports.reader.token_balance(account).await?;
    let needed: U256 = amount.into();
    if balance < needed {
        return Err(TopUpError::NotEnoughTokens { account, balance, amount });
    }
    if ports.reader.token_allowance(account).await? < needed {
        ports.writer.submit(Call::Approve { amount }).await?;
    }
    let mined = ports.writer.submit(Call::TopUp { job, amount }).await?;
    let deposit = ports.reader.job(job).await?.deposit;
    Ok(ToppedUp { job, added: amount, deposit, transaction: mined.transaction, resumed: false })
}

/// What an earlier process added to the job without living to see it.
fn take_resumed(ports: &Ports, job: JobId) -> Option<(TokenAmount, B256)> {
    // A panic elsewhere leaves the list whole.
    let mut resumed = ports.resumed.lock().unwrap_or_else(PoisonError::into_inner);
    let mut ended = resumed.iter().enumerate().filter(|(_, ended)| ended.took_effect);
    let (at, added) = ended.find_map(|(at, ended)| match top_up_of(&ended.input) {
        Some((of, added)) if of == job => Some((at, added)),
        _ => None,
    })?;
    Some((added, resumed.remove(at).transaction))
}
