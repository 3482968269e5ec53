//! A market on a chain that mines at once, and what tests do on it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use multiaddr::Multiaddr;
use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::{Offer, SettlePolicy, ports::ChainReader};
use roadstead_devnet::{Blocks, ChainChoice, LocalChain, LocalMarket, service};
use roadstead_journal::{Journal, JournalBinding, StateFolder};
use roadstead_provider::LoopbackEndpoints;
use roadstead_publisher::{Closed, Deal, Prepared, close, provider_key, publish, seal};
use roadstead_testkit::{FakeEngine, MemorySources, MemoryStore};
use roadstead_types::{Market, PROFILE_VERSION, Profile, Resources, Seconds, Terms, TokenAmount};
use tempfile::TempDir;

/// The chains that every test of the clients runs on.
pub(crate) const EVERY_CHAIN: [ChainChoice; 2] = [ChainChoice::Embedded, ChainChoice::Anvil];

/// Where the publisher of a test says that its blocks are.
pub(crate) const SOURCE: &str = "test:publisher";

/// What both sides of a test think that things cost.
const PRICES: Resources<u128> = Resources {
    cpu: 1_000_000_000,
    memory: 1_000_000,
    storage: 1_000_000,
    network_in: 1_000,
    network_out: 1_000,
    accelerator: 0,
};

/// A market with funded accounts, and the chain it is on. Blocks and containers are fakes, which outlive the daemons
/// of a test.
pub(crate) struct TestMarket {
    pub(crate) local: LocalMarket,
    /// The publisher's blocks.
    pub(crate) store: Arc<MemoryStore>,
    /// The provider's blocks.
    pub(crate) cache: Arc<MemoryStore>,
    /// The provider's engine.
    pub(crate) engine: Arc<FakeEngine>,
    /// Where the provider says that it listens.
    pub(crate) address: Mutex<Multiaddr>,
    _chain: LocalChain,
    publisher: StateFolder,
    provider: StateFolder,
    folder: TempDir,
}

impl TestMarket {
    pub(crate) async fn start(choice: &ChainChoice) -> Self {
        Self::start_with(choice, Blocks::WithTransactions).await
    }

    pub(crate) async fn start_with(choice: &ChainChoice, blocks: Blocks) -> Self {
        let chain = LocalChain::start(choice, blocks, 0).await;
        let chain = chain.unwrap_or_else(|error| panic!("{error}; script/setup installs anvil"));
        let folder = tempfile::tempdir().unwrap();
        let state = |name| StateFolder::open(folder.path().join(name)).unwrap();
        let local = LocalMarket::start(&chain, &state("market")).await.unwrap();
        Self {
            local,
            store: Arc::default(),
            cache: Arc::default(),
            engine: Arc::default(),
            // Where nobody listens, until somebody does.
            address: Mutex::new("/ip4/127.0.0.1/tcp/1".parse().unwrap()),
            _chain: chain,
            publisher: state("publisher"),
            provider: state("provider"),
            folder,
        }
    }

    pub(crate) fn market(&self) -> Market {
        self.local.market.clone()
    }

    pub(crate) async fn publisher(&self) -> roadstead_publisher::Ports {
        self.publisher_of(self.market(), self.local.publisher.clone()).await
    }

    /// A publisher's ports, with other facts about the market or another wallet.
    pub(crate) async fn publisher_of(
        &self,
        market: Market,
        wallet: Wallet,
    ) -> roadstead_publisher::Ports {
        let (store, keys) = (self.store.clone(), self.publisher_keys());
        let ports = roadstead_publisher::wire(market, wallet, store, &self.publisher, &keys).await;
        ports.unwrap()
    }

    pub(crate) fn publisher_keys(&self) -> roadstead_publisher::Keys {
        roadstead_publisher::Keys::load_or_create(&self.publisher).unwrap()
    }

    pub(crate) fn agent_keys(&self) -> roadstead_publisher::AgentKeys {
        roadstead_publisher::AgentKeys::load_or_create(&self.publisher).unwrap()
    }

