//! The chain: what clients read, what they follow and what they send.

use std::error::Error;

use alloy_primitives::{Address, B256, Bytes, U256};
use async_trait::async_trait;
use roadstead_abi::Revert;
use roadstead_types::{Job, JobId, Registration, Terms, Timestamp, TokenAmount, Voucher};

use super::IntentError;
use crate::event::{BlockRef, Cursor, EventBatch};

/// The newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which one.
    pub block: BlockRef,
    /// Its time.
    pub timestamp: Timestamp,
}

/// Why the chain did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No answer, or an error of the node.
    #[error("{operation} failed")]
    Rpc {
        /// The JSON-RPC method.
        operation: &'static str,
        /// What the transport or the node said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The chain moved while it was asked, so that one answer does not fit the other.
    #[error("the chain moved while {operation} was asked")]
    Moved {
        /// The JSON-RPC method.
        operation: &'static str,
    },
    /// The node cannot be asked at all.
    #[error("`{address}` is no usable RPC address: {reason}")]
    BadAddress {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Another chain, or another life of a development chain, answers at the address.
    #[error("the chain at this address has {what} {found}, the market file says {expected}")]
    AnotherChain {
        /// What differs: id or genesis hash.
        what: &'static str,
        /// What answers.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The chain was replaced further back than the cursor remembers.
    #[error("the chain was reorganised before block {horizon}, further back than is remembered")]
    ReorganisedTooDeep {
        /// The first block whose loss would have been noticed.
        horizon: u64,
    },
    /// An answer that no correct node gives.
    #[error("the node's answer to {operation} makes no sense: {reason}")]
    Malformed {
        /// The JSON-RPC method.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ChainError {
    /// Whether asking again later may help.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Rpc { .. } | Self::Moved { .. })
    }
}

/// Whose jobs to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Jobs that this account hosts.
    Provider(Address),
    /// Jobs that this account pays for.
    Publisher(Address),
    /// Jobs whose bills this account accepts.
    Signer(Address),
}

/// Which events are wanted: every opening for the party, and every event of the jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose openings.
    pub party: Party,
    /// Jobs known so far. Jobs opened in the same batch are followed as well.
    pub jobs: Vec<JobId>,
}

/// Events with their cursor.
#[async_trait]
pub trait ChainEvents: Send + Sync {
    /// What happened since `cursor` and has enough confirmations. At most a bounded number of blocks: while
    /// the batch moves the cursor there may be more to read at once.
    async fn events_after(
        &self,
        cursor: &Cursor,
        filter: &EventFilter,
    ) -> Result<EventBatch, ChainError>;
}

/// What can be asked of the chain's newest state.
#[async_trait]
pub trait ChainReader: Send + Sync {
    /// The newest block.
    async fn head(&self) -> Result<Head, ChainError>;

    /// The id of the job with these terms.
    fn job_id(&self, terms: &Terms) -> JobId;

    /// The escrow's slot of a job.
    async fn job(&self, job: JobId) -> Result<Job, ChainError>;

    /// The free balance of an account inside the escrow, in token base units.
    async fn escrow_balance(&self, account: Address) -> Result<U256, ChainError>;

    /// How many tokens an account's wallet holds, in base units.
    async fn token_balance(&self, account: Address) -> Result<U256, ChainError>;

    /// How many tokens the escrow may pull from an account's wallet, in base units.
    async fn token_allowance(&self, account: Address) -> Result<U256, ChainError>;

    /// The account that may act for another one, if it named any.
    async fn operator(&self, account: Address) -> Result<Option<Address>, ChainError>;

    /// The ether of an account, in wei: what it pays gas with.
    async fn ether_balance(&self, account: Address) -> Result<U256, ChainError>;

    /// The providers from position `start` of the registry on, at most `length` of them; none past the end. Positions
    /// move when somebody leaves.
    async fn providers(
        &self,
        start: u64,
        length: u64,
    ) -> Result<Vec<(Address, RegistryEntry)>, ChainError>;

    /// A provider's entry.
    async fn registration(&self, provider: Address) -> Result<RegistryEntry, ChainError>;
}

/// What the registry says of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryEntry {
    /// It is not registered.
    Absent,
    /// It is registered, with an endpoint that nobody can use.
    Unusable,
    /// It is registered.
    Registered(Registration),
}

