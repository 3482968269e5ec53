//! `roadstead publish`.

use std::path::PathBuf;

use alloy_primitives::Address;
use clap::Args;
use roadstead_devnet::StoreChoice;
use roadstead_types::Seconds;

use super::{Account, AgentOptions, MarketFile};

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The workload manifest: what is to run (docs/workload.md)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Who is to run it [default: the only provider of the market, if there is only one]
    #[arg(long, value_name = "ACCOUNT")]
    pub(crate) provider: Option<Address>,

    /// What it may cost at most, in whole tokens; what is not used comes back [default: a day at full use]
    #[arg(long, value_name = "AMOUNT")]
    pub(crate) deposit: Option<String>,

    /// How often it is metered and its bill accepted [default: 60s, 10s on a local market]
    #[arg(long, value_name = "SPAN")]
    pub(crate) interval: Option<Seconds>,

    /// What the provider may take for the start without a signature, in whole tokens
    #[arg(long, default_value = "0", value_name = "AMOUNT")]
    pub(crate) start_fee: String,

    /// Between your wish to leave and the refund, if the provider does not end the job itself
    #[arg(long, default_value = "24h", value_name = "SPAN")]
    pub(crate) notice: Seconds,

    /// Where the encrypted image is kept: `embedded`, `kubo`, or the http:// address of a Kubo daemon's RPC
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    pub(crate) store: StoreChoice,

    /// Open one more job each time, even if one for the same manifest runs
    #[arg(long)]
    pub(crate) new: bool,

    /// Do everything but the transaction, and print the `cast` commands that send it
    #[arg(long)]
    pub(crate) prepare: bool,

    /// Whose wallet opens the prepared job, where its key is not here
    #[arg(long, value_name = "ACCOUNT", requires = "prepare")]
    pub(crate) publisher: Option<Address>,

    /// Who accepts the bills [default: the agent of this home folder]
    #[arg(long, value_name = "ACCOUNT", requires = "prepare")]
    pub(crate) signer: Option<Address>,

    /// Let `cast` take the key from the variable PUBLISHER_KEY in place of asking for it
    #[arg(long, requires = "prepare")]
    pub(crate) key_variable: bool,

    /// Where the prepared job is written, for an agent elsewhere [default: in the folder `publisher`]
    #[arg(long, value_name = "FILE", requires = "prepare")]
    pub(crate) plan: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) market: MarketFile,

    #[command(flatten)]
    pub(crate) account: Account,

    #[command(flatten)]
    pub(crate) agent: AgentOptions,
}
