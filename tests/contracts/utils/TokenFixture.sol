// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Terms} from "../../../contracts/types/Job.sol";
import {PaymentFixture} from "./PaymentFixture.sol";
import {OddToken} from "./Tokens.sol";

/// @title TokenFixture
/// @notice A market over a token that is not what it should be.
abstract contract TokenFixture is PaymentFixture {
    /// @dev A market over another token, of which the publisher has enough.
    function _useToken(OddToken odd) internal {
        payment = _deployPayment(address(odd));
        odd.mint(publisher, 1_000_000);
        vm.prank(publisher);
        odd.approve(address(payment), type(uint256).max);
    }

    /// @dev Ten units per second, so that a deposit of 1000 is enough.
    function _cheapTerms() internal returns (Terms memory terms) {
        terms = _terms();
        terms.ratePerHour = 36_000;
        terms.startFee = 10;
    }
}
