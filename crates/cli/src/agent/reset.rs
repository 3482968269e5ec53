//! `roadstead agent reset`: forgets every job of the publisher.

use anyhow::Context as _;
use roadstead_journal::Journal;
use serde::Serialize;

use crate::{arguments, context::Context, home::Role, question::confirm};

#[derive(Serialize)]
struct Forgotten {
    /// The roles that had a journal.
    journals: Vec<&'static str>,
}

/// Removes the journals of publisher and agent.
pub(super) fn run(command: &arguments::Reset, context: &Context) -> anyhow::Result<()> {
    let roles = [Role::Publisher, Role::Agent];
    let folders = [context.home.lock(Role::Publisher)?, context.home.lock(Role::Agent)?];
    if !command.yes {
        confirm(
            "This forgets every job of the publisher in this home folder: their plans, receipts and vouchers. Jobs \
             that still live cannot be followed or closed from here any more. Keys and blocks are kept.",
        )?;
    }
    let mut journals = Vec::new();
    for (role, folder) in roles.into_iter().zip(&folders) {
        let removed = Journal::remove(folder);
        if removed.with_context(|| format!("the journal of the {} stays", role.name()))? {
            journals.push(role.name());
        }
    }
    context.print(&Forgotten { journals }, || "Every job is forgotten. Keys and blocks are kept.")
}
