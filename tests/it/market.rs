//! A market on a chain that mines at once, and what tests do on it.

use std::time::Duration;

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use roadstead_chain::Wallet;
use roadstead_core::ports::ChainReader;
use roadstead_devnet::{Blocks, ChainChoice, LocalChain, LocalMarket};
use roadstead_journal::StateFolder;
use roadstead_types::{Market, Seconds, Terms, TokenAmount};
use tempfile::TempDir;

/// The chains that every test of the clients runs on.
pub(crate) const EVERY_CHAIN: [ChainChoice; 2] = [ChainChoice::Embedded, ChainChoice::Anvil];

/// A market with funded accounts, and the chain it is on.
pub(crate) struct TestMarket {
    pub(crate) local: LocalMarket,
    _chain: LocalChain,
    _folder: TempDir,
}

impl TestMarket {
    pub(crate) async fn start(choice: &ChainChoice) -> Self {
        let chain = LocalChain::start(choice, Blocks::WithTransactions).await;
        let chain = chain.unwrap_or_else(|error| panic!("{error}; script/setup installs anvil"));
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path()).unwrap();
        let local = LocalMarket::start(&chain, &state).await.unwrap();
        Self { local, _chain: chain, _folder: folder }
    }

    pub(crate) fn market(&self) -> Market {
        self.local.market.clone()
    }

    pub(crate) async fn publisher(&self) -> roadstead_publisher::Ports {
        let wallet = self.local.publisher.clone();
        roadstead_publisher::wire(self.market(), wallet).await.unwrap()
    }

    pub(crate) async fn provider(&self) -> roadstead_provider::Ports {
        let wallet = self.local.provider.clone();
        roadstead_provider::wire(self.market(), wallet).await.unwrap()
    }

    /// A client of no crate of ours, which signs with the wallet.
    pub(crate) fn foreign(&self, wallet: &Wallet) -> DynProvider {
        let wallet = EthereumWallet::new(signer(wallet));
        let url = self.local.market.rpc[0].parse().unwrap();
        DynProvider::new(ProviderBuilder::new().wallet(wallet).connect_http(url))
    }

    /// Makes time pass on the chain, and mines a block that shows it.
    pub(crate) async fn pass(&self, seconds: u64) {
        let client = self.foreign(&self.local.publisher);
        let passed =
            client.raw_request::<_, serde_json::Value>("evm_increaseTime".into(), (seconds,));
        passed.await.unwrap();
        client.raw_request::<_, serde_json::Value>("evm_mine".into(), ()).await.unwrap();
    }

    pub(crate) fn terms(&self, salt: u64) -> Terms {
        let publisher = self.local.publisher.address();
        Terms {
            publisher,
            provider: self.local.provider.address(),
            signer: publisher,
            rate_per_hour: amount(360_000),
            start_fee: amount(50_000),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt,
            bundle: B256::ZERO,
        }
    }
}

/// The key of a wallet, for what no crate of ours signs.
pub(crate) fn signer(wallet: &Wallet) -> PrivateKeySigner {
    wallet.to_hex().parse().unwrap()
}

pub(crate) fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

/// What an account's wallet holds.
pub(crate) async fn tokens(reader: &dyn ChainReader, account: Address) -> U256 {
    reader.token_balance(account).await.unwrap()
}

/// More than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
