//! What can be said on the command line. What is set once for many commands has an environment variable `ROADSTEAD_*`
//! beside its flag.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use roadstead_devnet::{ChainChoice, demo::WorkloadChoice};

/// A market for computing: anyone's machine can host anyone's containers.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// What to log to standard error, for example `info` or `roadstead_chain=debug`
    #[arg(long, env = "ROADSTEAD_LOG", global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// Folder for everything that is kept [default: `roadstead` in the user's data folder]
    #[arg(long, env = "ROADSTEAD_HOME", global = true, value_name = "FOLDER")]
    pub(crate) home: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play a whole market on this machine, from the wallet to the refund
    Demo(Demo),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The chain: `embedded`, `anvil`, or the http:// address of a development chain
    #[arg(long, env = "ROADSTEAD_CHAIN", default_value = "embedded", value_name = "CHAIN")]
    pub(crate) chain: ChainChoice,

    /// An OCI image to run: a layout folder or an archive. The smallest TCP port that it exposes is called
    #[arg(long, value_name = "PATH", conflicts_with = "workload")]
    pub(crate) image: Option<PathBuf>,

    /// A workload manifest to run. The smallest port of its container is called
    #[arg(long, value_name = "FILE")]
    pub(crate) workload: Option<PathBuf>,

    /// Print the result as one JSON object on the last line of standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Keep the folder with the files of market, publisher and provider
    #[arg(long)]
    pub(crate) keep: bool,
}

impl Demo {
    /// What to run: the demonstration's own service where nothing is named.
    pub(crate) fn workload(&self) -> WorkloadChoice {
        match (&self.image, &self.workload) {
            (Some(image), _) => WorkloadChoice::Image(image.clone()),
            (None, Some(manifest)) => WorkloadChoice::Manifest(manifest.clone()),
            (None, None) => WorkloadChoice::BuiltIn,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_unknown_chain_is_refused() {
        let refused = Arguments::try_parse_from(["roadstead", "demo", "--chain", "ganache"]);
        assert!(refused.unwrap_err().to_string().contains("neither `embedded`, `anvil` nor"));
    }
}
