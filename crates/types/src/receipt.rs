//! What is signed while a job runs: readings of the meter, and bills that are accepted.

use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

use crate::{Bill, JobId, Resources, Seconds, Signature, Timestamp, TokenAmount};

/// What both sides know of a job from its bundle, and meter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// The nominal length of one metering interval.
    pub interval: Seconds,
    /// Units of usage a second, at most: CPU in thousandths of a core, memory and storage in MiB, network in bytes,
    /// accelerators in thousandths.
    pub reservation: Resources<u64>,
    /// Token base units per 10^12 units of usage.
    pub prices: Resources<u128>,
}

/// A reading of a job's meter, signed by the provider or its operator: totals since the start, never differences.
/// Receipts of a job form a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Of which job.
    pub job: JobId,
    /// Counted from 0, without gaps. A number is signed once.
    pub seq: u32,
    /// Where the interval begins, in chain time: the `to` of the receipt before.
    pub from: Timestamp,
    /// Where it ends.
    pub to: Timestamp,
    /// Usage since the start: CPU ms, memory MiB s, storage MiB s, network bytes in and out, accelerator ms.
    pub total: Resources<u64>,
    /// All that is due for these totals: `floor(sum(total[i] x price[i]) / 10^12)`.
    pub cumulative: TokenAmount,
    /// EIP-712 struct hash of the receipt before; the job's id for the first.
    pub prev: B256,
}

/// A receipt with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReceipt {
    /// What was read.
    pub receipt: Receipt,
    /// Of the provider or its operator.
    pub signature: Signature,
}

/// A bill that was accepted: what a provider is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voucher {
    /// What was accepted.
    pub bill: Bill,
    /// Of the job's signer.
    pub signature: Signature,
}
