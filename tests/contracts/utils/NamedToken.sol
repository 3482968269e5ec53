// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Says of itself what it was told to, as far as tokens do, and moves nothing.
contract NamedToken {
    string public symbol;
    uint256 public decimals;

    constructor(string memory symbol_, uint256 decimals_) {
        symbol = symbol_;
        decimals = decimals_;
    }
}
