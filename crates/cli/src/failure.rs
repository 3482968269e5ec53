//! How the command fails: what happened, why, and what to do next.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use roadstead_core::ports::ChainError;
use roadstead_devnet::{AnvilError, ChainStartError, demo::DemoError};

/// Exit status of a command that the user interrupted, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Prints an error with all its causes and a hint, and gives the exit status.
pub(crate) fn print(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {}\n", with_causes(error.as_ref()));
    if let Some(hint) = error.chain().find_map(hint) {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    // There is nobody to tell that standard error is gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    match error.downcast_ref::<DemoError>() {
        Some(DemoError::Interrupted { .. }) => ExitCode::from(INTERRUPTED),
        _ => ExitCode::FAILURE,
    }
}

/// An error and its causes on one line. A cause that the text before it ends with is not repeated.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let shown = cause.to_string();
        if !text.ends_with(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        next = cause.source();
    }
    text
}

fn hint(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(DemoError::Chain(ChainStartError::Anvil(AnvilError::Missing))) =
        error.downcast_ref()
    {
        return Some("`script/setup` installs it; or leave out `--chain anvil`");
    }
    match error.downcast_ref()? {
        ChainError::Rpc { .. } => {
            Some("is there a development chain at that address? `anvil` starts one")
        }
        _ => None,
    }
}
