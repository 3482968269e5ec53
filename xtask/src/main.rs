//! Chores behind the doors in `script/`.
//!
//! `abi` writes the artefacts in `abi/` from the sources in `contracts/` or checks that they agree,
//! `leftovers` looks for what a test run left on the machine, `bench` runs a benchmark. Which
//! crate may use which is a test of this package.

mod abi;
mod bench;
#[cfg(test)]
mod floors;
mod leftovers;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Chores of the Roadstead workspace; script/test, script/bench and script/deep call them.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Compile the contracts and write abi/.
    Abi {
        /// Write nothing; fail if a committed artefact differs from its sources.
        #[arg(long)]
        check: bool,
    },
    /// Fail if a test run left containers, mounts, control groups, network namespaces or processes.
    Leftovers {
        /// The run's ROADSTEAD_TEST_RUN.
        #[arg(long)]
        run: String,
        /// What was there before the run: written by --remember, and not counted.
        #[arg(long, value_name = "FILE")]
        before: Option<PathBuf>,
        /// Only write what is there now to the file of --before.
        #[arg(long, requires = "before")]
        remember: bool,
    },
    /// Run a benchmark; without a name, list them.
    Bench {
        /// Which one.
        name: Option<String>,
        /// Print one JSON object as the last line.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> Result<String> {
    let root = root()?;
    match chore {
        Chore::Abi { check: false } => abi::write(&root),
        Chore::Abi { check: true } => abi::check(&root),
        Chore::Leftovers { run, before, remember } => match before {
            Some(file) if remember => leftovers::remember(&file),
            before => leftovers::check(&run, before.as_deref()),
        },
        Chore::Bench { name, json } => bench::run(&root, name.as_deref(), json),
    }
}

/// The top of the checkout this program was built in.
fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().with_context(|| format!("the checkout {} is gone", root.display()))
}

#[expect(clippy::print_stdout, reason = "the report of a chore is its output")]
fn print(report: &str) {
    println!("{}", report.trim_end());
}

#[expect(clippy::print_stderr, reason = "the one place that reports an error")]
fn print_error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
