//! A market for processes of their own: what lasts until somebody ends it.
//!
//! Its folder holds the market file, the keys of two funded accounts, a workload to begin with, and the blocks of a
//! content store for whoever has none. Nothing of it outlives the chain: what is in the folder goes when the market ends
//! or does not come to run, and what a crash left there goes when the next one starts.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::Address;
use roadstead_core::ports::ContentError;
use roadstead_journal::StateFolder;
use roadstead_store::{EmbeddedStore, Gateway, LoopbackRpc, RpcError, ServeError};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Blocks, ChainChoice, ChainStartError, LocalChain},
    market::{
        LocalMarket, MARKET_FILE, MarketContracts, MarketStartError, PROVIDER_KEY_FILE,
        PUBLISHER_KEY_FILE,
    },
    port::{self, PortTaken},
    service,
};

/// Where the chain answers where nothing else is said.
pub const CHAIN_PORT: u16 = 47545;

/// Where the content store answers as a Kubo daemon's RPC.
pub const STORE_PORT: u16 = 47501;

/// Where its blocks can be fetched.
pub const GATEWAY_PORT: u16 = 47580;

/// As on a public chain, only faster.
const BLOCKS: Blocks = Blocks::Every(Duration::from_secs(1));

/// The blocks of the content store.
const BLOCKS_FOLDER: &str = "blocks";

/// A workload to begin with.
const EXAMPLE_FOLDER: &str = "hello";

/// What to start.
#[derive(Clone, Debug)]
pub struct DevnetConfig<'a> {
    /// Which chain.
    pub chain: ChainChoice,
    /// Where the files are. It stays locked as long as the caller keeps it.
    pub folder: &'a StateFolder,
    /// Where everything listens.
    pub ports: DevnetPorts,
}

/// Ports of the loopback interface, any free one for each 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevnetPorts {
    /// The chain's JSON-RPC; of no meaning for a chain that runs already.
    pub chain: u16,
    /// The content store's RPC.
    pub store: u16,
    /// The content store's gateway.
    pub gateway: u16,
}

impl DevnetPorts {
    /// Free ports for all.
    pub const ANY: Self = Self { chain: 0, store: 0, gateway: 0 };
}

impl Default for DevnetPorts {
    fn default() -> Self {
        Self { chain: CHAIN_PORT, store: STORE_PORT, gateway: GATEWAY_PORT }
    }
}

/// What runs, and where its files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevnetReport {
    /// Which chain, as on the command line.
    pub chain: String,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Where its parts answer.
    pub urls: DevnetUrls,
    /// Where the facts about it are.
    pub files: DevnetFiles,
    /// Who has been given something.
    pub accounts: DevnetAccounts,
    /// Addresses of the contracts.
    pub contracts: MarketContracts,
}

/// Where the parts of a local market answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevnetUrls {
    /// The chain's JSON-RPC.
    pub chain: String,
    /// The content store's RPC, which is Kubo's.
    pub store: String,
    /// The content store's gateway: what a job names as the source of its blocks.
    pub gateway: String,
}

/// The files of a local market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DevnetFiles {
    /// The facts that every process needs.
    pub market: PathBuf,
    /// The publisher's key, for its owner alone.
    pub publisher_key: PathBuf,
    /// The provider's key, likewise.
    pub provider_key: PathBuf,
    /// A workload manifest to begin with; `None` on a machine that cannot run its image.
    pub workload: Option<PathBuf>,
}

/// The funded accounts of a local market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DevnetAccounts {
    /// It has ether and tokens.
    pub publisher: Address,
    /// It has ether.
    pub provider: Address,
}