    /// Closes a job, as the command does.
    pub(crate) async fn close(&self, ports: &roadstead_publisher::Ports, terms: &Terms) -> Closed {
        close(ports, terms, self.local.market.from_block, PATIENCE, |_| {}).await.unwrap()
    }

    pub(crate) async fn provider(&self) -> roadstead_provider::Ports {
        self.provider_of(self.market()).await
    }

    /// The provider's ports, with other facts about the market.
    pub(crate) async fn provider_of(&self, market: Market) -> roadstead_provider::Ports {
        let client = MarketClient::connect(market).await.unwrap();
        let account = client.account(self.local.provider.clone());
        let poll_interval = client.poll_interval();
        let client = Arc::new(client);
        let sources = MemorySources::default();
        sources.add(SOURCE, self.store.clone());
        let journal = self.provider_journal();
        roadstead_provider::Ports {
            events: client.clone(),
            reader: client,
            writer: Arc::new(account.with_intents(Arc::new(journal.clone()))),
            signer: Arc::new(self.local.provider.clone()),
            journal,
            poll_interval,
            cache: self.cache.clone(),
            sources: Arc::new(sources),
            engine: self.engine.clone(),
            endpoints: Arc::new(LoopbackEndpoints),
        }
    }

    /// Takes away what a role has written down, as a lost disk does.
    pub(crate) fn lose_journal(&self, role: &str) {
        for file in std::fs::read_dir(self.folder.path().join(role)).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("journal.sqlite") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    /// What the provider has written down.
    pub(crate) fn provider_journal(&self) -> Journal {
        Journal::open(&self.provider, &JournalBinding::from(&self.local.market)).unwrap()
    }

    pub(crate) fn provider_keys(&self) -> roadstead_provider::Keys {
        roadstead_provider::Keys::load_or_create(&self.provider).unwrap()
    }

    /// Puts the provider into the registry. May be repeated.
    pub(crate) async fn register(&self) {
        let ports = self.provider().await;
        let address = self.address.lock().unwrap().clone();
        let keys = self.provider_keys();
        roadstead_provider::register(&ports, &keys, address, &profile()).await.unwrap();
    }

    /// What the publisher offers.
    pub(crate) fn deal(&self, salt: u64) -> Deal {
        Deal {
            provider: self.local.provider.address(),
            signer: self.agent_keys().signer.address(),
            deposit: amount(1_000_000),
            prices: PRICES,
            interval: Seconds(2),
            start_fee: amount(50_000),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt,
            source: SOURCE.into(),
        }
    }

    /// A job that only has to be opened: its image and its bundle lie sealed in the publisher's store.
    pub(crate) async fn prepare(&self, deal: Deal) -> Prepared {
        self.register().await;
        let ports = self.publisher().await;
        let keys = self.publisher_keys();
        let image = self.folder.path().join("image");
        if !image.exists() {
            service::pack(&image).unwrap();
        }
        let workload = service::workload(&image);
        let sealed = seal(&ports, &keys, workload, self.folder.path(), |_| {}).await.unwrap();
        let key = provider_key(&ports, deal.provider).await.unwrap();
        publish(&ports, &keys, &self.market(), &sealed, &key, &deal).await.unwrap()
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

/// What the provider of a test says of itself.
pub(crate) fn profile() -> Profile {
    Profile { version: PROFILE_VERSION, region: "test".into(), prices: PRICES }
}

/// What the provider of a test takes.
pub(crate) fn offer() -> Offer {
    Offer {
        prices: PRICES,
        capacity: Resources {
            cpu: 10_000,
            memory: 10_000,
            storage: 10_000,
            network_in: 1 << 40,
            network_out: 1 << 40,
            accelerator: 0,
        },
        interval: (Seconds(2), Seconds(60)),
        notice: Seconds::from_hours(1),
        image_size: 1 << 30,
        settle: SettlePolicy { value: TokenAmount::MAX, age: Seconds(60) },
        grace: Seconds::from_hours(1),
        silence: Seconds::from_hours(2),
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
