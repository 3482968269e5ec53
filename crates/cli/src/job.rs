//! `roadstead job`: one job of the publisher.

mod close;
mod facts;
mod find;
mod show;
mod topup;

use crate::{arguments, arguments::JobCommand, context::Context};

pub(crate) use close::NotThePublisher;
pub(crate) use facts::{AgentState, Facts, status};
pub(crate) use find::{JobUnknown, find_id};

pub(crate) async fn run(command: arguments::Job, context: &Context) -> anyhow::Result<()> {
    match command.command {
        JobCommand::Show(command) => show::run(&command, context).await,
        JobCommand::Topup(command) => topup::run(&command, context).await,
        JobCommand::Close(command) => close::run(&command, context).await,
    }
}
