// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract OperatorTest is PaymentFixture {
    function test_SetOperator_NamesReplacesAndClears() public {
        vm.assertEq(payment.operatorOf(provider), address(0), "none");
        _name(operator);
        vm.assertEq(payment.operatorOf(provider), operator, "named");
        _name(thief);
        vm.assertEq(payment.operatorOf(provider), thief, "replaced");
        _name(address(0));
        vm.assertEq(payment.operatorOf(provider), address(0), "cleared");
    }

    function test_SetOperator_EmitsOperatorSet() public {
        vm.expectEmit(address(payment));
        emit IEscrow.OperatorSet(provider, operator);
        _name(operator);
    }

    function test_SetOperator_CountsForItsCallerOnly() public {
        vm.prank(thief);
        payment.setOperator(thief);
        Terms memory terms = _open();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, thief));
        vm.prank(thief);
        payment.decline(terms);
    }

    /// Every call an operator may make pays the provider and nobody else.
    function test_Attack_OperatorCannotRedirectAUnit() public {
        _name(operator);
        Terms memory terms = _open();
        Terms memory other = _open();
        vm.prank(operator);
        payment.claimStartFee(terms, true);
        _wait(1000);
        _settleAsOperator(terms, 600_000, true, false);
        _wait(1000);
        _settleAsOperator(terms, 700_000, false, false);
        _wait(1000);
        _settleAsOperator(terms, 800_000, true, true);
        vm.prank(operator);
        payment.decline(other);

        _assertTokens(provider, 700_000);
        _assertBalance(provider, 100_000);
        _assertTokens(operator, 0);
        _assertBalance(operator, 0);
        _assertBalance(publisher, 2 * DEPOSIT - 800_000);
    }

    function test_Attack_OperatorCannotWithdrawForTheProvider() public {
        _name(operator);
        _fund(provider, 500);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, 0, 1));
        vm.prank(operator);
        payment.withdraw(operator, 1);
    }

    function test_Attack_OperatorCannotNameAnother() public {
        _name(operator);
        vm.prank(operator);
        payment.setOperator(thief);
        vm.assertEq(payment.operatorOf(provider), operator, "operator");
    }

    /// A publisher may have an operator for the jobs it hosts, but it rents by itself.
    function test_RevertWhen_TheOperatorOfThePublisherGivesNotice() public {
        vm.prank(publisher);
        payment.setOperator(operator);
        Terms memory terms = _open();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPublisher.selector, operator));
        vm.prank(operator);
        payment.beginClose(terms);
    }

    function test_RevertGiven_TheOperatorWasReplaced() public {
        Terms memory terms = _open();
        _name(operator);
        _name(sponsor);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, operator));
        vm.prank(operator);
        payment.decline(terms);
        vm.prank(sponsor);
        payment.decline(terms);
    }

    function test_RevertGiven_TheOperatorIsOfAnotherProvider() public {
        vm.prank(thief);
        payment.setOperator(operator);
        Terms memory terms = _open();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, operator));
        vm.prank(operator);
        payment.decline(terms);
    }

    function _name(address key) private {
        vm.prank(provider);
        payment.setOperator(key);
    }

    function _settleAsOperator(Terms memory terms, uint256 total, bool payOut, bool close) private {
        Bill memory bill = _bill(total, time);
        bytes memory signature = _sign(terms, bill);
        vm.prank(operator);
        if (close) payment.settleAndClose(terms, bill, signature, payOut);
        else payment.settle(terms, bill, signature, payOut);
    }
}
