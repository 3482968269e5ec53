//! What the provider's daemon tells whoever runs it.

use std::collections::BTreeMap;

use roadstead_core::{
    PauseReason, Refusal,
    ports::{ChainError, WriteError},
    protocol::ReceiptRefusal,
};
use roadstead_types::{JobId, Receipt, Timestamp, TokenAmount};

use crate::deploy::{DeployError, RemoveError};

/// What the daemon did or saw.
#[derive(Debug)]
pub enum ProviderEvent {
    /// A job was opened for this provider.
    JobSeen {
        /// Which.
        job: JobId,
        /// Its deposit.
        deposit: TokenAmount,
    },
    /// Its bundle opened, and the provider takes it.
    Admitted {
        /// Which job.
        job: JobId,
    },
    /// Its image is being fetched.
    Fetching {
        /// Which job.
        job: JobId,
        /// Bytes that are here.
        done: u64,
        /// Bytes of the whole image, once that is known.
        total: Option<u64>,
    },
    /// Its image is here; it is opened and started.
    Starting {
        /// Which job.
        job: JobId,
    },
    /// It runs.
    Running {
        /// Which job.
        job: JobId,
        /// Where each of its ports can be called.
        urls: BTreeMap<u16, String>,
    },
    /// It ended by itself and is started anew.
    Exited {
        /// Which job.
        job: JobId,
        /// How, as a shell has it, where that is known.
        status: Option<i32>,
    },
    /// The provider never serves this job and gives its money back.
    Refused {
        /// Which job.
        job: JobId,
        /// Why.
        refusal: Refusal,
    },
    /// It could not be brought to run; that is tried again later.
    DeployFailed {
        /// Which job.
        job: JobId,
        /// Why.
        error: DeployError,
    },
    /// Nothing of it is on this machine any more.
    Removed {
        /// Which job.
        job: JobId,
    },
    /// It could not be removed; that is tried again later.
    RemoveFailed {
        /// Which job.
        job: JobId,
        /// Why.
        error: RemoveError,
    },
    /// The start fee is in the provider's wallet.
    StartFeePaid {
        /// Of which job.
        job: JobId,
        /// All that was paid for the job so far.
        paid: TokenAmount,
    },
    /// A bill was paid.
    Settled {
        /// Of which job.
        job: JobId,
        /// All that was paid for the job so far.
        paid: TokenAmount,
        /// Up to when.
        until: Timestamp,
    },
    /// Somebody added to the deposit.
    ToppedUp {
        /// Of which job.
        job: JobId,
        /// What it is now.
        deposit: TokenAmount,
    },
    /// The meter was read.
    ReceiptSigned {
        /// Of which job.
        job: JobId,
        /// The receipt.
        receipt: Receipt,
    },
    /// A bill was accepted.
    VoucherAccepted {
        /// Of which job.
        job: JobId,
        /// All that was accepted so far.
        accepted: TokenAmount,
    },
    /// Its agent does not accept a receipt as it is.
    ReceiptRefused {
        /// Of which job.
        job: JobId,
        /// Why.
        refusal: ReceiptRefusal,
    },
    /// The instance is frozen for money.
    Paused {
        /// Of which job.
        job: JobId,
        /// Why; `None` where receipts were lost.
        reason: Option<PauseReason>,
    },
    /// The instance runs again.
    Resumed {
        /// Of which job.
        job: JobId,
    },
    /// The publisher ordered the job to end.
    Ordered {
        /// Which job.
        job: JobId,
    },
    /// Its last receipt was made; it is stopped, and nothing more is billed.
    Draining {
        /// Which job.
        job: JobId,
    },
    /// Its agent holds receipts that the journal does not have. Nothing is signed until they are given back.
    ReceiptsLost {
        /// Of which job.
        job: JobId,
    },
    /// They were given back.
    ReceiptsRestored {
        /// Of which job.
        job: JobId,
    },
    /// The publisher leaves.
    Closing {
        /// Which job.
        job: JobId,
    },
    /// The job is over.
    Closed {
        /// Which.
        job: JobId,
        /// All that it paid.
        paid: TokenAmount,
    },
    /// The chain was reorganised.
    Reorganised {
        /// Everything seen in this block or later is undone.
        from_block: u64,
    },
    /// A call for a job did not take effect; it is tried again later if it is still due.
    CallFailed {
        /// Which job.
        job: JobId,
        /// Why.
        error: WriteError,
    },
    /// What became of the transactions of an earlier process is not known; it is asked again.
    ResumeFailed {
        /// Why.
        error: WriteError,
    },
    /// The chain does not answer. Told once; it is asked again at every tick.
    ChainLost {
        /// Why.
        error: ChainError,
    },
    /// The chain answers again.
    ChainBack,
}
