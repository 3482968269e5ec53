//! Where text goes: results to standard output, everything else to standard error.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Prints a result for people.
pub(crate) fn print(text: impl std::fmt::Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a result for programs: one object on one line.
pub(crate) fn print_json(result: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(serde_json::to_string(result)?)?)
}

/// Lines on standard error and, on a terminal, one moving line below them that says what is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        if !io::stderr().is_terminal() {
            return Self { bar: None };
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    /// Says what is waited for.
    pub(crate) fn wait_for(&self, what: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.into());
        }
    }

    /// Says what happened.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // There is nobody to tell that standard error is gone.
            None => drop(writeln!(io::stderr().lock(), "{}", text.as_ref())),
        }
    }

    /// Likewise, where there is something to say.
    pub(crate) fn line_of(&self, text: Option<String>) {
        if let Some(text) = text {
            self.line(text);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
