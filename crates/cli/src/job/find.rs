//! Which job a person means.

use std::fmt;

use roadstead_types::{JobId, Market};

use crate::{
    agent::{Door, FollowedJob},
    arguments::JobChoice,
    context::Context,
};

/// The most jobs that a message lists.
const MAX_LISTED: usize = 8;

/// A name that stands for no job, or for several.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobUnknown {
    #[error("the agent of this home folder knows no job {choice}; it knows {known}")]
    None { choice: JobChoice, known: List },
    #[error("{choice} is the beginning of several jobs: {candidates}")]
    Several { choice: JobChoice, candidates: List },
}

/// Jobs in a message.
#[derive(Debug)]
pub(crate) struct List(Vec<JobId>);

impl fmt::Display for List {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("none at all");
        }
        for (index, job) in self.0.iter().take(MAX_LISTED).enumerate() {
            write!(formatter, "{}{job}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// The job among those that the agent knows.
pub(super) async fn find(door: &Door, choice: &JobChoice) -> anyhow::Result<FollowedJob> {
    if let JobChoice::Whole(id) = choice
        && let Some(job) = door.jobs(Some(*id)).await?.pop()
    {
        return Ok(job);
    }
    Ok(only(door.jobs(None).await?, choice, |job| job.summary.job)?)
}

/// The id of the job. A whole id need not be known.
pub(crate) async fn find_id(
    context: &Context,
    market: &Market,
    choice: &JobChoice,
) -> anyhow::Result<JobId> {
    if let JobChoice::Whole(id) = choice {
        return Ok(*id);
    }
    let door = Door::find(context, market, "").await?;
    Ok(find(&door, choice).await?.summary.job)
}

/// The only one of `jobs` that `choice` stands for.
fn only<T>(jobs: Vec<T>, choice: &JobChoice, id: impl Fn(&T) -> JobId) -> Result<T, JobUnknown> {
    let known: Vec<_> = jobs.iter().map(&id).collect();
    let mut meant: Vec<_> = jobs.into_iter().filter(|job| choice.names(id(job))).collect();
    let choice = choice.clone();
    if meant.len() > 1 {
        let candidates = List(meant.iter().map(id).collect());
        return Err(JobUnknown::Several { choice, candidates });
    }
    meant.pop().ok_or(JobUnknown::None { choice, known: List(known) })
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;

    use super::*;

    fn found(jobs: &[JobId], choice: &str) -> Result<JobId, String> {
        only(jobs.to_vec(), &choice.parse().unwrap(), |job| *job).map_err(|error| error.to_string())
    }

    #[test]
    fn one_job_is_meant_or_the_candidates_are_listed() {
        let job = |last: u8| {
            let mut id = B256::repeat_byte(0xab);
            id.0[31] = last;
            JobId(id)
        };
        let (first, second) = (job(1), job(2));
        let other = JobId(B256::repeat_byte(0xac));
        let jobs = [first, second, other];
        assert_eq!(found(&jobs, "0xacacac"), Ok(other));
        assert_eq!(found(&jobs, &second.to_string()), Ok(second));
        let several = found(&jobs, "ababab").unwrap_err();
        assert!(several.contains(&format!("several jobs: {first}, {second}")), "{several}");
        assert!(!several.contains(&other.to_string()), "{several}");
        let none = found(&jobs, "123456").unwrap_err();
        assert!(none.contains("no job 0x123456; it knows"), "{none}");
        assert!(none.contains(&other.to_string()), "{none}");
        assert!(found(&[], "123456").unwrap_err().ends_with("it knows none at all"));
        let many: Vec<_> = (0..20).map(job).collect();
        assert!(found(&many, "123456").unwrap_err().ends_with(" and 12 more"));
    }
}
