// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CHEAT_CODES, Vm} from "./Vm.sol";

/// @title Cheats
/// @notice Where forge answers, and what everything that runs in a test needs.
abstract contract Cheats {
    Vm internal constant vm = Vm(CHEAT_CODES);

    /// @dev The private key behind `_account(name)`.
    function _key(string memory name) internal pure returns (uint256) {
        return uint256(keccak256(bytes(name))) >> 8;
    }

    /// @dev The address of a name.
    function _account(string memory name) internal pure returns (address) {
        return vm.addr(_key(name));
    }

    /// @dev Folds any value into `[min, max]`, keeping values that are inside.
    function _bound(uint256 value, uint256 min, uint256 max) internal pure returns (uint256) {
        if (value >= min && value <= max) return value;
        uint256 size = max - min;
        return size == type(uint256).max ? value : min + value % (size + 1);
    }
}

/// @title Test
/// @notice What forge recognises as a test contract.
abstract contract Test is Cheats {
    // forge-lint: disable-next-line(mixed-case-variable)
    bool public constant IS_TEST = true;

    /// @dev Printed by `forge test -vv`.
    event log_named_uint(string key, uint256 value);
}
