//! How the command fails: what happened, why, and what to do next.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use roadstead_devnet::{AnvilError, demo::DemoError};

/// Exit status of a command that the user interrupted, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Prints an error with all its causes and a hint, and gives the exit status.
pub(crate) fn print(error: &anyhow::Error) -> ExitCode {
    let mut text = format!("error: {error:#}\n");
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

fn hint(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if let Some(AnvilError::Missing) = error.downcast_ref() {
        return Some("`script/setup` installs it; or leave out `--chain anvil`");
    }
    None
}
