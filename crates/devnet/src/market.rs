//! The contracts and the accounts of a local market.

use std::path::PathBuf;

use alloy_primitives::{Address, U256};
use roadstead_chain::{Account, Connection, DeployError, Wallet};
use roadstead_core::ports::{ChainError, WriteError};
use roadstead_journal::{FolderError, StateFolder};
use roadstead_types::{Market, Token, TokenAmount};
use serde::Serialize;

use crate::chain::LocalChain;

/// A thousand ether for each account: gas is no concern on a development chain.
const ETHER: u128 = 1_000_000_000_000_000_000_000;

/// What the publisher's wallet begins with: a million test dollars of six decimals.
const TOKENS: u128 = 1_000_000_000_000;

/// The facts about the market.
pub(crate) const MARKET_FILE: &str = "market.toml";

/// The publisher's key.
pub(crate) const PUBLISHER_KEY_FILE: &str = "publisher.key";

/// The provider's key.
pub(crate) const PROVIDER_KEY_FILE: &str = "provider.key";

/// A market whose contracts were just deployed, with funded accounts.
#[derive(Debug)]
pub struct LocalMarket {
    /// The facts that every process needs.
    pub market: Market,
    /// Where they are written.
    pub market_file: PathBuf,
    /// An account with ether and tokens.
    pub publisher: Wallet,
    /// Where its key is written.
    pub publisher_key: PathBuf,
    /// An account with ether.
    pub provider: Wallet,
    /// Where its key is written.
    pub provider_key: PathBuf,
}

/// Addresses of a market's contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MarketContracts {
    /// Who provides.
    pub registry: Address,
    /// Who holds and moves the money.
    pub payment: Address,
    /// What is paid with.
    pub token: Address,
}

impl From<&Market> for MarketContracts {
    fn from(market: &Market) -> Self {
        Self {
            registry: market.contracts.registry,
            payment: market.contracts.payment,
            token: market.token.address,
        }
    }
}

/// Why there is no market.
#[derive(Debug, thiserror::Error)]
pub enum MarketStartError {
    /// The chain does not answer, or is no development chain.
    #[error("the chain cannot be used")]
    Chain(#[from] ChainError),
    /// A contract could not be deployed.
    #[error("the contracts could not be deployed")]
    Deploy(#[from] DeployError),
    /// The publisher could not be given tokens.
    #[error("the publisher could not be funded")]
    Fund(#[from] WriteError),
    /// The files could not be written.
    #[error("the market's files could not be written")]
    Folder(#[from] FolderError),
}

impl LocalMarket {
    /// Deploys the contracts and a test token, funds a publisher and a provider, and writes the market file and, for
    /// their owner alone, a file with the key of each account.
    pub async fn start(chain: &LocalChain, folder: &StateFolder) -> Result<Self, MarketStartError> {
        let connection = Connection::devnet(chain.url())?;
        let chain_id = connection.chain_id().await?;
        let genesis = connection.genesis().await?;
        let from_block = connection.head().await?.block.number + 1;

        let (deployer, publisher, provider) =
            (Wallet::random(), Wallet::random(), Wallet::random());
        for wallet in [&deployer, &publisher, &provider] {
            connection.set_balance(wallet.address(), U256::from(ETHER)).await?;
        }
        let deployer = Account::new(connection, chain_id, deployer);
        let token = deployer.deploy_test_token().await?;
        let contracts = deployer.deploy_market(token).await?;
        let tokens = TokenAmount::new(TOKENS).expect("far below 2^96");
        deployer.mint(token, publisher.address(), tokens).await?;

        let market = Market {
            devnet: true,
            chain_id,
            genesis,
            rpc: vec![chain.url().to_owned()],
            contracts,
            token: Token { address: token, symbol: "RTD".into(), decimals: 6 },
            from_block,
            confirmations: 0,
        };
        let market_file = folder.write(MARKET_FILE, market.to_toml().as_bytes())?;
        let key = |file, wallet: &Wallet| folder.write_secret(file, wallet.to_hex().as_bytes());
        let publisher_key = key(PUBLISHER_KEY_FILE, &publisher)?;
        let provider_key = key(PROVIDER_KEY_FILE, &provider)?;
        Ok(Self { market, market_file, publisher, publisher_key, provider, provider_key })
    }
}
