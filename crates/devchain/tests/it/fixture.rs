//! Chains, accounts and the contract that the tests share.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::primitives::{Address, Bytes, U256, address, b256};
use alloy::providers::{DynProvider, Provider, ProviderBuilder};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use roadstead_devchain::{Config, Devchain, ManualClock, Mining, Server, serve};
use serde_json::{Value, json};

sol! {
    #[derive(Debug)]
    #[sol(rpc)]
    contract Probe {
        event Stored(address indexed who, uint256 indexed key, uint256 value);
        event Noted(string text);

        error TooSmall(uint256 given, uint256 least);
        error Plain();

        function stored(uint256 key) external view returns (uint256);
        function last() external view returns (address);
        function deployedAt() external view returns (uint256);
        function store(uint256 key, uint256 value) external payable;
        function storeMany(uint256 first, uint256 count, uint256 value) external;
        function create(uint256 value) external payable;
        function destroy() external;
        function deep(uint256 levels) external returns (uint256);
        function pay(address to, uint256 value) external;
        function failWithReason() external pure;
        function failWithData(uint256 given) external pure;
        function failPlain() external pure;
        function failSilently() external pure;
        function panic(uint256 divisor) external pure returns (uint256);
        function invalid() external pure;
        function forever() external pure;
        function context()
            external
            view
            returns (uint256, uint256, uint256, address, uint256, uint256);
        function hashOf(uint256 number) external view returns (bytes32);
    }
}

/// When the chains of the tests start.
pub(crate) const START: u64 = 2_000_000_000;

pub(crate) const GWEI: u128 = 1_000_000_000;

pub(crate) const ETHER: u128 = 1_000_000_000 * GWEI;

/// An account without money.
pub(crate) const POOR: Address = address!("00000000000000000000000000000000000a11ce");

/// The first development account of anvil, so that both chains know it.
pub(crate) fn alice() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&b256!(
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    ))
    .unwrap()
}

/// The second one.
pub(crate) fn bob() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&b256!(
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
    ))
    .unwrap()
}

/// The creation code of the probe, compiled once by the Solidity compiler on the path.
pub(crate) fn probe_code() -> Bytes {
    static CODE: OnceLock<Bytes> = OnceLock::new();
    CODE.get_or_init(compile_probe).clone()
}

fn compile_probe() -> Bytes {
    let input = json!({
        "language": "Solidity",
        "sources": { "Probe.sol": { "content": include_str!("Probe.sol") } },
        "settings": {
            "evmVersion": "osaka",
            "outputSelection": { "Probe.sol": { "Probe": ["evm.bytecode.object"] } },
        },
    });
    let compiler = Command::new("solc")
        .arg("--standard-json")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut compiler = compiler.expect("solc does not start from the PATH: run script/setup");
    compiler.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = compiler.wait_with_output().unwrap();
    let output: Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = &output["contracts"]["Probe.sol"]["Probe"]["evm"]["bytecode"]["object"];
    code.as_str().unwrap_or_else(|| panic!("{output}")).parse().unwrap()
}

pub(crate) fn deployment() -> TransactionRequest {
    TransactionRequest::default().with_deploy_code(probe_code())
}

pub(crate) fn config(mining: Mining) -> Config {
    let balance = U256::from(10_000) * U256::from(ETHER);
    Config {
        accounts: vec![(alice().address(), balance), (bob().address(), balance)],
        clock: Arc::new(ManualClock::new(START)),
        mining,
        ..Config::default()
    }
}

/// A chain where Alice and Bob are rich, and the time stands still.
pub(crate) fn chain(mining: Mining) -> Devchain {
    Devchain::new(config(mining)).unwrap()
}

pub(crate) async fn served(chain: &Devchain) -> Server {
    serve(chain.clone(), ([127, 0, 0, 1], 0).into()).await.unwrap()
}

pub(crate) fn client(chain: &Devchain) -> RpcClient {
    RpcClient::new(chain.transport(), true)
}

/// A provider that signs for Alice and Bob, and for Alice unless told otherwise.
pub(crate) fn provider(client: RpcClient) -> DynProvider {
    let mut wallet = EthereumWallet::from(alice());
    wallet.register_signer(bob());
    ProviderBuilder::new().wallet(wallet).connect_client(client).erased()
}

pub(crate) async fn deploy(provider: &DynProvider) -> Probe::ProbeInstance<DynProvider> {
    let sent = provider.send_transaction(deployment()).await.unwrap();
    let receipt = sent.get_receipt().await.unwrap();
    assert!(receipt.status());
    Probe::new(receipt.contract_address.unwrap(), provider.clone())
}
