//! The chain of a local market.

use std::{fmt, net::Ipv4Addr, str::FromStr, time::Duration};

use roadstead_devchain::{Config, ConfigError, Devchain, Miner, Mining, ServeError, Server, serve};

use crate::anvil::{Anvil, AnvilError};

/// Which chain to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainChoice {
    /// The one in this process.
    Embedded,
    /// Foundry's anvil, started as a child.
    Anvil,
    /// A development chain that runs already.
    Url(String),
}

/// When a chain that is started makes blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// As a real chain does: regularly, with transactions or without.
    Every(Duration),
    /// With each transaction, and never without: for tests, where nothing waits for time to pass.
    WithTransactions,
}

/// A text that names no chain.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is neither `embedded`, `anvil` nor an http:// address")]
pub struct UnknownChain {
    /// What was given.
    pub text: String,
}

impl FromStr for ChainChoice {
    type Err = UnknownChain;

    fn from_str(text: &str) -> Result<Self, UnknownChain> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "anvil" => Ok(Self::Anvil),
            url if url.starts_with("http://") => Ok(Self::Url(url.to_owned())),
            _ => Err(UnknownChain { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ChainChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded"),
            Self::Anvil => formatter.write_str("anvil"),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

/// Why there is no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainStartError {
    /// The embedded chain refuses its settings.
    #[error("the embedded chain did not start")]
    Config(#[from] ConfigError),
    /// The embedded chain cannot listen.
    #[error("the embedded chain cannot listen")]
    Serve(#[from] ServeError),
    /// Anvil does not run.
    #[error(transparent)]
    Anvil(#[from] AnvilError),
}

/// A chain that answers JSON-RPC over HTTP. The embedded one and anvil end with this value.
#[derive(Debug)]
pub struct LocalChain {
    url: String,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Embedded { server: Server, miner: Option<Miner> },
    Anvil(Anvil),
    Foreign,
}

impl LocalChain {
    /// Starts the chain, or takes the one that runs, which makes blocks as it likes.
    pub async fn start(choice: &ChainChoice, blocks: Blocks) -> Result<Self, ChainStartError> {
        match choice {
            ChainChoice::Embedded => {
                let mining = match blocks {
                    Blocks::Every(time) => Mining::Interval(time),
                    Blocks::WithTransactions => Mining::Automine,
                };
                let chain = Devchain::new(Config { mining, ..Config::default() })?;
                let server = serve(chain.clone(), (Ipv4Addr::LOCALHOST, 0).into()).await?;
                let miner = (mining != Mining::Automine).then(|| chain.spawn_miner());
                Ok(Self { url: server.url(), parts: Parts::Embedded { server, miner } })
            }
            ChainChoice::Anvil => {
                let anvil = Anvil::start(blocks).await?;
                Ok(Self { url: anvil.url().to_owned(), parts: Parts::Anvil(anvil) })
            }
            ChainChoice::Url(url) => Ok(Self { url: url.clone(), parts: Parts::Foreign }),
        }
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends what was started.
    pub async fn shutdown(self) {
        match self.parts {
            Parts::Embedded { server, miner } => {
                server.shutdown().await;
                if let Some(miner) = miner {
                    miner.shutdown().await;
                }
            }
            Parts::Anvil(anvil) => anvil.shutdown().await,
            Parts::Foreign => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_as_they_are_shown() {
        for text in ["embedded", "anvil", "http://127.0.0.1:8545"] {
            assert_eq!(text.parse::<ChainChoice>().unwrap().to_string(), text);
        }
        for text in ["", "ganache", "127.0.0.1:8545", "ftp://127.0.0.1"] {
            assert!(text.parse::<ChainChoice>().is_err(), "{text}");
        }
    }
}
