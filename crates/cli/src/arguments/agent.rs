//! `roadstead agent`, and what else is about the publisher's agent.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::MarketFile;

/// What makes an agent.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentOptions {
    /// Where the publisher's blocks are served; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:47681", value_name = "ADDRESS")]
    pub(crate) gateway: SocketAddr,

    /// Where providers fetch the publisher's blocks: the base URL of an IPFS gateway [default: the gateway's address]
    #[arg(long, value_name = "URL")]
    pub(crate) source: Option<String>,

    /// The most that is accepted for one job, in whole tokens, whatever its deposit
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) limit_per_job: Option<String>,

    /// The most that is ever accepted for all jobs together, in whole tokens
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) limit: Option<String>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Agent {
    #[command(flatten)]
    pub(crate) market: MarketFile,

    #[command(flatten)]
    pub(crate) options: AgentOptions,

    #[command(subcommand)]
    pub(crate) command: Option<AgentCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Take over a job that was prepared elsewhere: follow it, and accept its bills
    Adopt(Adopt),
    /// Forget every job; keys and blocks are kept. The way out when a local market is gone
    Reset(Reset),
}

#[derive(Debug, Args)]
pub(crate) struct Adopt {
    /// The file that `publish --prepare` wrote
    #[arg(value_name = "FILE")]
    pub(crate) plan: PathBuf,

    #[command(flatten)]
    pub(crate) market: MarketFile,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
