//! The `roadstead` command: arguments in, tables or JSON out.
//!
//! Everything it does is a library call; this crate reads arguments and draws. Standard output carries results alone,
//! everything else goes to standard error.

mod arguments;
mod demo;
mod failure;
mod output;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    // A shim clones processes, so no thread may be there before it.
    if let Some(code) = roadstead_runtime::shim::answer() {
        return code;
    }
    let arguments = Arguments::parse();
    start_log(arguments.log.as_deref());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failure::print(&error.into()),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Demo(command) => demo::run(command, arguments.home).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::print(&error),
    }
}

fn start_log(filter: Option<&str>) {
    let filter = filter.map_or_else(EnvFilter::default, EnvFilter::new);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