/// A call of the market's contracts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Enter the registry.
    Register(Registration),
    /// Replace one's entry.
    UpdateRegistration(Registration),
    /// Let the escrow pull tokens.
    Approve {
        /// How many, in place of what was allowed before.
        amount: TokenAmount,
    },
    /// Open a job with a deposit from the wallet.
    Open {
        /// What both sides agree on.
        terms: Terms,
        /// What the job may cost at most.
        deposit: TokenAmount,
        /// A hint where the bundle is.
        source: Bytes,
    },
    /// Add to the deposit of a job from the wallet.
    TopUp {
        /// Which job.
        job: JobId,
        /// How much.
        amount: TokenAmount,
    },
    /// Take the start fee into the wallet.
    ClaimStartFee(Terms),
    /// Take what a voucher pays into the wallet.
    Settle {
        /// Of the job.
        terms: Terms,
        /// The bill and its signature.
        voucher: Voucher,
    },
    /// The same, and close the job.
    SettleAndClose {
        /// Of the job.
        terms: Terms,
        /// The bill and its signature.
        voucher: Voucher,
    },
    /// Close a job and give back what was not paid.
    Decline(Terms),
    /// Give notice.
    BeginClose(Terms),
    /// Credit the rest to the publisher after the notice.
    Finalize(Terms),
    /// Move free balance into a wallet.
    Withdraw {
        /// Whose wallet.
        to: Address,
        /// How much, in token base units.
        amount: U256,
    },
}

impl Call {
    /// The name of the function, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "register",
            Self::UpdateRegistration(_) => "update",
            Self::Approve { .. } => "approve",
            Self::Open { .. } => "open",
            Self::TopUp { .. } => "topUp",
            Self::ClaimStartFee(_) => "claimStartFee",
            Self::Settle { .. } => "settle",
            Self::SettleAndClose { .. } => "settleAndClose",
            Self::Decline(_) => "decline",
            Self::BeginClose(_) => "beginClose",
            Self::Finalize(_) => "finalize",
            Self::Withdraw { .. } => "withdraw",
        }
    }
}

/// A transaction that is in a block and succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mined {
    /// Its hash.
    pub transaction: B256,
    /// The block that holds it.
    pub block: BlockRef,
}

/// A transaction of an earlier process that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// The name of the function that it calls.
    pub call: String,
    /// The selector of the function and its arguments.
    pub input: Bytes,
    /// Its hash.
    pub transaction: B256,
    /// Whether it is in a block and succeeded. If not, it never will.
    pub took_effect: bool,
}

/// Why a call did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The chain could not be asked. Whether the transaction was sent is not known: read the state before sending
    /// again. No call about a job takes effect twice.
    #[error("{call} could not be sent")]
    Chain {
        /// The function.
        call: &'static str,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// The contract refused. Found out before sending, or in the block.
    #[error("the contract refuses {call}")]
    Reverted {
        /// The function.
        call: &'static str,
        /// Its reason.
        #[source]
        source: Revert,
    },
    /// The account cannot pay for the transaction itself.
    #[error("{account} has no ether to pay the gas of {call}")]
    NoGas {
        /// The function.
        call: &'static str,
        /// The account.
        account: Address,
    },
    /// The account's key is not here.
    #[error("{call} is not sent: the key of {account} is elsewhere")]
    NoKey {
        /// The function.
        call: &'static str,
        /// The account.
        account: Address,
    },
    /// The node asks for more than any transaction of the market is worth.
    #[error("the gas of {call} would cost {fee} wei each, more than the limit of {limit}")]
    FeeTooHigh {
        /// The function.
        call: &'static str,
        /// Per unit of gas.
        fee: u128,
        /// Per unit of gas.
        limit: u128,
    },
    /// Its bytes could not be written down or read back, and nothing is sent that a later process could not find.
    #[error("{call} was held back")]
    Intent {
        /// The function.
        call: String,
        /// Why.
        #[source]
        source: IntentError,
    },
    /// Nothing mined the transaction in time.
    #[error("{call} was sent as {transaction} but not mined within {seconds} s")]
    NotMined {
        /// The function.
        call: &'static str,
        /// Its hash.
        transaction: B256,
        /// How long was waited.
        seconds: u64,
    },
}

/// Sends calls for one account.
#[async_trait]
pub trait ChainWriter: Send + Sync {
    /// The account that pays for and signs the transactions.
    fn account(&self) -> Address;

    /// Brings to an end what an earlier process has signed: sends the same bytes again and waits until each is in a
    /// block or never will be. To be called before anything else is sent. What came to its end is told once: whoever
    /// repeats a call that adds up has to look at it first.
    async fn resume(&self) -> Result<Vec<Resumed>, WriteError>;

    /// Sends a call and waits until it is in a block.
    async fn submit(&self, call: Call) -> Result<Mined, WriteError>;
}
