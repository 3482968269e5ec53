//! Questions before something that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

/// What was asked about is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotConfirmed {
    #[error("there is no terminal to ask at")]
    NoTerminal,
    #[error("nothing was done")]
    Refused,
    #[error("the answer cannot be read")]
    Unreadable(#[source] io::Error),
}

/// Says what will happen, and waits for a yes.
pub(crate) fn confirm(what: &str) -> Result<(), NotConfirmed> {
    if !io::stdin().is_terminal() {
        return Err(NotConfirmed::NoTerminal);
    }
    let mut error = io::stderr().lock();
    // There is nobody to tell that standard error is gone; without an answer nothing is done.
    let _ = write!(error, "{what}\nGo on? [y/N] ");
    let _ = error.flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(NotConfirmed::Unreadable)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(NotConfirmed::Refused),
    }
}
