// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract FundTest is PaymentFixture {
    function test_Fund_CreditsTheAccount() public {
        vm.prank(sponsor);
        payment.fund(publisher, 500);
        vm.prank(publisher);
        payment.fund(publisher, 70);
        _assertBalance(publisher, 570);
        _assertBalance(sponsor, 0);
        _assertTokens(sponsor, WEALTH - 500);
        _assertTokens(address(payment), 570);
    }

    function test_Fund_EmitsFunded() public {
        vm.expectEmit(address(payment));
        emit IEscrow.Funded(publisher, sponsor, 500);
        vm.prank(sponsor);
        payment.fund(publisher, 500);
    }

    function test_Fund_FillsWhatOpenFromBalanceSpends() public {
        _fund(publisher, DEPOSIT);
        Terms memory terms = _terms();
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
        _assertBalance(publisher, 0);
    }

    function testFuzz_Fund_AddsExactly(uint96 first, uint96 second) public {
        first = uint96(_bound(first, 1, type(uint96).max));
        second = uint96(_bound(second, 1, type(uint96).max));
        token.mint(sponsor, uint256(first) + second);
        _fund(publisher, first);
        _fund(publisher, second);
        _assertBalance(publisher, uint256(first) + second);
        _assertTokens(address(payment), uint256(first) + second);
    }

    /// Nobody could ever spend these balances.
    function test_RevertWhen_TheAccountIsNobody() public {
        address[2] memory nobody = [address(0), address(payment)];
        for (uint256 i; i < nobody.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, nobody[i]));
            vm.prank(sponsor);
            payment.fund(nobody[i], 500);
            _assertBalance(nobody[i], 0);
        }
    }

    function test_RevertWhen_TheAmountIsZero() public {
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ZeroAmount.selector));
        vm.prank(sponsor);
        payment.fund(publisher, 0);
    }

    function test_RevertWhen_TheCallerHasTooLittle() public {
        bytes4 reason = IERC20Errors.ERC20InsufficientBalance.selector;
        vm.expectRevert(abi.encodeWithSelector(reason, sponsor, WEALTH, WEALTH + 1));
        vm.prank(sponsor);
        payment.fund(publisher, WEALTH + 1);
    }
}
