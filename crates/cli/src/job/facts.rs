//! What is known of a job, in one piece: from the journal, the chain and its provider.

use std::{collections::BTreeMap, fmt};

use alloy_primitives::Address;
use roadstead_core::protocol::JobPhase;
use roadstead_types::{JobId, JobStatus, TokenAmount};
use serde::Serialize;

use crate::{
    agent::{Door, FollowedJob},
    failure::plain,
};

/// Who accepts the bills, and whether anybody does now.
#[derive(Debug, Serialize)]
pub(crate) struct AgentState {
    signer: Address,
    is_running: bool,
}

impl AgentState {
    pub(crate) const fn of(door: &Door) -> Self {
        Self { signer: door.about().signer, is_running: matches!(door, Door::Running { .. }) }
    }

    /// What follows where nobody does.
    pub(crate) const fn note(&self) -> Option<&'static str> {
        if self.is_running {
            return None;
        }
        Some("No agent runs, so phases are not known and bills wait: `roadstead agent` starts it.")
    }
}

/// A job as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Facts {
    pub(crate) job: JobId,
    pub(crate) provider: Address,
    pub(crate) status: JobStatus,
    #[serde(flatten)]
    pub(crate) phase: KnownPhase,
    pub(crate) urls: BTreeMap<u16, String>,
    pub(crate) deposit: TokenAmount,
    pub(crate) paid: TokenAmount,
    pub(crate) accepted: TokenAmount,
    pub(crate) receipts: u32,
}

impl From<FollowedJob> for Facts {
    fn from(FollowedJob { summary, live }: FollowedJob) -> Self {
        let live = live.unwrap_or_default();
        Self {
            job: summary.job,
            provider: summary.plan.terms.provider,
            status: summary.status,
            phase: live.phase.into(),
            urls: live.urls,
            deposit: summary.deposit,
            paid: summary.paid,
            accepted: summary.accepted,
            receipts: summary.receipts,
        }
    }
}

/// Where the provider says that a job stands, if it said so: `"phase": null` otherwise.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum KnownPhase {
    Known(JobPhase),
    Unknown { phase: () },
}

impl From<Option<JobPhase>> for KnownPhase {
    fn from(phase: Option<JobPhase>) -> Self {
        phase.map_or(Self::Unknown { phase: () }, Self::Known)
    }
}

impl fmt::Display for KnownPhase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(phase) => formatter.write_str(&plain(&phase.to_string())),
            Self::Unknown { .. } => formatter.write_str("not known"),
        }
    }
}

/// Where a job stands on chain, in words.
pub(crate) const fn status(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Absent => "not opened",
        JobStatus::Open => "open",
        JobStatus::Closing => "notice runs",
        JobStatus::Closed => "closed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_is_one_word_and_null_where_nobody_knows() {
        #[derive(Serialize)]
        struct Only {
            #[serde(flatten)]
            phase: KnownPhase,
        }
        let form = |phase| serde_json::to_value(Only { phase: KnownPhase::from(phase) }).unwrap();
        assert_eq!(form(None), json!({ "phase": null }));
        assert_eq!(form(Some(JobPhase::Running)), json!({ "phase": "running" }));
        let fetching = JobPhase::Fetching { done: 1, total: None };
        assert_eq!(form(Some(fetching)), json!({ "phase": "fetching", "done": 1, "total": null }));
    }

    #[test]
    fn what_a_provider_says_cannot_clear_the_screen() {
        let phase = JobPhase::Refused { reason: "\u{1b}[2J".into() };
        let shown = KnownPhase::from(Some(phase)).to_string();
        assert_eq!(shown, "refused: \u{fffd}[2J");
    }
}
