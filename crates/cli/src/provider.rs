//! `roadstead provider`: the provider as a process.
//!
//! Its folder, beside what the libraries keep there:
//!
//! ```text
//! market.toml                which market; without it the folder is not initialised
//! wallet.key | wallet.json   the account's key, or its keystore
//! account                    the account's address
//! engine.txt                 which engine runs the containers, and where its daemon is
//! engine/                    a folder for each engine
//! ```
//!
//! The market file is written last by `init` and removed first by `reset`, so that a crash in either is found: a folder
//! without it that remembers an engine is one whose reset is not finished.

mod engine;
mod init;
mod lines;
mod offer;
mod register;
mod reset;
mod run;
mod status;
mod wallet;

use std::{fs, path::PathBuf};

use alloy_primitives::Address;
use roadstead_journal::StateFolder;
use roadstead_types::Market;

use crate::{
    arguments::{MarketFile, Provider, ProviderCommand},
    context::Context,
    home::Role,
};

/// The provider's copy of the market file.
const MARKET_FILE: &str = "market.toml";

/// Why a command about the provider did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error("there is no provider in {}", path.display())]
    NotInitialised { path: PathBuf },
    #[error("the provider in {} is not initialised: `provider reset` did not finish", path.display())]
    HalfReset { path: PathBuf },
    #[error("the provider in {} is of another market, {}", path.display(), describe(found))]
    OtherMarket { path: PathBuf, found: Box<Market> },
    #[error("the provider in {} has the account {found}, not {given}", path.display())]
    OtherAccount { path: PathBuf, found: Address, given: Address },
    #[error(
        "the market is no local one, and strangers' containers share this machine's kernel: what breaks out of one may \
         be root here"
    )]
    Early,
    #[error(
        "the engine `{used}`, which was used so far, still has containers: {containers}; the one that is asked for \
         is `{chosen}`"
    )]
    OtherEngine { used: String, chosen: String, containers: usize },
    #[error("{} does not say which engine was used", path.display())]
    UnknownEngine {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) async fn run(command: Provider, context: &Context) -> anyhow::Result<()> {
    match command.command {
        ProviderCommand::Init(command) => init::run(&command, context),
        ProviderCommand::Register(command) => register::run(&command, context).await,
        ProviderCommand::Run(command) => run::run(&command, context).await,
        ProviderCommand::Status(_) => status::run(context).await,
        ProviderCommand::Reset(command) => reset::run(&command, context).await,
    }
}

/// Which market it is, for people.
fn describe(market: &Market) -> String {
    format!("with the contract {} on chain {}", market.contracts.payment, market.chain_id)
}

/// Whether two market files are about the same contracts on the same chain.
fn is_same(one: &Market, other: &Market) -> bool {
    let identity = |market: &Market| {
        (market.devnet, market.chain_id, market.genesis, market.contracts, market.token.clone())
    };
    identity(one) == identity(other)
}

/// The market of the provider, which is initialised.
fn own_market(context: &Context) -> anyhow::Result<Market> {
    let path = context.home.role_path(Role::Provider);
    let file = path.join(MARKET_FILE);
    if !file.exists() {
        return Err(match engine::is_remembered(&path) {
            true => ProviderError::HalfReset { path }.into(),
            false => ProviderError::NotInitialised { path }.into(),
        });
    }
    context.market(&MarketFile { market: Some(file) })
}

/// Locks the folder of the provider, which is initialised, for this process.
fn open(context: &Context) -> anyhow::Result<(StateFolder, Market)> {
    // Nothing is made where there is no provider.
    own_market(context)?;
    let folder = context.home.lock(Role::Provider)?;
    // A reset may have come between.
    let market = own_market(context)?;
    Ok((folder, market))
}

/// A small text in the folder; `None` where there is none.
fn read_text(folder: &StateFolder, name: &str) -> std::io::Result<Option<String>> {
    match fs::read_to_string(folder.path().join(name)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
