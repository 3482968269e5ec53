//! What can be said on the command line. `settings` gives every flag its environment variable and its place in the file
//! of settings.

mod agent;
mod demo;
mod devnet;
mod image;
mod jobs;
mod provider;
mod publish;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use agent::{Adopt, Agent, AgentCommand, AgentOptions, Reset};
pub(crate) use demo::Demo;
pub(crate) use devnet::Devnet;
pub(crate) use image::{Image, ImageCommand, InspectImage, SealImage};
pub(crate) use jobs::{
    Bill, BillCommand, Close, Job, JobChoice, JobCommand, NamedJob, Topup, Withdraw,
};
pub(crate) use provider::{
    Offered, Provider, ProviderCommand, ProviderInit, ProviderRegister, ProviderReset, ProviderRun,
};
pub(crate) use publish::Publish;

/// A market for computing: anyone's machine can host anyone's containers.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// What to log to standard error, for example `info` or `roadstead_chain=debug`
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// Folder for everything that is kept [default: `roadstead` in the user's data folder]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,

    /// Print the result, or the error, as one JSON object on the last line of standard output; what --help and --version
    /// say stays plain text
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a whole market on this machine, from the wallet to the refund
    Demo(Demo),
    /// Run a local market until Ctrl-C: a chain, its contracts, funded accounts, a content store
    Devnet(Devnet),
    /// Host jobs on this machine
    Provider(Box<Provider>),
    /// Encrypt the images of a workload, open a job for it, and wait until it answers
    Publish(Box<Publish>),
    /// Follow the publisher's jobs and accept their bills, until Ctrl-C
    Agent(Agent),
    /// List the publisher's jobs
    Jobs(MarketFile),
    /// Show, top up or close one job
    Job(Job),
    /// Check what was paid
    Bill(Bill),
    /// Move what came back from closed jobs out of the escrow, into the wallet
    Withdraw(Withdraw),
    /// List who hosts jobs, and at what prices
    Providers(MarketFile),
    /// Encrypt an image ahead of time, or look at one
    Image(Image),
    /// Show where everything is
    Paths(MarketFile),
}

/// Which market.
#[derive(Clone, Debug, Args)]
pub(crate) struct MarketFile {
    /// The market file [default: the one of the local market in the home folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) market: Option<PathBuf>,
}

/// Whose wallet.
#[derive(Clone, Debug, Args)]
pub(crate) struct Account {
    /// A file with a private key: 64 hexadecimal digits
    #[arg(long, value_name = "FILE", conflicts_with = "keystore")]
    pub(crate) key_file: Option<PathBuf>,

    /// An Ethereum keystore: a JSON file that a password opens
    #[arg(long, value_name = "FILE")]
    pub(crate) keystore: Option<PathBuf>,

    /// A file with the keystore's password; without it the password is asked for
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
