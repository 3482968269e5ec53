//! Answers what commands ask, from the agent's journal, the chain, and what was heard.

use std::sync::Arc;

use roadstead_publisher::{
    AdoptError, AgentPorts, SummaryError, VerifiedBill, VerifyError, adopt, job_summaries,
    verify_job,
};
use roadstead_types::{JobId, JobPlan};

use super::{
    board::Board,
    protocol::{About, FollowedJob, Request},
};
use crate::control::Replies;

/// The desk of an agent, whether it runs or not.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(super) ports: AgentPorts,
    pub(super) about: About,
    pub(super) board: Arc<Board>,
}

impl Desk {
    pub(super) fn new(ports: AgentPorts, source: String) -> Self {
        let about = About {
            signer: ports.signer.address(),
            chain: ports.domain.chain,
            contract: ports.domain.contract,
            source,
            pid: std::process::id(),
        };
        Self { ports, about, board: Arc::default() }
    }

    pub(super) async fn adopt(&self, plan: &JobPlan) -> Result<(), AdoptError> {
        adopt(&self.ports.journal, &self.ports.domain, plan).await
    }

    pub(super) async fn jobs(&self, only: Option<JobId>) -> Result<Vec<FollowedJob>, SummaryError> {
        let summaries = job_summaries(&self.ports, only).await?.into_iter();
        let followed =
            summaries.map(|summary| FollowedJob { live: self.board.live(summary.job), summary });
        Ok(followed.collect())
    }

    pub(super) async fn verify(&self, job: JobId) -> Result<VerifiedBill, VerifyError> {
        verify_job(&self.ports, job).await
    }

    /// Answers over the control socket.
    pub(super) async fn answer(&self, request: Request, to: Replies) {
        match request {
            Request::About => to.send(&self.about).await,
            Request::Adopt(plan) => match self.adopt(&plan).await {
                Ok(()) => to.send(&()).await,
                Err(error) => to.refuse(&error).await,
            },
            Request::Jobs { only } => match self.jobs(only).await {
                Ok(jobs) => to.send(&jobs).await,
                Err(error) => to.refuse(&error).await,
            },
            Request::Verify(job) => match self.verify(job).await {
                Ok(bill) => to.send(&bill).await,
                Err(error) => to.refuse(&error).await,
            },
            Request::Watch(job) => {
                let mut live = self.board.watch(job);
                loop {
                    let now = live.borrow_and_update().clone();
                    to.send(&now).await;
                    // Cancel-safe: what changed is read above.
                    tokio::select! {
                        changed = live.changed() => if changed.is_err() { return },
                        () = to.closed() => return,
                    }
                }
            }
        }
    }
}
