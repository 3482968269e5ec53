//! The chain of a local market.

use std::{fmt, future::pending, net::Ipv4Addr, str::FromStr, time::Duration};

use roadstead_devchain::{Config, ConfigError, Devchain, Miner, Mining, ServeError, Server, serve};

use crate::{
    anvil::{Anvil, AnvilError},
    port::{self, PortTaken},
};

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
    Serve(#[source] ServeError),
    /// Somebody else listens at the port.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
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
    /// Starts the chain at a port of the loopback interface, any free one for 0; or takes the one that runs, which has
    /// its port and makes blocks as it likes.
    pub async fn start(
        choice: &ChainChoice,
        blocks: Blocks,
        port: u16,
    ) -> Result<Self, ChainStartError> {
        match choice {
            ChainChoice::Embedded => {
                let mining = match blocks {
                    Blocks::Every(time) => Mining::Interval(time),
                    Blocks::WithTransactions => Mining::Automine,
                };
                let chain = Devchain::new(Config { mining, ..Config::default() })?;
                let served = serve(chain.clone(), (Ipv4Addr::LOCALHOST, port).into()).await;
                let server = served.map_err(|error| not_served(error, port))?;
                let miner = (mining != Mining::Automine).then(|| chain.spawn_miner());
                Ok(Self { url: server.url(), parts: Parts::Embedded { server, miner } })
            }
            ChainChoice::Anvil => {
                // It would say why to nobody.
                port::try_out(port).map_err(|error| match PortTaken::of(&error, port) {
                    Some(taken) => ChainStartError::PortTaken(taken),
                    None => AnvilError::Start(error).into(),
                })?;
                let anvil = Anvil::start(blocks, port).await?;
                Ok(Self { url: anvil.url().to_owned(), parts: Parts::Anvil(anvil) })
            }
            ChainChoice::Url(url) => Ok(Self { url: url.clone(), parts: Parts::Foreign }),
        }
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until a chain that was started ends without having been asked to. Cancel-safe.
    pub async fn ended(&mut self) {
        match &mut self.parts {
            Parts::Anvil(anvil) => anvil.ended().await,
            Parts::Embedded { .. } | Parts::Foreign => pending().await,
        }
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

fn not_served(error: ServeError, port: u16) -> ChainStartError {
    let taken = match &error {
        ServeError::Bind { source, .. } => PortTaken::of(source, port),
        _ => None,
    };
    taken.map_or(ChainStartError::Serve(error), ChainStartError::PortTaken)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_chain_is_where_it_was_asked_to_be_or_says_who_is_there() {
        for choice in [ChainChoice::Embedded, ChainChoice::Anvil] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let start = || LocalChain::start(&choice, Blocks::WithTransactions, port);
            let error = start().await.unwrap_err();
            let ChainStartError::PortTaken(PortTaken { port: taken, holder }) = error else {
                panic!("{choice}: {error}")
            };
            assert_eq!((taken, holder.unwrap().pid), (port, std::process::id()), "{choice}");
            drop(listener);
            let chain = start().await.unwrap();
            assert_eq!(chain.url(), format!("http://127.0.0.1:{port}"));
            chain.shutdown().await;
        }
    }

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
