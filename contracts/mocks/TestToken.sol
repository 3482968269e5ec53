// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title TestToken
/// @notice FOR DEVELOPMENT ONLY. ANYONE CAN MINT ANY AMOUNT, SO THIS TOKEN IS WORTH NOTHING. It stands in for a vetted
/// dollar token on development chains and in tests, and must never be the token of a market that people use.
contract TestToken is ERC20, ERC20Permit {
    constructor() ERC20("Roadstead Test Dollar", "RTD") ERC20Permit("Roadstead Test Dollar") {}

    /// @notice Gives `account` new tokens out of nothing. Anyone may call.
    /// @param account Who receives them.
    /// @param amount How many, in units of 10^-6.
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
