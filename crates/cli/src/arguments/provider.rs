//! `roadstead provider`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use roadstead_devnet::EngineChoice;
use roadstead_provider::{Bytes, Cores, Mebibytes, Multiaddr, PriceList, TokenPrice};
use roadstead_types::Seconds;

use super::{Account, MarketFile};

#[derive(Debug, Args)]
pub(crate) struct Provider {
    #[command(subcommand)]
    pub(crate) command: ProviderCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Make this machine's keys, take in the account and the market; change nothing that is there
    Init(ProviderInit),
    /// Enter the registry with what is offered, or bring the entry up to date
    Register(ProviderRegister),
    /// Host jobs until Ctrl-C; containers outlive it, and the next run adopts them
    Run(ProviderRun),
    /// Show money, registration and jobs, whether or not a provider runs or the chain answers
    Status(ProviderStatus),
    /// End all containers and forget the market; the node's keys stay, and the account's key is moved aside
    Reset(ProviderReset),
}

#[derive(Debug, Args)]
pub(crate) struct ProviderInit {
    #[command(flatten)]
    pub(crate) market: MarketFile,

    #[command(flatten)]
    pub(crate) account: Account,

    #[command(flatten)]
    pub(crate) offer: Offered,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderRegister {
    #[command(flatten)]
    pub(crate) password: Password,

    #[command(flatten)]
    pub(crate) offer: Offered,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderRun {
    /// What runs the containers: `embedded`, which needs root, or `docker`, the daemon that DOCKER_HOST names
    /// [default: what ran them last, else `embedded`]
    #[arg(long, env = "ROADSTEAD_ENGINE", value_name = "ENGINE")]
    pub(crate) engine: Option<EngineChoice>,

    /// Host strangers' containers for real money, although they share this machine's kernel
    #[arg(long)]
    pub(crate) i_know_this_is_early: bool,

    #[command(flatten)]
    pub(crate) password: Password,

    #[command(flatten)]
    pub(crate) offer: Offered,
}

#[derive(Debug, Args)]
pub(crate) struct ProviderStatus {}

#[derive(Debug, Args)]
pub(crate) struct ProviderReset {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// How a keystore is opened.
#[derive(Clone, Debug, Args)]
pub(crate) struct Password {
    /// A file with the keystore's password; without it the password is asked for
    #[arg(long, env = "ROADSTEAD_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// What is offered, to whom and where. `init`, `register` and `run` must be told the same, which the file of settings is
/// for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Offer")]
pub(crate) struct Offered {
    /// Where the machine stands, in your own words; nobody checks it
    #[arg(long, default_value = "unspecified", value_name = "TEXT")]
    pub(crate) region: String,

    /// For one core and hour, in whole tokens
    #[arg(long, default_value = "0.02", value_name = "TOKENS")]
    pub(crate) price_cpu: TokenPrice,

    /// For one GiB of memory and hour
    #[arg(long, default_value = "0.005", value_name = "TOKENS")]
    pub(crate) price_memory: TokenPrice,

    /// For one GiB of storage and hour
    #[arg(long, default_value = "0.0002", value_name = "TOKENS")]
    pub(crate) price_storage: TokenPrice,

    /// For one GiB that a container receives
    #[arg(long, default_value = "0", value_name = "TOKENS")]
    pub(crate) price_network_in: TokenPrice,

    /// For one GiB that a container sends
    #[arg(long, default_value = "0.01", value_name = "TOKENS")]
    pub(crate) price_network_out: TokenPrice,

    /// Cores for all jobs together, such as 4 or 0.5 [default: all that this machine has]
    #[arg(long, value_name = "CORES")]
    pub(crate) cpu: Option<Cores>,

    /// MiB of memory for all jobs together, or with a unit, such as 8Gi [default: half of what this machine has]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<Mebibytes>,

    /// MiB of storage for all jobs together, or with a unit [default: half of what is free on the disk]
    #[arg(long, value_name = "SIZE")]
    pub(crate) storage: Option<Mebibytes>,

    /// Bytes a second in each direction for all jobs together, such as 125M [default: a gigabit]
    #[arg(long, value_name = "BYTES")]
    pub(crate) network: Option<Bytes>,

    /// The shortest metering interval that is taken [default: 60s; 2s on a local market]
    #[arg(long, value_name = "TIME")]
    pub(crate) min_interval: Option<Seconds>,

    /// The longest metering interval that is taken
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub(crate) max_interval: Seconds,

    /// The shortest notice that is taken
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub(crate) min_notice: Seconds,

    /// Bytes of the layers of an image, at most
    #[arg(long, default_value = "16Gi", value_name = "BYTES")]
    pub(crate) max_image: Bytes,

    /// Take one's pay when so many whole tokens can be had
    #[arg(long, default_value = "1", value_name = "TOKENS")]
    pub(crate) settle_value: String,

    /// Take whatever can be had after so much time [default: 12h; 10s on a local market]
    #[arg(long, value_name = "TIME")]
    pub(crate) settle_age: Option<Seconds>,

    /// How long a job whose deposit is used up is kept, frozen
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub(crate) grace: Seconds,

    /// How long a job whose bills nobody accepts is kept, frozen
    #[arg(long, default_value = "7d", value_name = "TIME")]
    pub(crate) silence: Seconds,

    /// Where to listen for publishers and agents
    #[arg(long, default_value = "/ip4/127.0.0.1/tcp/47600", value_name = "MULTIADDR")]
    pub(crate) listen: Multiaddr,

    /// Where others reach that, as the registry will say [default: the address to listen at]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) announce: Option<Multiaddr>,
}

impl Offered {
    pub(crate) const fn price_list(&self) -> PriceList {
        PriceList {
            cpu: self.price_cpu,
            memory: self.price_memory,
            storage: self.price_storage,
            network_in: self.price_network_in,
            network_out: self.price_network_out,
        }
    }

    /// Where others reach the provider.
    pub(crate) fn announced(&self) -> &Multiaddr {
        self.announce.as_ref().unwrap_or(&self.listen)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn what_is_no_quantity_is_refused_with_what_is_expected() {
        for (flag, value, expected) in [
            ("--price-cpu", "cheap", "a price in whole tokens"),
            ("--memory", "much", "a number of MiB"),
            ("--settle-age", "soon", "no span of time"),
            ("--listen", "localhost:47600", "invalid value"),
        ] {
            let line = ["roadstead", "provider", "run", flag, value];
            let refused = Arguments::try_parse_from(line).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
