//! Waiting until a job answers, as its agent hears of it.

use std::{collections::BTreeMap, time::Duration};

use roadstead_core::protocol::JobPhase;
use roadstead_devnet::demo::call;
use roadstead_types::JobId;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    agent::{Door, Live, Watching},
    failure::{plain, with_causes},
    output::Progress,
};

/// How long the first answer of the service is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

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

/// Waits until the job runs and its lowest port answers.
pub(super) async fn until_it_answers(
    door: &Door,
    job: JobId,
    progress: &Progress,
) -> anyhow::Result<Answering> {
    progress.line("Waiting for the provider to see the job.");
    progress.wait_for("the provider is to see the job");
    let mut watching = Watching::start(door, job).await?;
    let (mut said, mut trouble) = (None, None);
    loop {
        let live = watching.next().await?.ok_or(NoAnswer::NoAgent { job })?;
        let Live { phase, urls, .. } = &live;
        if trouble != live.trouble {
            trouble.clone_from(&live.trouble);
            if let Some(trouble) = &trouble {
                progress.line(format!("Waiting for the provider: {trouble}"));
            }
        }
        match phase {
            Some(JobPhase::Running) => return Ok(answer(urls.clone(), progress).await),
            Some(JobPhase::Refused { reason }) => {
                return Err(NoAnswer::Refused { job, reason: plain(reason) }.into());
            }
            Some(JobPhase::Closed | JobPhase::Draining) => {
                return Err(NoAnswer::Over { job }.into());
            }
            _ if live.is_over => return Err(NoAnswer::Over { job }.into()),
            _ => {}
        }
        let step = phase.as_ref().map(step);
        if let Some(step) = step.filter(|step| said != Some(*step)) {
            progress.line(step);
            said = Some(step);
        }
        if let Some(phase) = phase {
            progress.wait_for(format!("the provider says: {}", plain(&phase.to_string())));
        }
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

async fn answer(urls: BTreeMap<u16, String>, progress: &Progress) -> Answering {
    progress.line("The container runs.");
    let Some(url) = urls.values().next() else { return Answering::default() };
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
