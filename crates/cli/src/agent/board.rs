//! What a running agent has heard of each job. Nothing of it is durable: after a start it is heard again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roadstead_publisher::AgentEvent;
use roadstead_types::JobId;
use tokio::sync::watch;

use super::protocol::Live;
use crate::failure::{plain, with_causes};

/// What was heard, by job.
#[derive(Debug, Default)]
pub(super) struct Board {
    jobs: Mutex<BTreeMap<JobId, watch::Sender<Live>>>,
}

impl Board {
    pub(super) fn hear(&self, event: &AgentEvent) {
        match event {
            AgentEvent::Following { job } => self.change(*job, |live| live.is_over = false),
            AgentEvent::Connected { job } => self.change(*job, |live| live.trouble = None),
            AgentEvent::State { job, state } => self.change(*job, |live| {
                live.phase = Some(state.phase.clone());
                live.urls = state.urls.clone();
                live.note = state.note.as_deref().map(plain);
                live.trouble = None;
            }),
            AgentEvent::Accepted { job, receipt, accepted }
            | AgentEvent::MadeUp { job, receipt, accepted } => self.change(*job, |live| {
                live.accepted = *accepted;
                live.receipts = receipt.seq.saturating_add(1);
            }),
            AgentEvent::Lost { job, error } => {
                self.change(*job, |live| live.trouble = Some(with_causes(error)));
            }
            AgentEvent::Finished { job, .. } => self.change(*job, |live| live.is_over = true),
            AgentEvent::Ignored { .. }
            | AgentEvent::Refused { .. }
            | AgentEvent::Equivocation { .. }
            | AgentEvent::Restored { .. }
            | AgentEvent::ChainLost { .. }
            | AgentEvent::ChainBack => {}
        }
    }

    /// What was heard of a job, if anything was.
    pub(super) fn live(&self, job: JobId) -> Option<Live> {
        let live = self.jobs().get(&job)?.borrow().clone();
        (live != Live::default()).then_some(live)
    }

    /// What is heard of a job from now on.
    pub(super) fn watch(&self, job: JobId) -> watch::Receiver<Live> {
        self.jobs().entry(job).or_default().subscribe()
    }

    fn change(&self, job: JobId, change: impl FnOnce(&mut Live)) {
        self.jobs().entry(job).or_default().send_modify(change);
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, watch::Sender<Live>>> {
        // A panic elsewhere leaves the map whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
