// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract WithdrawTest is PaymentFixture {
    function test_Withdraw_SendsToAnyAddress() public {
        _fund(publisher, 500);
        vm.prank(publisher);
        payment.withdraw(signer, 180);
        _assertBalance(publisher, 320);
        _assertBalance(signer, 0);
        _assertTokens(signer, 180);
        _assertTokens(address(payment), 320);
    }

    function test_Withdraw_EmptiesTheBalance() public {
        _fund(publisher, 500);
        vm.prank(publisher);
        payment.withdraw(publisher, 500);
        _assertBalance(publisher, 0);
        _assertTokens(publisher, WEALTH + 500);
    }

    function test_Withdraw_EmitsWithdrawn() public {
        _fund(publisher, 500);
        vm.expectEmit(address(payment));
        emit IEscrow.Withdrawn(publisher, signer, 180);
        vm.prank(publisher);
        payment.withdraw(signer, 180);
    }

    function test_Withdraw_LeavesDepositsAlone() public {
        Terms memory terms = _open();
        _fund(publisher, 500);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, 500, 501));
        vm.prank(publisher);
        payment.withdraw(publisher, 501);
        _assertJob(terms, DEPOSIT, 0, START, 0);
    }

    function test_RevertWhen_TheBalanceIsSomebodyElses() public {
        _fund(publisher, 500);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, 0, 1));
        vm.prank(thief);
        payment.withdraw(thief, 1);
    }

    function test_RevertWhen_WithdrawnTwice() public {
        _fund(publisher, 500);
        vm.prank(publisher);
        payment.withdraw(publisher, 500);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, 0, 500));
        vm.prank(publisher);
        payment.withdraw(publisher, 500);
    }

    function test_RevertWhen_TheTokensWouldArriveAtNobody() public {
        _fund(publisher, 500);
        address[2] memory nobody = [address(0), address(payment)];
        for (uint256 i; i < nobody.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.InvalidRecipient.selector, nobody[i]));
            vm.prank(publisher);
            payment.withdraw(nobody[i], 1);
        }
    }

    function testFuzz_Withdraw_NeverMoreThanTheBalance(uint96 balance, uint256 amount, bool near) public {
        token.mint(sponsor, balance);
        if (balance != 0) _fund(publisher, balance);
        if (near) amount = _bound(amount, 0, uint256(balance) + 2);
        if (amount > balance) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, balance, amount));
        }
        vm.prank(publisher);
        payment.withdraw(signer, amount);
        uint256 sent = amount > balance ? 0 : amount;
        _assertBalance(publisher, balance - sent);
        _assertTokens(signer, sent);
    }
}
