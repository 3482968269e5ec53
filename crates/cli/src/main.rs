//! The `roadstead` command: arguments in, tables or JSON out.
//!
//! Everything it does is a library call; this crate reads arguments and draws. Standard output carries results alone,
//! everything else goes to standard error.

mod account;
mod agent;
mod arguments;
mod bill;
mod context;
mod control;
mod demo;
mod devnet;
mod failure;
mod file;
mod home;
mod image;
mod job;
mod jobs;
mod output;
mod paths;
mod prices;
mod provider;
mod providers;
mod publish;
mod publisher;
mod question;
mod resumed;
mod settings;
mod signals;
mod table;
mod withdraw;

use std::{ffi::OsString, process::ExitCode};

use tracing_subscriber::EnvFilter;

use arguments::Command;
use context::Context;
use settings::Misuse;

fn main() -> ExitCode {
    // A shim clones processes, so no thread may be there before it.
    if let Some(code) = roadstead_runtime::shim::answer() {
        return code;
    }
    let line: Vec<OsString> = std::env::args_os().collect();
    let (arguments, home) = match settings::read_arguments(&line) {
        Ok(read) => read,
        Err(misuse) => {
            let is_json = line.iter().any(|word| word == "--json");
            return match misuse {
                Misuse::Usage(error) => failure::print_usage(&error, is_json),
                Misuse::Other(error) => failure::print(&error, None, is_json),
            };
        }
    };
    start_log(arguments.log.as_deref());
    let context = Context::new(home, arguments.json);
    let result = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(arguments.command, &context)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::print(&error, context.known_market(), context.is_json()),
    }
}

async fn run(command: Command, context: &Context) -> anyhow::Result<()> {
    match command {
        Command::Demo(command) => demo::run(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Publish(command) => publish::run(*command, context).await,
        Command::Devnet(command) => devnet::run(command, context).await,
        Command::Provider(command) => provider::run(*command, context).await,
        Command::Jobs(command) => jobs::run(command, context).await,
        Command::Job(command) => job::run(command, context).await,
        Command::Bill(command) => bill::run(command, context).await,
        Command::Withdraw(command) => withdraw::run(command, context).await,
        Command::Providers(command) => providers::run(command, context).await,
        Command::Image(command) => image::run(command, context).await,
        Command::Paths(command) => paths::run(&command, context),
    }
}

fn start_log(filter: Option<&str>) {
    let filter = filter.map_or_else(EnvFilter::default, EnvFilter::new);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
