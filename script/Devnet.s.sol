// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../contracts/interfaces/IRegistry.sol";
import {EncryptionKey, KIND_X25519, Registration} from "../contracts/types/Provider.sol";
import {ITestToken} from "../tests/contracts/utils/ITestToken.sol";
import {MarketScript} from "./MarketScript.s.sol";

/// @title Devnet
/// @notice Makes a market on a development chain of this machine, with tokens for a publisher:
///
///     MARKET_RPC=$URL forge script script/Devnet.s.sol --rpc-url $URL --broadcast
///
/// With the file that this writes, `roadstead provider init --market target/market.toml` makes a provider, and
/// `roadstead provider register` enters it into the registry. A provider that is there already is registered at once where
/// the three variables about it are set; `roadstead provider init --json` prints what they should be.
///
/// | variable | what it says |
/// |---|---|
/// | `PROVIDER_ENDPOINT` | the provider's multiaddr, in its binary form: `endpoint_bytes` |
/// | `PROVIDER_ENCRYPTION_KEY` | its public X25519 key: `encryption_key` |
/// | `PROVIDER_PROFILE` | the SHA2-256 digest of its profile: `profile` |
/// | `PUBLISHER_KEY` | the key of the publisher, who also deploys; without it, anvil's first account |
/// | `PROVIDER_KEY` | the key of the provider that is registered; without it, anvil's second account |
/// | `MARKET_RPC`, `MARKET_FILE` | as for `Deploy` |
contract Devnet is MarketScript {
    /// @dev The chain id of development chains.
    uint256 private constant CHAIN_ID = 31_337;

    /// @dev The keys of anvil's first two accounts. Everybody knows them.
    uint256 private constant FIRST_KEY = 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80;
    uint256 private constant SECOND_KEY = 0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d;

    /// @dev What the publisher begins with: a million test dollars.
    uint256 private constant TOKENS = 1_000_000e6;

    /// @return deployment The contracts.
    /// @return publisher Who has tokens.
    /// @return provider Who was registered, or zero.
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
        (bool registers, Registration memory registration) = _registration();
        string memory chain = _chainSection(0);
        _requireEther(publisher);
        if (registers) {
            provider = vm.addr(providerKey);
            _requireEther(provider);
        }

        vm.startBroadcast(publisherKey);
        address token = _deployTestToken();
        deployment = _deployMarket(token);
        ITestToken(token).mint(publisher, TOKENS);
        vm.stopBroadcast();

        if (registers) {
            vm.startBroadcast(providerKey);
            IRegistry(deployment.registry).register(registration);
            vm.stopBroadcast();
        }

        string memory file = _writeMarket(true, chain, deployment);
        if (!registers) {
            _say(
                string.concat(
                    "No provider is registered. Next: `roadstead provider init --market ",
                    file,
                    " --key-file FILE` with the key of an account that has ether, then `roadstead provider register`"
                )
            );
        }
    }

    /// @dev What the provider says about itself, where anything is said of it at all.
    function _registration() private view returns (bool registers, Registration memory registration) {
        string[3] memory names = ["PROVIDER_ENDPOINT", "PROVIDER_ENCRYPTION_KEY", "PROVIDER_PROFILE"];
        uint256 present;
        string memory missing;
        for (uint256 i; i < names.length; ++i) {
            if (vm.envExists(names[i])) ++present;
            else missing = names[i];
        }
        if (present == 0) return (false, registration);
        if (present != names.length) {
            revert(
                string.concat(
                    missing,
                    " is not set, but others about the provider are: `roadstead provider init --json` prints what it should"
                    " be, or set none of them, and no provider is registered"
                )
            );
        }
        registers = true;
        registration.endpoint = vm.envBytes(names[0]);
        registration.keys = new EncryptionKey[](1);
        registration.keys[0] = EncryptionKey({kind: KIND_X25519, key: bytes.concat(vm.envBytes32(names[1]))});
        registration.profile = vm.envBytes32(names[2]);
    }
}
