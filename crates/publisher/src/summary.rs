//! What is known of the jobs that an agent looks after: the chain's state, and what was accepted.

use roadstead_core::{Follower, ports::ChainError, protocol::ReceiptRefusal};
use roadstead_journal::JournalError;
use roadstead_types::{JobId, JobPlan, JobStatus, TokenAmount};
use serde::{Deserialize, Serialize};

use crate::AgentPorts;

/// One job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its id.
    pub job: JobId,
    /// All that it takes to follow it.
    pub plan: JobPlan,
    /// Where it stands on chain.
    pub status: JobStatus,
    /// All that was ever put in, in token base units; what was paid once it is closed, for the contract keeps no more.
    pub deposit: TokenAmount,
    /// All that was paid, in token base units.
    pub paid: TokenAmount,
    /// All that was accepted, in token base units.
    pub accepted: TokenAmount,
    /// How many receipts were accepted.
    pub receipts: u32,
    /// Why the newest receipt is not accepted as it is.
    pub refusal: Option<ReceiptRefusal>,
}

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The journal could not be read.
    #[error("the journal could not be read")]
    Journal(#[from] JournalError),
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
}

/// Every job whose plan is in the journal, or the one that is named.
pub async fn job_summaries(
    ports: &AgentPorts,
    only: Option<JobId>,
) -> Result<Vec<JobSummary>, SummaryError> {
    let followers = ports.journal.followers().await?;
    let plans = ports.journal.plans().await?.into_iter();
    let mut summaries = Vec::new();
    for plan in plans.filter(|plan| only.is_none_or(|only| plan.key.job == only)) {
        let job = plan.key.job;
        let state = ports.reader.job(job).await?;
        let follower = followers.iter().find(|(id, _)| *id == job).map(|(_, follower)| follower);
        let head = follower.and_then(Follower::head);
        summaries.push(JobSummary {
            job,
            status: state.status(),
            deposit: state.deposit,
            paid: state.paid,
            accepted: follower.map(Follower::accepted).unwrap_or_default(),
            receipts: head.map_or(0, |head| head.seq.saturating_add(1)),
            refusal: follower.and_then(Follower::refusal).cloned(),
            plan,
        });
    }
    Ok(summaries)
}
