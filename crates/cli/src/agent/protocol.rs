//! What commands ask of the process that holds the agent's folder.

use std::collections::BTreeMap;

use alloy_primitives::Address;
use roadstead_core::protocol::JobPhase;
use roadstead_publisher::JobSummary;
use roadstead_types::{JobId, JobPlan, TokenAmount};
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Answered by [`About`].
    About,
    /// Follow this job. Answered by nothing once its plan is durable.
    Adopt(Box<JobPlan>),
    /// Answered by a list of [`FollowedJob`].
    Jobs {
        /// Of this one alone.
        only: Option<JobId>,
    },
    /// Answered by a [`Live`], and another one whenever something changes.
    Watch(JobId),
    /// Answered by a verified bill.
    Verify(JobId),
}

/// Which agent it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// The account that accepts the bills.
    pub(crate) signer: Address,
    /// The chain of its market.
    pub(crate) chain: u64,
    /// The payment contract of its market.
    pub(crate) contract: Address,
    /// Where providers fetch the blocks of the embedded store.
    pub(crate) source: String,
    /// The process.
    pub(crate) pid: u32,
}

/// What the agent has heard of a job in this life of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Where its provider says it stands; `None` where it has not said so yet.
    pub(crate) phase: Option<JobPhase>,
    /// Where each of its ports can be called.
    pub(crate) urls: BTreeMap<u16, String>,
    /// What its provider says should be known.
    pub(crate) note: Option<String>,
    /// All that was accepted, in token base units.
    pub(crate) accepted: TokenAmount,
    /// How many receipts were accepted.
    pub(crate) receipts: u32,
    /// Why its provider does not answer.
    pub(crate) trouble: Option<String>,
    /// Whether it is over, and no receipt missing.
    pub(crate) is_over: bool,
}

/// A job with all that is known of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FollowedJob {
    /// What the journal and the chain say.
    pub(crate) summary: JobSummary,
    /// What was heard; `None` where no agent runs, or it heard nothing yet.
    pub(crate) live: Option<Live>,
}
