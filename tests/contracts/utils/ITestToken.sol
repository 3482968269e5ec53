// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

/// @title ITestToken
/// @notice The test token, for tests that deploy it by its artefact.
interface ITestToken is IERC20Metadata, IERC20Permit {
    function mint(address account, uint256 amount) external;
}
