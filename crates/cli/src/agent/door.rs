//! How a command reaches the agent: over its socket where it runs, else by doing what it would do itself.

use std::path::PathBuf;

use alloy_primitives::Address;
use roadstead_journal::StateFolder;
use roadstead_publisher::{AgentKeys, VerifiedBill, wire_agent};
use roadstead_types::{JobId, JobPlan, Market};

use super::{
    desk::Desk,
    protocol::{About, FollowedJob, Live, Request},
};
use crate::{
    context::Context,
    control::{self, Asked},
    home::Role,
};

/// The running agent belongs to another market.
#[derive(Debug, thiserror::Error)]
#[error(
    "the agent that runs (process {pid}) is one for chain {chain} and contract {contract}, the market file says {expected_chain} \
     and {expected_contract}"
)]
pub(crate) struct AnotherMarket {
    pid: u32,
    chain: u64,
    contract: Address,
    expected_chain: u64,
    expected_contract: Address,
}

/// The agent of a home folder.
#[derive(Debug)]
pub(crate) enum Door {
    /// Another process is the agent.
    Running { folder: PathBuf, about: About },
    /// Nobody is. The folder belongs to this process meanwhile.
    Here { desk: Box<Desk>, folder: StateFolder },
}

impl Door {
    /// Finds the agent. `source` is what it tells of its blocks where it is here.
    pub(crate) async fn find(
        context: &Context,
        market: &Market,
        source: &str,
    ) -> anyhow::Result<Self> {
        if let Some(running) = Self::running(context, market).await? {
            return Ok(running);
        }
        let folder = context.home.lock(Role::Agent)?;
        let keys = AgentKeys::load_or_create(&folder)?;
        let ports = wire_agent(market.clone(), &folder, &keys).await?;
        Ok(Self::Here { desk: Box::new(Desk::new(ports, source.to_owned())), folder })
    }

    /// The agent, where another process or another part of this one is it.
    pub(crate) async fn running(
        context: &Context,
        market: &Market,
    ) -> anyhow::Result<Option<Self>> {
        let folder = context.home.role_path(Role::Agent);
        let Some(asked) = control::ask(&folder, &Request::About).await? else { return Ok(None) };
        let about: About = asked.only().await?;
        let (chain, contract) = (market.chain_id, market.contracts.payment);
        if (about.chain, about.contract) != (chain, contract) {
            return Err(AnotherMarket {
                pid: about.pid,
                chain: about.chain,
                contract: about.contract,
                expected_chain: chain,
                expected_contract: contract,
            }
            .into());
        }
        Ok(Some(Self::Running { folder, about }))
    }

    pub(crate) const fn about(&self) -> &About {
        match self {
            Self::Running { about, .. } => about,
            Self::Here { desk, .. } => &desk.about,
        }
    }

    /// Makes the agent follow a job. Its plan is durable when this returns.
    pub(crate) async fn adopt(&self, plan: &JobPlan) -> anyhow::Result<()> {
        match self {
            Self::Running { folder, .. } => {
                let request = Request::Adopt(Box::new(plan.clone()));
                Ok(ask(folder, &request).await?.only().await?)
            }
            Self::Here { desk, .. } => Ok(desk.adopt(plan).await?),
        }
    }

    /// The jobs that it looks after, or the one.
    pub(crate) async fn jobs(&self, only: Option<JobId>) -> anyhow::Result<Vec<FollowedJob>> {
        match self {
            Self::Running { folder, .. } => {
                Ok(ask(folder, &Request::Jobs { only }).await?.only().await?)
            }
            Self::Here { desk, .. } => Ok(desk.jobs(only).await?),
        }
    }

    /// Recomputes the bill of a job.
    pub(crate) async fn verify(&self, job: JobId) -> anyhow::Result<VerifiedBill> {
        match self {
            Self::Running { folder, .. } => {
                Ok(ask(folder, &Request::Verify(job)).await?.only().await?)
            }
            Self::Here { desk, .. } => Ok(desk.verify(job).await?),
        }
    }
}

/// What the agent that runs hears of a job.
pub(crate) struct Watching(Asked);

impl Watching {
    pub(crate) async fn start(door: &Door, job: JobId) -> anyhow::Result<Self> {
        let folder = match door {
            Door::Running { folder, .. } => folder.as_path(),
            Door::Here { folder, .. } => folder.path(),
        };
        Ok(Self(ask(folder, &Request::Watch(job)).await?))
    }

    /// What is known now, and then whenever something changes. `None` when the agent ends.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Live>> {
        Ok(self.0.next().await?)
    }
}

async fn ask(folder: &std::path::Path, request: &Request) -> anyhow::Result<Asked> {
    let asked = control::ask(folder, request).await?;
    Ok(asked.ok_or(control::ControlError::Ended)?)
}
