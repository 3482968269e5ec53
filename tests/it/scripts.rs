//! The Foundry scripts: what they deploy, what they write down, and what they say when something is missing.

use std::{collections::BTreeMap, path::Path, process::Stdio, sync::Arc};

use alloy::{
    consensus::Transaction as _,
    network::{TransactionResponse, primitives::BlockResponse},
    primitives::{Address, Bytes, U256, hex},
    providers::{DynProvider, Provider, ProviderBuilder},
    sol_types::SolConstructor,
};
use multiaddr::Multiaddr;
use roadstead_abi::{Payment, Registry, TestToken};
use roadstead_chain::{Account, Connection, MarketClient, Wallet};
use roadstead_core::ports::{Call, ChainReader, ChainWriter, RegistryEntry};
use roadstead_crypto::sha256;
use roadstead_devchain::{Config, Devchain, serve};
use roadstead_devnet::{Blocks, ChainChoice, LocalChain};
use roadstead_journal::StateFolder;
use roadstead_publisher::{Closed, Ending, OpenRequest, close, open, withdraw};
use roadstead_testkit::MemoryStore;
use roadstead_types::{JobStatus, Market, Registration, Seconds, Terms, Token};
use tempfile::TempDir;
use tokio::{process::Command, sync::Mutex, time::timeout};

use crate::{
    command::{Roadstead, json, standard_error},
    market::{EVERY_CHAIN, PATIENCE, amount, profile, tokens},
};

/// Keys that everybody knows: of anvil's first two accounts.
const ANVIL_KEYS: [&str; 2] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];

/// What the scripts take from the environment.
const VARIABLES: [&str; 10] = [
    "MARKET_RPC",
    "MARKET_FILE",
    "TOKEN",
    "CONFIRMATIONS",
    "DEVNET",
    "PUBLISHER_KEY",
    "PROVIDER_KEY",
    "PROVIDER_ENDPOINT",
    "PROVIDER_ENCRYPTION_KEY",
    "PROVIDER_PROFILE",
];

