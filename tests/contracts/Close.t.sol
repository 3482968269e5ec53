// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract CloseTest is PaymentFixture {
    /*//////////////////////////////////////////////////////////////////////////
                                    BEGIN CLOSE
    //////////////////////////////////////////////////////////////////////////*/

    function test_BeginClose_SetsWhenTheRestIsRefunded() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _wait(50);
        _beginClose(terms);
        _assertJob(terms, DEPOSIT, 90_000, time - 50, time + NOTICE);
    }

    function test_BeginClose_EmitsClosing() public {
        Terms memory terms = _open();
        vm.expectEmit(address(payment));
        emit IEscrow.Closing(_id(terms), uint32(time + NOTICE));
        _beginClose(terms);
    }

    function test_RevertWhen_NoticeIsGivenTwice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        uint256 closeAt = time + NOTICE;
        _wait(10);
        _expectNoNotice(terms, publisher, abi.encodeWithSelector(IEscrow.AlreadyClosing.selector, closeAt));
        _assertJob(terms, DEPOSIT, 0, START, closeAt);
    }

    function test_RevertWhen_SomebodyElseGivesNotice() public {
        Terms memory terms = _open();
        vm.prank(provider);
        payment.setOperator(operator);
        address[4] memory others = [provider, signer, operator, thief];
        for (uint256 i; i < others.length; ++i) {
            _expectNoNotice(terms, others[i], abi.encodeWithSelector(IEscrow.NotPublisher.selector, others[i]));
        }
    }

    function test_RevertWhen_TheNoticeIsForged() public {
        Terms memory terms = _open();
        terms.notice = 1 hours;
        _expectNoNotice(terms, publisher, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertWhen_NoticeIsGivenForAJobThatNeverWas() public {
        Terms memory terms = _terms();
        _expectNoNotice(terms, publisher, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertWhen_NoticeIsGivenForAClosedJob() public {
        Terms memory terms = _open();
        _decline(terms);
        _expectNoNotice(terms, publisher, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    /// A cast that reverts would lock every job from 2106 on.
    function test_Attack_WaitUntil2106() public {
        Terms memory terms = _open();
        uint256 last = type(uint32).max;
        uint256 snapshot = vm.snapshotState();

        vm.warp(last - NOTICE);
        _beginClose(terms);
        _assertJob(terms, DEPOSIT, 0, START, last);

        vm.revertToState(snapshot);
        vm.warp(last - NOTICE + 1);
        _beginClose(terms);
        _assertJob(terms, DEPOSIT, 0, START, last);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotYetFinal.selector, last));
        payment.finalize(terms);

        vm.revertToState(snapshot);
        vm.warp(last + 1000);
        _beginClose(terms);
        payment.finalize(terms);
        _assertBalance(publisher, DEPOSIT);
        vm.prank(publisher);
        payment.withdraw(publisher, DEPOSIT);
        _assertTokens(publisher, WEALTH);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      FINALIZE
    //////////////////////////////////////////////////////////////////////////*/

    function test_Finalize_RefundsTheRest() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _beginClose(terms);
        _wait(NOTICE);
        vm.prank(publisher);
        payment.finalize(terms);
        _assertJob(terms, 90_000, 90_000, time - NOTICE, 1);
        _assertBalance(publisher, DEPOSIT - 90_000);
        _assertBalance(provider, 90_000);
    }

    function test_Finalize_EmitsClosed() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(NOTICE);
        vm.expectEmit(address(payment));
        emit IEscrow.Closed(_id(terms), 0, DEPOSIT);
        payment.finalize(terms);
    }

    function test_Finalize_ByAnybodyRefundsThePublisher() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(NOTICE + 1000 days);
        vm.prank(thief);
        payment.finalize(terms);
        _assertBalance(publisher, DEPOSIT);
        _assertBalance(thief, 0);
    }

    function test_Finalize_VoidsWhatWasNotSettled() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(90_000, time);
        bytes memory signature = _sign(terms, bill);
        _beginClose(terms);
        _wait(NOTICE);
        payment.finalize(terms);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
    }

    function test_RevertGiven_NoNoticeWasGiven() public {
        Terms memory terms = _open();
        _wait(100 days);
        _expectNotFinal(terms, abi.encodeWithSelector(IEscrow.NotYetFinal.selector, 0));
    }

    function test_RevertGiven_TheNoticeHasNotPassed() public {
        Terms memory terms = _open();
        _beginClose(terms);
        uint256 closeAt = time + NOTICE;
        _expectNotFinal(terms, abi.encodeWithSelector(IEscrow.NotYetFinal.selector, closeAt));
        _wait(NOTICE - 1);
        _expectNotFinal(terms, abi.encodeWithSelector(IEscrow.NotYetFinal.selector, closeAt));
        _wait(1);
        payment.finalize(terms);
    }

    function test_RevertWhen_FinalizedTwice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(NOTICE);
        payment.finalize(terms);
        _expectNotFinal(terms, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        _assertBalance(publisher, DEPOSIT);
    }

    function test_RevertGiven_TheJobNeverWas() public {
        Terms memory terms = _terms();
        _expectNotFinal(terms, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function _expectNoNotice(Terms memory terms, address caller, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(caller);
        payment.beginClose(terms);
    }

    function _expectNotFinal(Terms memory terms, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(thief);
        payment.finalize(terms);
    }
}
