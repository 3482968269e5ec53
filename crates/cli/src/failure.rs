//! How the command fails: what happened, why, and what to do next.

mod hint;

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use roadstead_devnet::demo::DemoError;
use roadstead_types::{ManifestError, Market, Problem};
use serde::Serialize;

use crate::output;

/// Exit status of a command that the user interrupted, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// The most that one error may say, in characters: causes come from nodes and contracts as well.
const MAX_LENGTH: usize = 2_000;

/// An error as programs read it.
#[derive(Serialize)]
struct Report<'a> {
    error: Described<'a>,
}

#[derive(Serialize)]
struct Described<'a> {
    /// What happened and why.
    message: &'a str,
    /// All that is wrong with a document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// The user ended a command before its end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {what}")]
pub(crate) struct Interrupted {
    /// How things stand, and how to go on.
    pub(crate) what: String,
}

/// Prints an error with all its causes and a hint, and gives the exit status. `market` is the one that the command was
/// about, if it got so far.
pub(crate) fn print(error: &anyhow::Error, market: Option<&Market>, is_json: bool) -> ExitCode {
    let message = with_causes(error.as_ref());
    let problems = error.chain().find_map(mistakes).unwrap_or_default();
    let problems: Vec<_> = problems.iter().map(|problem| plain(&problem.to_string())).collect();
    let hint = hint::of(error, market);
    let mut text = format!("error: {message}\n");
    for problem in &problems {
        text.push_str(&format!("  {problem}\n"));
    }
    if let Some(hint) = &hint {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    // There is nobody to tell that standard error is gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    if is_json {
        let described = Described { message: &message, problems, hint: hint.as_deref() };
        // The exit status tells all the same.
        let _ = output::print_json(&Report { error: described });
    }
    if error.is::<Interrupted>() {
        return ExitCode::from(INTERRUPTED);
    }
    match error.downcast_ref() {
        Some(DemoError::Interrupted { .. } | DemoError::Abandoned) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    }
}

/// Prints what is wrong with a command line, or the help that it asks for, and gives the exit status.
pub(crate) fn print_usage(error: &clap::Error, is_json: bool) -> ExitCode {
    // There is nobody to tell that the output is gone.
    let _ = error.print();
    if is_json && error.use_stderr() {
        let text = error.to_string();
        // Clap lists what is missing below the first line, and its usage after an empty one.
        let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
        let message = plain(&lines.collect::<Vec<_>>().join(" "));
        let message = message.trim_start_matches("error: ");
        let described = Described { message, problems: Vec::new(), hint: None };
        let _ = output::print_json(&Report { error: described });
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
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
