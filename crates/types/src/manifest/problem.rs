//! Problems of a manifest, collected while it is read and told in the order of the document.

use std::fmt;

/// The most problems that are told one by one.
const MAX_TOLD: usize = 100;

/// The most characters of a name or a value that a problem repeats.
const MAX_SHOWN: usize = 40;

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `containers[0].ports[1]`; empty for the document as a whole.
    pub path: String,
    /// What, as the rest of a sentence about that place.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => formatter.write_str(&self.what),
            path => write!(formatter, "{path}: {}", self.what),
        }
    }
}

/// Why a text is not a manifest: every problem, one a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// At least one, in the order of the document.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(formatter, "{end}{problem}")?;
        }
        Ok(())
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<(usize, Problem)>,
    untold: usize,
}

impl Problems {
    /// Notes a problem of the place `path`, which begins at the character `at` of the document.
    pub(super) fn add(&mut self, at: usize, path: &str, what: impl Into<String>) {
        if self.found.len() < MAX_TOLD {
            self.found.push((at, Problem { path: path.to_owned(), what: what.into() }));
        } else {
            self.untold += 1;
        }
    }

    /// An error where anything was found.
    pub(super) fn into_result(mut self) -> Result<(), ManifestError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|(at, _)| *at);
        let mut problems: Vec<_> = self.found.into_iter().map(|(_, problem)| problem).collect();
        if self.untold > 0 {
            let what = format!("and {} more problems", self.untold);
            problems.push(Problem { path: String::new(), what });
        }
        Err(ManifestError { problems })
    }
}

/// A name or value of a document, so that it can stand in a message: not long, and nothing in it that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The path of a field of the mapping at `path`.
pub(super) fn field(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.chars().all(|one| one.is_ascii_alphanumeric() || matches!(one, '_' | '-'));
    match (plain, path) {
        (true, "") => shown(name),
        (true, path) => format!("{path}.{}", shown(name)),
        // What follows the sign may be the value of a variable, and that a secret.
        (false, path) => match name.split_once('=') {
            Some((name, _)) => format!("{path}[\"{}=…\"]", shown(name)),
            None => format!("{path}[\"{}\"]", shown(name)),
        },
    }
}

/// The path of an element of the list at `path`.
pub(super) fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