/// The top of the checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs forge at the top of the checkout, without what the user's environment says to scripts. What it prints, and its
/// errors where it fails.
async fn forge(arguments: &[&str], variables: &BTreeMap<&str, String>) -> Result<String, String> {
    // All runs share what was compiled.
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    let mut command = Command::new("forge");
    for name in VARIABLES {
        command.env_remove(name);
    }
    let output = command
        .args(arguments)
        .envs(variables)
        .current_dir(root())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(3 * PATIENCE, output).await.expect("forge ends in time");
    let output = output.unwrap_or_else(|error| panic!("forge: {error}; script/setup installs it"));
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Deploys a contract of `tests/contracts/utils`.
pub(crate) async fn create(
    node: &str,
    deployer: &Wallet,
    contract: &str,
    arguments: &[&str],
) -> Address {
    let contract = format!("tests/contracts/utils/{contract}");
    let key = deployer.to_hex();
    let mut all = vec!["create", &contract, "--json", "--broadcast", "--rpc-url", node];
    all.extend(["--private-key", &*key, "--constructor-args"]);
    all.extend(arguments);
    let printed = forge(&all, &BTreeMap::new()).await.unwrap();
    // What was compiled is told before.
    let json = &printed[printed.find('{').expect("forge prints an object")..];
    let made: serde_json::Value = serde_json::from_str(json).unwrap();
    made["deployedTo"].as_str().unwrap().parse().unwrap()
}

/// A chain without a market, and a place for market files.
struct Bare {
    chain: LocalChain,
    connection: Connection,
    folder: TempDir,
}

impl Bare {
    async fn start(choice: &ChainChoice) -> Self {
        let chain = LocalChain::start(choice, Blocks::WithTransactions, 0).await;
        let chain = chain.unwrap_or_else(|error| panic!("{error}; script/setup installs anvil"));
        let connection = Connection::devnet(chain.url()).unwrap();
        // Where alone forge lets scripts write.
        let target = root().join("target");
        std::fs::create_dir_all(&target).unwrap();
        Self { chain, connection, folder: tempfile::tempdir_in(target).unwrap() }
    }

    /// Runs a script, and reads the market file that it wrote.
    async fn run(
        &self,
        script: &str,
        options: &[&str],
        variables: &[(&'static str, &str)],
    ) -> Result<Option<Market>, String> {
        let file = self.folder.path().join("market.toml");
        let _ = std::fs::remove_file(&file);
        let mut all = BTreeMap::from([
            ("MARKET_RPC", self.chain.url().to_owned()),
            ("MARKET_FILE", file.to_str().unwrap().to_owned()),
        ]);
        all.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let script = format!("script/{script}.s.sol");
        let mut arguments = vec!["script", &script, "--rpc-url", self.chain.url()];
        arguments.extend(options);
        forge(&arguments, &all).await?;
        Ok(std::fs::read_to_string(&file).ok().map(|text| Market::from_toml(&text).unwrap()))
    }

    /// An account with ether.
    async fn rich(&self) -> Wallet {
        let wallet = Wallet::random();
        self.fund(&wallet).await;
        wallet
    }

    async fn fund(&self, wallet: &Wallet) {
        let ether = U256::from(10).pow(U256::from(20));
        self.connection.set_balance(wallet.address(), ether).await.unwrap();
    }

    async fn head(&self) -> u64 {
        self.connection.head().await.unwrap().block.number
    }

    fn client(&self) -> DynProvider {
        DynProvider::new(ProviderBuilder::new().connect_http(self.chain.url().parse().unwrap()))
    }

    /// The code and arguments that a contract was made with, which decide its code.
    async fn creation(&self, market: &Market, contract: Address) -> Bytes {
        let client = self.client();
        for number in market.from_block..=self.head().await {
            let block = client.get_block_by_number(number.into()).full().await.unwrap().unwrap();
            for transaction in block.transactions().txns() {
                let receipt = client.get_transaction_receipt(transaction.tx_hash());
                if receipt.await.unwrap().unwrap().contract_address == Some(contract) {
                    return transaction.input().clone();
                }
            }
        }
        panic!("no block since {} makes {contract}", market.from_block);
    }

    /// The contracts are those of `abi/`, byte for byte, as compiled for deployment.
    async fn assert_contracts(&self, market: &Market) {
        let payment = Payment::constructorCall { token_: market.token.address }.abi_encode();
        for (contract, code, arguments) in [
            (market.contracts.registry, &Registry::BYTECODE, Vec::new()),
            (market.contracts.payment, &Payment::BYTECODE, payment),
        ] {
            let expected = [code.as_ref(), &arguments].concat();
            assert!(self.creation(market, contract).await == expected, "{contract}");
            assert!(!self.client().get_code_at(contract).await.unwrap().is_empty());
        }
    }
}

/// A publisher opens a job, the provider declines it, and the publisher has its money back.
async fn play(market: &Market, publisher: Wallet, provider: Wallet) {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let keys = roadstead_publisher::Keys::load_or_create(&folder).unwrap();
    let terms = Terms {
        publisher: publisher.address(),
        provider: provider.address(),
        signer: publisher.address(),
        rate_per_hour: amount(360_000),
        start_fee: amount(50_000),
        notice: Seconds::from_hours(24),
        window: Seconds(0),
        salt: 1,
        bundle: Default::default(),
    };
    let store: Arc<MemoryStore> = Arc::default();
    let ports = roadstead_publisher::wire(market.clone(), publisher, store, &folder, &keys);
    let ports = ports.await.unwrap();
    let before = tokens(&*ports.reader, terms.publisher).await;
    let deposit = amount(70_000);
    let request = OpenRequest { terms: terms.clone(), deposit, source: Bytes::new() };
    let job = open(&ports, request).await.unwrap().job;
    assert_eq!(ports.reader.job(job).await.unwrap().status(), JobStatus::Open);

    let client = MarketClient::connect(market.clone()).await.unwrap();
    client.account(provider).submit(Call::Decline(terms.clone())).await.unwrap();
    let closed = close(&ports, &terms, market.from_block, PATIENCE, |_| {}).await.unwrap();
    let how = Ending::Order;
    assert_eq!(closed, Closed::Closed { job, paid: amount(0), refund: deposit, how });
    assert_eq!(withdraw(&ports).await.unwrap().amount, deposit);
    assert_eq!(tokens(&*ports.reader, terms.publisher).await, before);
}

#[tokio::test]
async fn a_market_is_deployed_and_its_file_tells_all_about_it() {
    for choice in EVERY_CHAIN {
        let bare = Bare::start(&choice).await;
        let (deployer, publisher, provider) =
            (bare.rich().await, bare.rich().await, bare.rich().await);
        let key = deployer.to_hex();
        let options = ["--broadcast", "--private-key", &key];
        let made = bare.run("Deploy", &options, &[("DEVNET", "true")]).await;
        let market = made.unwrap().expect("a market file");
        let expected = Market {
            devnet: true,
            chain_id: 31_337,
            genesis: bare.connection.genesis().await.unwrap(),
            rpc: vec![bare.chain.url().to_owned()],
            contracts: market.contracts,
            token: Token { address: market.token.address, symbol: "RTD".into(), decimals: 6 },
            from_block: 1,
            confirmations: 0,
        };
        assert_eq!(market, expected, "{choice}");
        bare.assert_contracts(&market).await;
        let token = bare.creation(&market, market.token.address).await;
        assert!(token == TestToken::BYTECODE, "{choice}");

        let account = Account::new(bare.connection.clone(), market.chain_id, deployer.clone());
        let wealth = amount(1_000_000);
        account.mint(market.token.address, publisher.address(), wealth).await.unwrap();
        play(&market, publisher, provider).await;

        // A second market, which is paid with the same token, and which people are to rely on.
        let head = bare.head().await;
        let token = market.token.address.to_string();
        let proxy = format!("{},{}/", bare.chain.url(), bare.chain.url());
        let variables = [("TOKEN", token.as_str()), ("MARKET_RPC", &proxy)];
        let second = bare.run("Deploy", &options, &variables).await.unwrap().unwrap();
        assert_ne!(second.contracts.payment, market.contracts.payment);
        bare.assert_contracts(&second).await;
        let expected = Market {
            devnet: false,
            rpc: proxy.split(',').map(str::to_owned).collect(),
            contracts: second.contracts,
            from_block: head + 1,
            confirmations: 12,
            ..market
        };
        assert_eq!(second, expected, "{choice}");
        bare.chain.shutdown().await;
    }
}

/// What a provider says of itself, and the variables that say it to the script.
fn provider_says() -> (Registration, Vec<(&'static str, String)>) {
    let home = tempfile::tempdir().unwrap();
    let folder = StateFolder::open(home.path()).unwrap();
    let keys = roadstead_provider::Keys::load_or_create(&folder).unwrap();
    let address: Multiaddr = "/ip4/127.0.0.1/tcp/4101".parse().unwrap();
    let profile = serde_json::to_vec(&profile()).unwrap();
    let registration = Registration {
        endpoint: keys.identity.endpoint(address).unwrap(),
        keys: vec![keys.encryption.public_key()],
        profile: sha256(&profile),
    };
    let variables = vec![
        ("PROVIDER_ENDPOINT", hex::encode_prefixed(registration.endpoint.to_bytes())),
        ("PROVIDER_ENCRYPTION_KEY", hex::encode_prefixed(&registration.keys[0].key)),
        ("PROVIDER_PROFILE", registration.profile.to_string()),
    ];
    (registration, variables)
}

#[tokio::test]
async fn a_devnet_has_a_registered_provider_and_a_publisher_who_can_pay() {
    for choice in EVERY_CHAIN {
        let bare = Bare::start(&choice).await;
        let (registration, mut variables) = provider_says();
        let (publisher, provider) = match choice {
            // Its first accounts have ether from the start.
            ChainChoice::Anvil => ANVIL_KEYS.map(|key| key.parse::<Wallet>().unwrap()).into(),
            _ => (bare.rich().await, bare.rich().await),
        };
        if choice != ChainChoice::Anvil {
            variables.push(("PUBLISHER_KEY", publisher.to_hex().to_string()));
            variables.push(("PROVIDER_KEY", provider.to_hex().to_string()));
        }
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        let made = bare.run("Devnet", &["--broadcast"], &variables).await;
        let market = made.unwrap().expect("a market file");
        assert!(market.devnet, "{choice}");
        assert_eq!((market.from_block, market.confirmations), (1, 0));
        assert_eq!(market.genesis, bare.connection.genesis().await.unwrap());
        bare.assert_contracts(&market).await;

        let client = MarketClient::connect(market.clone()).await.unwrap();
        let entry = client.registration(provider.address()).await.unwrap();
        assert_eq!(entry, RegistryEntry::Registered(registration), "{choice}");
        let wealth = client.token_balance(publisher.address()).await.unwrap();
        assert_eq!(wealth, U256::from(1_000_000_000_000_u64));
        play(&market, publisher, provider).await;
        bare.chain.shutdown().await;
    }
}

#[tokio::test]
async fn a_provider_comes_with_its_command_after_the_script_or_before_it() {
    let bare = Bare::start(&ChainChoice::Anvil).await;
    let provider: Wallet = ANVIL_KEYS[1].parse().unwrap();
    let first = bare.run("Devnet", &["--broadcast"], &[]).await.unwrap().expect("a market file");
    let client = MarketClient::connect(first.clone()).await.unwrap();
    let entry = client.registration(provider.address()).await.unwrap();
    assert!(matches!(entry, RegistryEntry::Absent), "{entry:?}");

    let roadstead = Roadstead::new();
    let secrets = StateFolder::open(bare.folder.path().join("secrets")).unwrap();
    let key = secrets.write_secret("key", provider.to_hex().as_bytes()).unwrap();
    let file = bare.folder.path().join("market.toml");
    let succeeds = |arguments: &[&str]| {
        let output = roadstead.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", standard_error(&output));
        json(&output)
    };
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    let made = succeeds(&["provider", "init", "--market", file, "--key-file", key]);
    assert_eq!(succeeds(&["provider", "register"])["change"], "registered");
    let is_as_printed = |entry: RegistryEntry| {
        let RegistryEntry::Registered(entry) = entry else { panic!("{entry:?}") };
        assert_eq!(made["endpoint_bytes"], hex::encode_prefixed(entry.endpoint.to_bytes()));
        assert_eq!(made["encryption_key"], hex::encode_prefixed(&entry.keys[0].key));
        assert_eq!(made["profile"], entry.profile.to_string());
    };
    is_as_printed(client.registration(provider.address()).await.unwrap());

    // Another market, where what the command printed is said to the script.
    let said = |name: &str| made[name].as_str().unwrap();
    let variables = [
        ("PROVIDER_ENDPOINT", said("endpoint_bytes")),
        ("PROVIDER_ENCRYPTION_KEY", said("encryption_key")),
        ("PROVIDER_PROFILE", said("profile")),
    ];
    let second = bare.run("Devnet", &["--broadcast"], &variables).await.unwrap();
    let second = second.expect("a market file");
    assert_ne!(second.contracts.registry, first.contracts.registry);
    let client = MarketClient::connect(second).await.unwrap();
    is_as_printed(client.registration(provider.address()).await.unwrap());
    bare.chain.shutdown().await;
}

#[tokio::test]
async fn a_dry_run_leaves_nothing() {
    for choice in EVERY_CHAIN {
        let bare = Bare::start(&choice).await;
        let deployer = bare.rich().await;
        let before = bare.head().await;
        let options = ["--private-key", &*deployer.to_hex()];
        assert_eq!(bare.run("Deploy", &options, &[]).await.unwrap(), None, "{choice}");
        assert_eq!(bare.head().await, before);
        bare.chain.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_missing_is_named_before_anything_is_sent() {
    let bare = Bare::start(&ChainChoice::Embedded).await;
    let (rich, poor) = (bare.rich().await, Wallet::random());
    let before = bare.head().await;
    let refused = async |script: &str, key: &Wallet, variables: &[(&'static str, &str)]| {
        let options = ["--broadcast", "--private-key", &*key.to_hex()];
        let refused = bare.run(script, &options, variables).await;
        refused.expect_err("the script refuses")
    };
    let says = |error: String, all: &[&str]| {
        for text in all {
            assert!(error.contains(text), "`{text}` is not in: {error}");
        }
    };

    let error = refused("Deploy", &poor, &[]).await;
    says(error, &[&poor.address().to_string(), "has no ether on chain 31337", "send it some"]);
    for nobody in [Address::repeat_byte(7), Address::ZERO] {
        let nobody = nobody.to_string();
        let error = refused("Deploy", &rich, &[("TOKEN", &nobody)]).await;
        says(error, &[&nobody, "no contract", "name an ERC-20 token of this chain"]);
    }
    for (name, value) in [("TOKEN", "RTD"), ("CONFIRMATIONS", "few"), ("DEVNET", "maybe")] {
        let error = refused("Deploy", &rich, &[(name, value)]).await;
        says(error, &[&format!("failed parsing ${name}")]);
    }
    let error = refused("Deploy", &rich, &[("MARKET_FILE", "/tmp/market.toml")]).await;
    says(error, &["/tmp/market.toml", "below target/"]);
    let error = refused("Deploy", &rich, &[("MARKET_RPC", "http://127.0.0.1:1")]).await;
    says(error, &["http://127.0.0.1:1", "does not answer"]);

    // A node of another chain, with the same id.
    let config = Config { genesis_timestamp: Some(1_000_000), ..Config::default() };
    let another = serve(Devchain::new(config).unwrap(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let genesis = bare.connection.genesis().await.unwrap().to_string();
    let error = refused("Deploy", &rich, &[("MARKET_RPC", &another.url())]).await;
    says(error, &[&another.url(), "does not know block", &genesis]);
    another.shutdown().await;

    let (_, all) = provider_says();
    let variables: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (name, _) in &variables {
        let others: Vec<_> = variables.iter().copied().filter(|(other, _)| other != name).collect();
        let error = refused("Devnet", &rich, &others).await;
        says(error, &[name, "is not set", "roadstead provider init --json"]);
    }
    for name in ["PUBLISHER_KEY", "PROVIDER_KEY"] {
        let mistyped = format!("{}g", &rich.to_hex()[..65]);
        let mistyped = [&variables[..], &[(name, mistyped.as_str())]].concat();
        let error = refused("Devnet", &rich, &mistyped).await;
        assert!(!error.contains(&rich.to_hex()[..60]), "{error}");
        says(error, &[&format!("failed parsing ${name}")]);
    }
    // The well-known accounts have ether on anvil alone.
    let error = refused("Devnet", &rich, &variables).await;
    says(error, &["0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266", "has no ether"]);

    // Without a node, and without a place to tell others of.
    let arguments = ["script", "script/Deploy.s.sol"];
    let error = forge(&arguments, &BTreeMap::new()).await.unwrap_err();
    says(error, &["name a node with --rpc-url"]);
    let arguments = ["script", "script/Deploy.s.sol", "--rpc-url", bare.chain.url()];
    let error = forge(&arguments, &BTreeMap::new()).await.unwrap_err();
    says(error, &["MARKET_RPC is not set"]);

    assert_eq!(bare.head().await, before, "nothing was sent");
    assert!(!Path::new("/tmp/market.toml").exists());
    bare.chain.shutdown().await;
}

#[tokio::test]
async fn a_token_that_makes_no_sense_is_refused_and_an_odd_name_is_kept() {
    let bare = Bare::start(&ChainChoice::Embedded).await;
    let deployer = bare.rich().await;
    let key = deployer.to_hex();
    let options = ["--broadcast", "--private-key", &key];
    let deploy = async |symbol: &str, decimals: &str| {
        let contract = "NamedToken.sol:NamedToken";
        let token = create(bare.chain.url(), &deployer, contract, &[symbol, decimals]).await;
        bare.run("Deploy", &options, &[("TOKEN", &token.to_string())]).await
    };
    let long = "R".repeat(33);
    for (symbol, decimals) in [("", "6"), (&long, "6"), ("RTD", "256")] {
        let error = deploy(symbol, decimals).await.unwrap_err();
        assert!(
            error.contains("does not say its decimals and a symbol of 1 to 32 bytes"),
            "{error}"
        );
    }
    // It would write lines of its own into the market file.
    for symbol in ["R\"\ndecimals = 0 #", "R\nD", "R\\u0041"] {
        let error = deploy(symbol, "6").await.unwrap_err();
        assert!(error.contains("the market file cannot hold"), "{error}");
    }
    let market = deploy("USD\u{20ae}0 'n' [x]", "255").await.unwrap().unwrap();
    assert_eq!((&*market.token.symbol, market.token.decimals), ("USD\u{20ae}0 'n' [x]", 255));

    // A contract, but not of a token.
    let registry = market.contracts.registry.to_string();
    let error = bare.run("Deploy", &options, &[("TOKEN", &registry)]).await.unwrap_err();
    assert!(error.contains("does not say its decimals and a symbol"), "{error}");
    bare.chain.shutdown().await;
}

#[tokio::test]
async fn a_devnet_is_made_on_development_chains_alone() {
    let config = Config { chain_id: 1, ..Config::default() };
    let server = serve(Devchain::new(config).unwrap(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let bare = Bare::start(&ChainChoice::Url(server.url())).await;
    let (_, all) = provider_says();
    let variables: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let error = bare.run("Devnet", &["--broadcast"], &variables).await.unwrap_err();
    assert!(error.contains("this is chain 1, and a devnet"), "{error}");
    server.shutdown().await;
}
