//! A job: the terms both sides agree on, and the one storage slot that the escrow keeps for it.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{Seconds, Timestamp, TokenAmount};

/// The id of a job, bound to its chain, contract and terms:
/// `keccak256(abi.encode(chain id at deployment, contract, terms))`. A job id lives once.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct JobId(pub B256);

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for JobId {
    type Err = <B256 as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A job among all chains and deployments. Whatever a client stores is keyed by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// EIP-155 id of the chain.
    pub chain: u64,
    /// The payment contract.
    pub contract: Address,
    /// The job there.
    pub job: JobId,
}

/// What both sides agree on when a job is opened. Calldata and event only: the chain stores none of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Who pays; the refund is credited to it.
    pub publisher: Address,
    /// Identity and payee.
    pub provider: Address,
    /// Who accepts the bill: a key, or an ERC-1271 contract.
    pub signer: Address,
    /// The most that one hour may cost, every resource fully used.
    pub rate_per_hour: TokenAmount,
    /// A prepaid part of the bill that the provider may take without a signature.
    pub start_fee: TokenAmount,
    /// Between the publisher's wish to leave and the refund: one hour to 30 days.
    pub notice: Seconds,
    /// How long an unsigned claim can be challenged; zero means that there are none.
    pub window: Seconds,
    /// Tells apart jobs with equal terms.
    pub salt: u64,
    /// SHA-256 digest of the sealed deployment bundle.
    pub bundle: B256,
}

/// The escrow's storage slot of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// All that was ever put in; equals `paid` once the job is closed.
    pub deposit: TokenAmount,
    /// All that was ever paid to the provider.
    pub paid: TokenAmount,
    /// Up to when the provider was paid; the time of opening at first.
    pub paid_until: Timestamp,
    /// When the rest may be refunded; 0 while nobody leaves, 1 once closed.
    pub close_at: Timestamp,
}

/// Where a job stands, as its slot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// The id was never opened.
    Absent,
    /// Open, and nobody leaves.
    Open,
    /// The publisher leaves; the notice runs.
    Closing,
    /// Over for good.
    Closed,
}

impl Job {
    /// The mark of a closed job in `close_at`, as in the contracts.
    pub const CLOSED: Timestamp = Timestamp(1);

    /// Where the job stands.
    pub fn status(&self) -> JobStatus {
        match (self.paid_until, self.close_at) {
            (Timestamp(0), _) => JobStatus::Absent,
            (_, Timestamp(0)) => JobStatus::Open,
            (_, Self::CLOSED) => JobStatus::Closed,
            _ => JobStatus::Closing,
        }
    }
}

/// What a signer accepts: all that is due up to a moment, and the reading it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bill {
    /// All that is due since the start, the start fee included.
    pub cumulative: TokenAmount,
    /// Up to when.
    pub until: Timestamp,
    /// Struct hash of the receipt that the bill follows from.
    pub usage_root: B256,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_tells_where_the_job_stands() {
        let job = |paid_until, close_at| Job {
            paid_until: Timestamp(paid_until),
            close_at: Timestamp(close_at),
            ..Job::default()
        };
        assert_eq!(job(0, 0).status(), JobStatus::Absent);
        assert_eq!(job(1_800_000_000, 0).status(), JobStatus::Open);
        assert_eq!(job(1_800_000_000, 1_800_003_600).status(), JobStatus::Closing);
        assert_eq!(job(1_800_000_000, 1).status(), JobStatus::Closed);
    }
}
