//! `roadstead demo`.

use std::path::PathBuf;

use clap::Args;
use roadstead_devnet::{ChainChoice, EngineChoice, StoreChoice, demo::WorkloadChoice};

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The chain: `embedded`, `anvil`, or the http:// address of a development chain
    #[arg(long, default_value = "embedded", value_name = "CHAIN")]
    pub(crate) chain: ChainChoice,

    /// Where the publisher keeps its blocks: `embedded`, `kubo` (a daemon of its own), or the http:// address of a running
    /// Kubo daemon's RPC
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    pub(crate) store: StoreChoice,

    /// What the provider runs containers with: `embedded` (needs root) or `docker`
    #[arg(long, default_value = "embedded", value_name = "ENGINE")]
    pub(crate) engine: EngineChoice,

    /// An OCI image to run: a layout folder or an archive. The smallest TCP port that it exposes is called
    #[arg(long, value_name = "PATH", conflicts_with = "workload")]
    pub(crate) image: Option<PathBuf>,

    /// A workload manifest to run. The smallest port of its container is called
    #[arg(long, value_name = "FILE")]
    pub(crate) workload: Option<PathBuf>,

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
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn an_unknown_part_is_refused() {
        for (flag, value, expected) in [
            ("--chain", "ganache", "neither `embedded`, `anvil` nor"),
            ("--store", "s3", "neither `embedded`, `kubo` nor"),
            ("--engine", "podman", "neither `embedded` nor `docker`"),
        ] {
            let refused = Arguments::try_parse_from(["roadstead", "demo", flag, value]);
            assert!(refused.unwrap_err().to_string().contains(expected), "{flag}");
        }
    }
}
