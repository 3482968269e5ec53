//! What a running agent has heard of each job. Nothing of it is durable: after a start it is heard again.
//!
//! Much of it are words of providers, so what is kept of them is bounded, and no address but one of HTTP.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use roadstead_core::protocol::JobPhase;
use roadstead_publisher::AgentEvent;
use roadstead_types::JobId;
use tokio::sync::watch;
use url::Url;

use super::protocol::Live;
use crate::failure::{plain, with_causes};

/// The most addresses that are kept of one job.
const MAX_URLS: usize = 16;

/// The longest address that is kept, in bytes.
const MAX_URL: usize = 2 << 10;

/// The most that is kept of a reason or a note, in characters.
const MAX_WORDS: usize = 512;

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
                live.phase = Some(phase_of(&state.phase));
                live.urls = urls_of(&state.urls);
                live.note = state.note.as_deref().map(cut);
                live.trouble = None;
            }),
            AgentEvent::Accepted { job, receipt, accepted }
            | AgentEvent::MadeUp { job, receipt, accepted } => self.change(*job, |live| {
                live.accepted = *accepted;
                live.receipts = receipt.seq.saturating_add(1);
            }),
            AgentEvent::Lost { job, error } => {
                self.change(*job, |live| live.trouble = Some(cut(&with_causes(error))));
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

fn cut(words: &str) -> String {
    plain(words).chars().take(MAX_WORDS).collect()
}

fn phase_of(phase: &JobPhase) -> JobPhase {
    match phase {
        JobPhase::Refused { reason } => JobPhase::Refused { reason: cut(reason) },
        phase => phase.clone(),
    }
}

/// The addresses that a browser could open.
fn urls_of(told: &BTreeMap<u16, String>) -> BTreeMap<u16, String> {
    let is_usable = |url: &str| {
        let is_http = || {
            let parsed = Url::parse(url);
            parsed.is_ok_and(|parsed| matches!(parsed.scheme(), "http" | "https"))
        };
        url.len() <= MAX_URL && !url.chars().any(char::is_control) && is_http()
    };
    let usable = told.iter().filter(|(_, url)| is_usable(url)).take(MAX_URLS);
    usable.map(|(port, url)| (*port, url.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_provider_says_only_so_much_is_kept() {
        let long = "x".repeat(100_000);
        assert_eq!(cut(&long).chars().count(), MAX_WORDS);
        assert!(!cut("\u{1b}[2J").contains('\u{1b}'));
        let JobPhase::Refused { reason } = phase_of(&JobPhase::Refused { reason: long.clone() })
        else {
            panic!("it is still refused");
        };
        assert_eq!(reason.len(), MAX_WORDS);

        let told = [
            "http://127.0.0.1:8080/",
            "https://example.org",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "http://",
            "nowhere",
            "http://a/\u{1b}[2J",
            "http://a/\n",
            &format!("http://a/{long}"),
        ];
        let told = (0..).zip(told.map(str::to_owned)).collect();
        assert_eq!(urls_of(&told).into_keys().collect::<Vec<_>>(), [0, 1]);
        let many = (0..100).map(|port| (port, "http://a/".to_owned())).collect();
        assert_eq!(urls_of(&many).len(), MAX_URLS);
    }
}
