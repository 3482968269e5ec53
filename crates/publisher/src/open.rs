//! Opening a job.

use alloy_primitives::{Address, B256, Bytes, U256};
use roadstead_core::ports::{Call, ChainError, WriteError};
use roadstead_types::{JobId, JobPlan, JobStatus, Terms, TokenAmount};
use serde::Serialize;

use crate::Ports;

/// The job to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// What both sides agree on. They fix the job's id, so opening again with the same terms finds the same job.
    pub terms: Terms,
    /// What the job may cost at most.
    pub deposit: TokenAmount,
    /// A hint where the bundle can be fetched.
    pub source: Bytes,
}

impl From<&JobPlan> for OpenRequest {
    fn from(plan: &JobPlan) -> Self {
        let source = Bytes::copy_from_slice(plan.source.as_bytes());
        Self { terms: plan.terms.clone(), deposit: plan.deposit, source }
    }
}

/// A job that is on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opened {
    /// Its id.
    pub job: JobId,
    /// The transaction that opened it, or `None` where it was open before.
    pub transaction: Option<B256>,
}

/// Why a job is not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The terms name another publisher than the account that would pay.
    #[error("the terms name {publisher} as publisher, the wallet is {account}")]
    NotThePublisher {
        /// Of the terms.
        publisher: Address,
        /// Of the wallet.
        account: Address,
    },
    /// The wallet holds too little.
    #[error("{account} holds {balance} token units, the deposit is {deposit}")]
    NotEnoughTokens {
        /// The wallet.
        account: Address,
        /// What it holds.
        balance: U256,
        /// What is needed.
        deposit: TokenAmount,
    },
    /// A job with these terms is over. It lives once.
    #[error("job {job} with these terms is closed; choose another salt")]
    Over {
        /// Its id.
        job: JobId,
    },
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// A transaction did not take effect.
    #[error("the job could not be opened")]
    Write(#[from] WriteError),
}

/// Opens a job, after letting the escrow pull the deposit where it may not yet. Finds the job where it is open
/// already, so it may be repeated after any interruption.
pub async fn open(ports: &Ports, request: OpenRequest) -> Result<Opened, OpenError> {
    let OpenRequest { terms, deposit, source } = request;
    let account = ports.writer.account();
    if terms.publisher != account {
        return Err(OpenError::NotThePublisher { publisher: terms.publisher, account });
    }
    let job = ports.reader.job_id(&terms);
    // An allowance is one number for the whole wallet, so whoever raises it must be the next to use it.
    let _turn = ports.opening.lock().await;
    if let Some(found) = find(ports, job).await? {
        return Ok(found);
    }
    let balance = ports.reader.token_balance(account).await?;
    let needed: U256 = deposit.into();
    if balance < needed {
        return Err(OpenError::NotEnoughTokens { account, balance, deposit });
    }
    if ports.reader.token_allowance(account).await? < needed {
        ports.writer.submit(Call::Approve { amount: deposit }).await?;
    }
    match ports.writer.submit(Call::Open { terms, deposit, source }).await {
        Ok(mined) => Ok(Opened { job, transaction: Some(mined.transaction) }),
        // An earlier attempt, which counted as lost, may have come through after all.
        Err(WriteError::Reverted { call, source }) => match find(ports, job).await? {
            Some(found) => Ok(found),
            None => Err(WriteError::Reverted { call, source }.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The job if it lives.
async fn find(ports: &Ports, job: JobId) -> Result<Option<Opened>, OpenError> {
    match ports.reader.job(job).await?.status() {
        JobStatus::Absent => Ok(None),
        JobStatus::Open | JobStatus::Closing => Ok(Some(Opened { job, transaction: None })),
        JobStatus::Closed => Err(OpenError::Over { job }),
    }
}
