//! How the command fails: what happened, why, and what to do next.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use roadstead_core::ports::{ChainError, EngineError};
use roadstead_devnet::{
    AnvilError, ChainStartError, MarketStartError,
    demo::{DemoError, WorkloadError},
};
use roadstead_types::{ManifestError, Problem};
use rustix::process::geteuid;

/// Exit status of a command that the user interrupted, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The most that one error may say, in characters: causes come from nodes and contracts as well.
const MAX_LENGTH: usize = 2_000;

/// Prints an error with all its causes and a hint, and gives the exit status.
pub(crate) fn print(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {}\n", with_causes(error.as_ref()));
    for problem in error.chain().find_map(mistakes).unwrap_or_default() {
        text.push_str(&format!("  {}\n", plain(&problem.to_string())));
    }
    if let Some(hint) = error.downcast_ref().and_then(hint) {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    // There is nobody to tell that standard error is gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    match error.downcast_ref() {
        Some(DemoError::Interrupted { .. } | DemoError::Abandoned) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    }
}

/// An error and its causes on one line. A cause that the text before it ends with is not repeated, and nothing in it
/// can move the cursor of a terminal.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next.filter(|cause| mistakes(*cause).is_none()) {
        let shown = cause.to_string();
        if !text.ends_with(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        next = cause.source();
    }
    plain(&text)
}

/// A text from elsewhere, bounded and without anything that moves the cursor of a terminal.
pub(crate) fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(plain).take(MAX_LENGTH).collect()
}

/// The mistakes in a manifest, which are a list and no sentence.
fn mistakes<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a [Problem]> {
    Some(&error.downcast_ref::<ManifestError>()?.problems)
}

fn hint(error: &DemoError) -> Option<&'static str> {
    match error {
        DemoError::Chain(ChainStartError::Anvil(AnvilError::Missing)) => {
            Some("`script/setup` installs it; or leave out `--chain anvil`")
        }
        DemoError::Market(MarketStartError::Chain(ChainError::Rpc { .. })) => {
            Some("is there a development chain at that address? `anvil` starts one")
        }
        DemoError::Engine(EngineError::Unusable { .. }) if !geteuid().is_root() => {
            Some("containers need root on Linux: run it with sudo")
        }
        DemoError::Workload(WorkloadError::NoPort { .. }) | DemoError::NoPort => {
            Some("name the port in a workload manifest and give that by `--workload`")
        }
        DemoError::Workload(WorkloadError::Manifest { .. }) => {
            Some("docs/workload.md describes every field")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_each_other_and_are_not_repeated() {
        let cause = anyhow::anyhow!("the disk is full");
        let error = cause.context("cannot write: the disk is full").context("cannot start");
        let shown = with_causes(error.as_ref());
        assert_eq!(shown, "cannot start: cannot write: the disk is full");
    }

    #[test]
    fn a_hostile_cause_is_cut_and_cannot_clear_the_screen() {
        let hostile = format!("\u{1b}[2J{}", "x".repeat(1_000_000));
        let shown = with_causes(anyhow::anyhow!(hostile).as_ref());
        assert!(shown.starts_with("\u{fffd}[2Jxxx"));
        assert_eq!(shown.chars().count(), MAX_LENGTH);
    }
}
