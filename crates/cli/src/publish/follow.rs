//! Waiting until a job answers, as its agent hears of it.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use roadstead_core::protocol::JobPhase;
use roadstead_devnet::demo::call;
use roadstead_types::JobId;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    agent::{Door, Live, Watching},
    failure::{plain, with_causes},
    output::Progress,
};

/// How long the first answer of the service is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is said what is waited for.
const REMINDER: Duration = Duration::from_secs(30);

/// Why there is nothing to call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the provider refuses job {job}: {reason}")]
    Refused { job: JobId, reason: String },
    #[error("job {job} is over")]
    Over { job: JobId },
    #[error("the agent ended, and nobody hears of job {job} any more")]
    NoAgent { job: JobId },
}

/// A job that runs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answering {
    /// Where each of its ports can be called.
    pub(super) urls: BTreeMap<u16, String>,
    /// What its lowest port answered to an HTTP request; `None` where it has none, or speaks something else.
    pub(super) http_status: Option<u16>,
}

/// Waits until the job runs and its lowest port, if it has any, answers.
pub(super) async fn until_it_answers(
    door: &Door,
    job: JobId,
    has_ports: bool,
    progress: &Progress,
) -> anyhow::Result<Answering> {
    progress.line("Waiting for the provider to see the job.");
    progress.wait_for("the provider is to see the job");
    let no_agent = |_| NoAnswer::NoAgent { job };
    let mut watching = Watching::start(door, job).await.map_err(no_agent)?;
    let mut told = Told::default();
    let mut running_since = None;
    loop {
        let live = next(&mut watching, job, &told, progress).await?;
        told.tell(&live, progress);
        let Live { phase, urls, .. } = &live;
        match phase {
            Some(JobPhase::Running) => {
                let since = *running_since.get_or_insert_with(Instant::now);
                // The container may have ended before its ports could be called.
                if !has_ports || !urls.is_empty() || since.elapsed() >= PATIENCE {
                    return Ok(answer(urls.clone(), has_ports, progress).await);
                }
            }
            Some(JobPhase::Refused { reason }) => {
                return Err(NoAnswer::Refused { job, reason: plain(reason) }.into());
            }
            Some(JobPhase::Closed | JobPhase::Draining) => {
                return Err(NoAnswer::Over { job }.into());
            }
            _ if live.is_over => return Err(NoAnswer::Over { job }.into()),
            _ => {}
        }
    }
}

/// The next thing that is heard. Now and then it is said what is waited for.
async fn next(
    watching: &mut Watching,
    job: JobId,
    told: &Told,
    progress: &Progress,
) -> Result<Live, NoAnswer> {
    let no_agent = || NoAnswer::NoAgent { job };
    let mut next = pin!(watching.next());
    loop {
        // Cancel-safe: the question stays, and only the clock is started anew.
        tokio::select! {
            live = &mut next => return live.ok().flatten().ok_or_else(no_agent),
            () = sleep(REMINDER) => progress.line(format!(
                "Still waiting: {}. Ctrl-C leaves the job as it is; `roadstead job close {job}` ends it.",
                told.last()
            )),
        }
    }
}

/// What the user was told already.
#[derive(Default)]
struct Told {
    step: Option<&'static str>,
    note: Option<String>,
    trouble: Option<String>,
}

impl Told {
    fn tell(&mut self, live: &Live, progress: &Progress) {
        if self.trouble != live.trouble {
            self.trouble.clone_from(&live.trouble);
            if let Some(trouble) = &self.trouble {
                progress.line(format!("The provider does not answer: {trouble}"));
            }
        }
        let step = live.phase.as_ref().map(step);
        if step != self.step {
            self.step = step;
            if let Some(step) = step {
                progress.line(step);
            }
        }
        if self.note != live.note {
            self.note.clone_from(&live.note);
            if let Some(note) = &self.note {
                progress.line(format!("The provider says: {note}"));
            }
        }
        if let Some(phase) = &live.phase {
            progress.wait_for(format!("the provider says: {}", plain(&phase.to_string())));
        }
    }

    /// What is waited for.
    fn last(&self) -> &str {
        let heard = self.trouble.as_deref().or(self.note.as_deref()).or(self.step);
        heard.unwrap_or("the provider is to see the job").trim_end_matches('.')
    }
}

/// What a phase means, as far as it is told once.
const fn step(phase: &JobPhase) -> &'static str {
    match phase {
        JobPhase::Seen => "The provider saw the job.",
        JobPhase::Fetching { .. } => "The provider fetches the image.",
        JobPhase::Starting => "The provider starts the container.",
        JobPhase::Running => "The container runs.",
        JobPhase::Paused => "The provider froze the container.",
        JobPhase::Refused { .. } | JobPhase::Draining | JobPhase::Closed => "The job is over.",
    }
}

async fn answer(urls: BTreeMap<u16, String>, has_ports: bool, progress: &Progress) -> Answering {
    let Some(url) = urls.values().next() else {
        if has_ports {
            progress.line("The provider names no address at which it could be called.");
        }
        return Answering::default();
    };
    progress.wait_for(format!("waiting for the first answer of {}", plain(url)));
    let http_status = match timeout(PATIENCE, call(url)).await {
        Ok(Ok(answer)) => {
            progress.line(format!("{} answered HTTP {}", plain(url), answer.status));
            Some(answer.status)
        }
        Ok(Err(error)) => {
            progress.line(format!("It does not answer to HTTP: {}", with_causes(&error)));
            None
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            progress.line(format!("It has not answered to HTTP within {seconds} s."));
            None
        }
    };
    Answering { urls, http_status }
}
