// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {MarketScript} from "./MarketScript.s.sol";

/// @title Deploy
/// @notice Deploys a market to any chain:
///
///     MARKET_RPC=$URL TOKEN=0x... forge script script/Deploy.s.sol --rpc-url $URL --broadcast --account NAME
///
/// | variable | what it says |
/// |---|---|
/// | `MARKET_RPC` | the nodes that the market file names, with commas between them |
/// | `MARKET_FILE` | where to write the market file, below `target/`; without it, `target/market.toml` |
/// | `TOKEN` | the ERC-20 token of the market; without it, a test token is deployed, which is worth nothing |
/// | `CONFIRMATIONS` | how many blocks must stand on top of an event; without it, 12, and 0 on a throw-away chain |
/// | `DEVNET` | `true` for a throw-away market on this machine |
///
/// The key is given as to every forge script: by `--account`, `--ledger`, `--interactive` or `--private-key`.
contract Deploy is MarketScript {
    function run() external returns (Deployment memory deployment) {
        bool isDevnet = _envOr("DEVNET", false);
        bool hasToken = vm.envExists("TOKEN");
        address token = hasToken ? vm.envAddress("TOKEN") : address(0);
        uint256 confirmations = _envOr("CONFIRMATIONS", isDevnet ? 0 : uint256(12));
        string memory chain = _chainSection(confirmations);
        _requireEther(msg.sender);
        if (hasToken) _requireToken(token);

        vm.startBroadcast();
        if (!hasToken) token = _deployTestToken();
        deployment = _deployMarket(token);
        vm.stopBroadcast();

        _writeMarket(isDevnet, chain, deployment);
    }
}