/// Why there is no local market, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// Two parts of the market are to listen at one port.
    #[error("port {port} is asked for twice: for {first} and for {second}")]
    PortTwice {
        /// The port.
        port: u16,
        /// Which part.
        first: &'static str,
        /// Which other part.
        second: &'static str,
    },
    /// Somebody else listens where a part of the market should.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// There is no chain.
    #[error(transparent)]
    Chain(#[from] ChainStartError),
    /// There is no market on it.
    #[error(transparent)]
    Market(#[from] MarketStartError),
    /// Blocks cannot be kept.
    #[error("the content store cannot be used")]
    Store(#[from] ContentError),
    /// The content store's RPC does not start.
    #[error("the content store's RPC cannot be served")]
    Rpc(#[from] RpcError),
    /// The content store's gateway does not start.
    #[error("the content store's gateway cannot be served")]
    Gateway(#[from] ServeError),
    /// The example cannot be written.
    #[error("the example cannot be written to {}", path.display())]
    Example {
        /// Where to.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// What is left of an earlier market cannot be removed.
    #[error("cannot remove {}", path.display())]
    Remove {
        /// What.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The chain ended by itself.
    #[error("the chain ended by itself, and the market with it")]
    ChainEnded,
}

/// A local market that runs. Dropped, it cuts everything off and leaves its files.
#[derive(Debug)]
pub struct Devnet {
    chain: LocalChain,
    rpc: LoopbackRpc,
    gateway: Gateway,
    folder: PathBuf,
    report: DevnetReport,
}

impl Devnet {
    /// Starts the chain, deploys the contracts, funds the accounts, writes the files, and serves the content store.
    pub async fn start(config: DevnetConfig<'_>) -> Result<Self, DevnetError> {
        let DevnetConfig { chain: choice, folder, ports } = config;
        // Before anything is started, and before anything is removed.
        let chain_port = if matches!(choice, ChainChoice::Url(_)) { 0 } else { ports.chain };
        check_ports(DevnetPorts { chain: chain_port, ..ports })?;
        let chain = LocalChain::start(&choice, BLOCKS, ports.chain).await?;
        match Parts::start(&chain, &choice, folder, ports).await {
            Ok(Parts { rpc, gateway, report }) => {
                Ok(Self { chain, rpc, gateway, folder: folder.path().to_owned(), report })
            }
            Err(error) => {
                chain.shutdown().await;
                // Why there is no market is worth more than what is left of it.
                let _ = remove_files(folder.path());
                Err(error)
            }
        }
    }

    /// Removes what a start that was dropped half-way has written, or what is left of a market that was dropped.
    pub fn clean_up(folder: &StateFolder) -> Result<(), DevnetError> {
        remove_files(folder.path())
    }

    /// What runs.
    pub const fn report(&self) -> &DevnetReport {
        &self.report
    }

    /// Runs until it is stopped, and ends everything of it. A chain that ends before that is an error. Dropped before its
    /// end, it cuts everything off and leaves its files.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<(), DevnetError> {
        let ended = stop.run_until_cancelled(self.chain.ended()).await;
        let gone = self.shutdown().await;
        ended.map_or(gone, |()| Err(DevnetError::ChainEnded))
    }

    /// Ends everything that was started, and removes its files.
    pub async fn shutdown(self) -> Result<(), DevnetError> {
        let Self { chain, rpc, gateway, folder, .. } = self;
        tokio::join!(rpc.shutdown(), gateway.shutdown(), chain.shutdown());
        remove_files(&folder)
    }
}

/// What of a market is more than its chain.
struct Parts {
    rpc: LoopbackRpc,
    gateway: Gateway,
    report: DevnetReport,
}

impl Parts {
    async fn start(
        chain: &LocalChain,
        choice: &ChainChoice,
        folder: &StateFolder,
        ports: DevnetPorts,
    ) -> Result<Self, DevnetError> {
        remove_files(folder.path())?;
        let local = LocalMarket::start(chain, folder).await?;
        let example = folder.path().join(EXAMPLE_FOLDER);
        let workload = if service::is_available() {
            let failed = |source| DevnetError::Example { path: example.clone(), source };
            Some(service::write_example(&example).map_err(failed)?)
        } else {
            None
        };
        let store = EmbeddedStore::open(folder.path().join(BLOCKS_FOLDER))?;
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stop = CancellationToken::new();
        let gateway = Gateway::serve(Arc::new(store.clone()), at(ports.gateway), &stop).await;
        let gateway = gateway.map_err(|error| match taken(&error, ports.gateway) {
            Some(taken) => taken.into(),
            None => DevnetError::Gateway(error),
        })?;
        let rpc = LoopbackRpc::serve(store, Some(gateway.local_addr()), at(ports.store), &stop);
        let rpc = rpc.await.map_err(|error| match &error {
            RpcError::Serve(served) => match taken(served, ports.store) {
                Some(taken) => taken.into(),
                None => DevnetError::Rpc(error),
            },
            RpcError::NotLoopback { .. } => DevnetError::Rpc(error),
        })?;
        let report = DevnetReport {
            chain: choice.to_string(),
            chain_id: local.market.chain_id,
            urls: DevnetUrls {
                chain: chain.url().to_owned(),
                store: rpc.url(),
                gateway: gateway.url(),
            },
            files: DevnetFiles {
                market: local.market_file,
                publisher_key: local.publisher_key,
                provider_key: local.provider_key,
                workload,
            },
            accounts: DevnetAccounts {
                publisher: local.publisher.address(),
                provider: local.provider.address(),
            },
            contracts: (&local.market).into(),
        };
        Ok(Self { rpc, gateway, report })
    }
}

/// Checks that each part has a port of its own that nobody else has.
fn check_ports(ports: DevnetPorts) -> Result<(), DevnetError> {
    let named = [
        (ports.chain, "the chain"),
        (ports.store, "the content store's RPC"),
        (ports.gateway, "the content store's gateway"),
    ];
    for (index, (port, second)) in named.into_iter().enumerate() {
        let before = named.iter().take(index).find(|(other, _)| *other == port && port != 0);
        if let Some((_, first)) = before {
            return Err(DevnetError::PortTwice { port, first, second });
        }
    }
    for (port, _) in named {
        let tried = port::try_out(port);
        if let Some(taken) = tried.err().and_then(|error| PortTaken::of(&error, port)) {
            return Err(taken.into());
        }
    }
    Ok(())
}

/// Whoever came first, where that is why nothing is served.
fn taken(error: &ServeError, port: u16) -> Option<PortTaken> {
    let ServeError::Bind { source, .. } = error;
    PortTaken::of(source, port)
}

/// Removes what a local market has written.
fn remove_files(folder: &Path) -> Result<(), DevnetError> {
    for name in [MARKET_FILE, PUBLISHER_KEY_FILE, PROVIDER_KEY_FILE] {
        let path = folder.join(name);
        removed(fs::remove_file(&path), path)?;
    }
    for name in [BLOCKS_FOLDER, EXAMPLE_FOLDER] {
        let path = folder.join(name);
        removed(fs::remove_dir_all(&path), path)?;
    }
    Ok(())
}

fn removed(result: io::Result<()>, path: PathBuf) -> Result<(), DevnetError> {
    match result {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(DevnetError::Remove { path, source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
