// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract DeclineTest is PaymentFixture {
    function test_Decline_GivesEverythingBackAtOnce() public {
        Terms memory terms = _open();
        _decline(terms);
        _assertJob(terms, 0, 0, START, 1);
        _assertBalance(publisher, DEPOSIT);
        _assertTokens(address(payment), DEPOSIT);
    }

    function test_Decline_KeepsWhatWasPaid() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _decline(terms);
        _assertJob(terms, 90_000, 90_000, time, 1);
        _assertBalance(provider, 90_000);
        _assertBalance(publisher, DEPOSIT - 90_000);
    }

    function test_Decline_EmitsClosed() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        vm.expectEmit(address(payment));
        emit IEscrow.Closed(_id(terms), 90_000, DEPOSIT - 90_000);
        _decline(terms);
    }

    function test_Decline_EndsTheNoticeEarly() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _decline(terms);
        _assertBalance(publisher, DEPOSIT);
    }

    function test_Decline_ByTheOperator() public {
        Terms memory terms = _open();
        vm.prank(provider);
        payment.setOperator(operator);
        vm.prank(operator);
        payment.decline(terms);
        _assertBalance(publisher, DEPOSIT);
    }

    function test_RevertWhen_TheCallerIsNotTheProvider() public {
        Terms memory terms = _open();
        address[4] memory others = [publisher, signer, operator, thief];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, others[i]));
            vm.prank(others[i]);
            payment.decline(terms);
        }
    }

    /// Terms that name the thief as publisher are another job, so no refund can be redirected.
    function test_Attack_RedirectTheRefundWithForgedTerms() public {
        Terms memory terms = _open();
        terms.publisher = thief;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        vm.prank(provider);
        payment.decline(terms);
    }

    function test_RevertGiven_TheJobNeverWas() public {
        Terms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        vm.prank(provider);
        payment.decline(terms);
    }

    function test_RevertGiven_TheJobIsClosed() public {
        Terms memory terms = _open();
        _decline(terms);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        vm.prank(provider);
        payment.decline(terms);
    }
}
