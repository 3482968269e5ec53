// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract TopUpTest is PaymentFixture {
    function test_TopUp_RaisesTheDepositAndNothingElse() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 40_000);
        _wait(50);
        vm.prank(publisher);
        payment.topUp(_id(terms), 5_000_000);
        _assertJob(terms, DEPOSIT + 5_000_000, 40_000, time - 50, 0);
        _assertTokens(publisher, WEALTH - DEPOSIT - 5_000_000);
    }

    function test_TopUp_EmitsToppedUp() public {
        Terms memory terms = _open();
        vm.expectEmit(address(payment));
        emit IEscrow.ToppedUp(_id(terms), sponsor, 7, DEPOSIT + 7);
        vm.prank(sponsor);
        payment.topUp(_id(terms), 7);
    }

    function test_TopUp_ByAnybodyIsRefundedToThePublisher() public {
        Terms memory terms = _open();
        vm.prank(sponsor);
        payment.topUp(_id(terms), 7);
        _decline(terms);
        _assertBalance(publisher, DEPOSIT + 7);
        _assertBalance(sponsor, 0);
    }

    function test_TopUp_LetsAnExhaustedJobGoOn() public {
        Terms memory terms = _open();
        _wait(20_000);
        _settle(terms, 12_000_000);
        _assertJob(terms, DEPOSIT, DEPOSIT, time, 0);
        vm.prank(sponsor);
        payment.topUp(_id(terms), 5_000_000);
        _wait(2000);
        _settle(terms, 12_000_000);
        _assertJob(terms, DEPOSIT + 5_000_000, 12_000_000, time, 0);
    }

    function test_RevertGiven_TheJobNeverWas() public {
        _expectNotToppedUp(
            keccak256("nothing"), abi.encodeWithSelector(IEscrow.JobNotLive.selector, keccak256("nothing"))
        );
    }

    /// A sponsor cannot lose money to a publisher that leaves in the same block.
    function test_RevertGiven_TheJobIsClosing() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _expectNotToppedUp(_id(terms), abi.encodeWithSelector(IEscrow.AlreadyClosing.selector, time + NOTICE));
    }

    function test_RevertGiven_TheJobIsClosed() public {
        Terms memory terms = _open();
        _decline(terms);
        _expectNotToppedUp(_id(terms), abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertWhen_TheAmountIsZero() public {
        Terms memory terms = _open();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.ZeroAmount.selector));
        vm.prank(sponsor);
        payment.topUp(_id(terms), 0);
    }

    function test_RevertWhen_TheDepositOverflows() public {
        Terms memory terms = _open();
        token.mint(sponsor, type(uint96).max);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 0x11));
        vm.prank(sponsor);
        payment.topUp(_id(terms), type(uint96).max - DEPOSIT + 1);
        vm.prank(sponsor);
        payment.topUp(_id(terms), type(uint96).max - DEPOSIT);
        _assertJob(terms, type(uint96).max, 0, START, 0);
    }

    function _expectNotToppedUp(bytes32 job, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(sponsor);
        payment.topUp(job, 7);
        _assertTokens(sponsor, WEALTH);
    }
}
