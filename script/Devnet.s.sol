// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../contracts/interfaces/IRegistry.sol";
import {EncryptionKey, KIND_X25519, Registration} from "../contracts/types/Provider.sol";
import {ITestToken} from "../tests/contracts/utils/ITestToken.sol";
import {MarketScript} from "./MarketScript.s.sol";

/// @title Devnet
/// @notice Makes a market on a development chain of this machine, with tokens for a publisher and with a registered
/// provider:
///
///     MARKET_RPC=$URL PROVIDER_ENDPOINT=0x... PROVIDER_ENCRYPTION_KEY=0x... PROVIDER_PROFILE=0x... \
///         forge script script/Devnet.s.sol --rpc-url $URL --broadcast
///
/// | variable | what it says |
/// |---|---|
/// | `PROVIDER_ENDPOINT` | the provider's multiaddr, in its binary form |
/// | `PROVIDER_ENCRYPTION_KEY` | its public X25519 key |
/// | `PROVIDER_PROFILE` | the SHA2-256 digest of its profile |
/// | `PUBLISHER_KEY` | the key of the publisher, who also deploys; without it, anvil's first account |
/// | `PROVIDER_KEY` | the key of the provider; without it, anvil's second account |
/// | `MARKET_RPC`, `MARKET_FILE` | as for `Deploy` |
///
/// `roadstead provider init --json` prints what is to be said of the provider.
contract Devnet is MarketScript {
    /// @dev The chain id of development chains.
    uint256 private constant CHAIN_ID = 31_337;

    /// @dev The keys of anvil's first two accounts. Everybody knows them.
    uint256 private constant FIRST_KEY = 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80;
    uint256 private constant SECOND_KEY = 0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d;

    /// @dev What the publisher begins with: a million test dollars.
    uint256 private constant TOKENS = 1_000_000e6;

    function run() external returns (Deployment memory deployment, address publisher, address provider) {
        if (block.chainid != CHAIN_ID) {
            revert(
                string.concat(
                    "this is chain ",
                    vm.toString(block.chainid),
                    ", and a devnet is made on a development chain, which has id 31337: use script/Deploy.s.sol"
                )
            );
        }
        uint256 publisherKey = _envOr("PUBLISHER_KEY", FIRST_KEY);
        uint256 providerKey = _envOr("PROVIDER_KEY", SECOND_KEY);
        publisher = vm.addr(publisherKey);
        provider = vm.addr(providerKey);
        Registration memory registration = _registration();
        string memory chain = _chainSection(0);
        _requireEther(publisher);
        _requireEther(provider);

        vm.startBroadcast(publisherKey);
        address token = _deployTestToken();
        deployment = _deployMarket(token);
        ITestToken(token).mint(publisher, TOKENS);
        vm.stopBroadcast();

        vm.startBroadcast(providerKey);
        IRegistry(deployment.registry).register(registration);
        vm.stopBroadcast();

        _writeMarket(true, chain, deployment);
    }

    /// @dev What the provider says about itself.
    function _registration() private view returns (Registration memory registration) {
        string[3] memory names = ["PROVIDER_ENDPOINT", "PROVIDER_ENCRYPTION_KEY", "PROVIDER_PROFILE"];
        for (uint256 i; i < names.length; ++i) {
            if (!vm.envExists(names[i])) {
                revert(
                    string.concat(names[i], " is not set: `roadstead provider init --json` prints what it should be")
                );
            }
        }
        registration.endpoint = vm.envBytes(names[0]);
        registration.keys = new EncryptionKey[](1);
        registration.keys[0] = EncryptionKey({kind: KIND_X25519, key: bytes.concat(vm.envBytes32(names[1]))});
        registration.profile = vm.envBytes32(names[2]);
    }
}
