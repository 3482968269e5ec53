//! `roadstead agent reset`: forgets every job of the publisher.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

use crate::{arguments, context::Context, home::Role, question::confirm};

/// The files of a journal.
const JOURNAL: &str = "journal.sqlite";

#[derive(Serialize)]
struct Forgotten {
    removed: Vec<String>,
}

/// Removes the journals of publisher and agent.
pub(super) fn run(command: &arguments::Reset, context: &Context) -> anyhow::Result<()> {
    let folders = [context.home.lock(Role::Publisher)?, context.home.lock(Role::Agent)?];
    if !command.yes {
        confirm(
            "This forgets every job of the publisher in this home folder: their plans, receipts and vouchers. Jobs \
             that still live cannot be followed or closed from here any more. Keys and blocks are kept.",
        )?;
    }
    let mut removed = Vec::new();
    for folder in &folders {
        for entry in fs::read_dir(folder.path()).context("a folder cannot be read")? {
            let path = entry.context("a folder cannot be read")?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(JOURNAL) {
                let failed = || format!("cannot remove {}", path.display());
                fs::remove_file(&path).with_context(failed)?;
                removed.push(path.display().to_string());
            }
        }
    }
    context.print(&Forgotten { removed }, || "Every job is forgotten. Keys and blocks are kept.")
}
