//! `roadstead jobs`, `job`, `bill` and `withdraw`: what became of the publisher's money.

use std::str::FromStr;

use clap::{Args, Subcommand};
use roadstead_types::JobId;

use super::{Account, MarketFile};

/// The fewest digits that stand for a job.
const MIN_DIGITS: usize = 6;

/// A text that names no job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a job is named by 0x and 64 hexadecimal digits, or by the first {MIN_DIGITS} of them at least"
)]
pub(crate) struct NoJob;

/// A job as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobChoice {
    /// By its id.
    Whole(JobId),
    /// By the first digits of its id, in lower case.
    Beginning(String),
}

impl JobChoice {
    /// Whether it stands for this job.
    pub(crate) fn names(&self, job: JobId) -> bool {
        match self {
            Self::Whole(id) => *id == job,
            Self::Beginning(digits) => format!("{:x}", job.0).starts_with(digits.as_str()),
        }
    }
}

impl FromStr for JobChoice {
    type Err = NoJob;

    fn from_str(text: &str) -> Result<Self, NoJob> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        if digits.len() < MIN_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NoJob);
        }
        match digits.len() {
            64 => digits.parse().map(Self::Whole).map_err(|_| NoJob),
            65.. => Err(NoJob),
            _ => Ok(Self::Beginning(digits.to_lowercase())),
        }
    }
}

impl std::fmt::Display for JobChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(id) => id.fmt(formatter),
            Self::Beginning(digits) => write!(formatter, "0x{digits}"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Job {
    #[command(subcommand)]
    pub(crate) command: JobCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Show all that is known of a job
    Show(NamedJob),
    /// Add to a job's deposit; each call adds once more
    Topup(Topup),
    /// End a job: its provider is ordered to, and given notice on chain where that does not do. Called again, it goes on
    /// from there
    Close(Close),
}

#[derive(Debug, Args)]
pub(crate) struct Bill {
    #[command(subcommand)]
    pub(crate) command: BillCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BillCommand {
    /// Recompute the bill of a job that is over from its receipts, and compare it with what was paid
    Verify(NamedJob),
}

/// Which job.
#[derive(Debug, Args)]
pub(crate) struct NamedJob {
    /// The job's id, or its beginning: at least 6 hexadecimal digits
    #[arg(value_name = "JOB")]
    pub(crate) job: JobChoice,

    #[command(flatten)]
    pub(crate) market: MarketFile,
}

#[derive(Debug, Args)]
pub(crate) struct Topup {
    #[command(flatten)]
    pub(crate) named: NamedJob,

    /// How much, in whole tokens
    #[arg(value_name = "AMOUNT")]
    pub(crate) amount: String,

    #[command(flatten)]
    pub(crate) account: Account,
}

#[derive(Debug, Args)]
pub(crate) struct Close {
    #[command(flatten)]
    pub(crate) named: NamedJob,

    #[command(flatten)]
    pub(crate) account: Account,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    #[command(flatten)]
    pub(crate) market: MarketFile,

    #[command(flatten)]
    pub(crate) account: Account,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_its_id_or_by_its_beginning() {
        let id: JobId = format!("0xABCDEF{}", "0".repeat(58)).parse().unwrap();
        let whole = id.to_string();
        let other: JobId = format!("0xabcdee{}", "0".repeat(58)).parse().unwrap();
        for text in [&whole, &whole[2..], &whole.to_uppercase()[2..], "0xabcdef", "ABCDEF0"] {
            let choice: JobChoice = text.parse().unwrap();
            assert!(choice.names(id) && !choice.names(other), "{text}");
            assert!(whole.starts_with(&choice.to_string()), "{choice}");
        }
        let long = format!("{whole}0");
        for text in ["", "0x", "abcde", "0xabcde", "abcdeg", "job", "0x0xabcdef", &long, "abcdé1"]
        {
            assert_eq!(text.parse::<JobChoice>(), Err(NoJob), "{text}");
        }
    }
}
