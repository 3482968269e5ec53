// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract SettleAndCloseTest is PaymentFixture {
    function test_SettleAndClose_PaysOutAndRefunds() public {
        Terms memory terms = _open();
        _wait(100);
        _close(terms, _bill(90_000, time), true);
        _assertJob(terms, 90_000, 90_000, time, 1);
        _assertTokens(provider, 90_000);
        _assertBalance(provider, 0);
        _assertBalance(publisher, DEPOSIT - 90_000);
        _assertTokens(address(payment), DEPOSIT - 90_000);
    }

    function test_SettleAndClose_CreditsAndRefunds() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 40_000);
        _wait(100);
        _close(terms, _bill(90_000, time), false);
        _assertJob(terms, 90_000, 90_000, time, 1);
        _assertBalance(provider, 90_000);
        _assertBalance(publisher, DEPOSIT - 90_000);
    }

    function test_SettleAndClose_EmitsSettledAndClosed() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(90_000, time);
        vm.expectEmit(address(payment));
        emit IPayment.Settled(_id(terms), 90_000, uint32(time), bill.usageRoot);
        vm.expectEmit(address(payment));
        emit IEscrow.Closed(_id(terms), 90_000, DEPOSIT - 90_000);
        _close(terms, bill, false);
    }

    function test_SettleAndClose_EmitsWhatTheRateAllowed() public {
        Terms memory terms = _open();
        _wait(1000);
        Bill memory bill = _bill(1_200_000, time);
        vm.expectEmit(address(payment));
        emit IPayment.Settled(_id(terms), 1_000_000, uint32(time), bill.usageRoot);
        vm.expectEmit(address(payment));
        emit IEscrow.Closed(_id(terms), 1_000_000, DEPOSIT - 1_000_000);
        _close(terms, bill, false);
    }

    function test_SettleAndClose_OfAnExhaustedJobRefundsNothing() public {
        Terms memory terms = _open();
        _wait(20_000);
        _close(terms, _bill(DEPOSIT + 1, time), false);
        _assertJob(terms, DEPOSIT, DEPOSIT, time, 1);
        _assertBalance(provider, DEPOSIT);
        _assertBalance(publisher, 0);
    }

    function test_SettleAndClose_LosesWhatTheCapCutsOff() public {
        Terms memory terms = _open();
        _wait(400);
        _close(terms, _bill(1_000_000, time), false);
        _assertBalance(provider, 400_000);
        _assertBalance(publisher, DEPOSIT - 400_000);
    }

    function test_SettleAndClose_EndsTheNoticeEarly() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(100);
        _close(terms, _bill(90_000, time), false);
        _assertBalance(publisher, DEPOSIT - 90_000);
    }

    function test_SettleAndClose_ByTheOperatorPaysTheProvider() public {
        Terms memory terms = _open();
        vm.prank(provider);
        payment.setOperator(operator);
        _wait(100);
        Bill memory bill = _bill(90_000, time);
        bytes memory signature = _sign(terms, bill);
        vm.prank(operator);
        payment.settleAndClose(terms, bill, signature, true);
        _assertTokens(provider, 90_000);
        _assertTokens(operator, 0);
    }

    function test_SettleAndClose_OnePartyMayPayItself() public {
        Terms memory terms = _terms();
        terms.provider = publisher;
        _open(terms, DEPOSIT);
        _wait(100);
        _close(terms, _bill(90_000, time), false);
        _assertBalance(publisher, DEPOSIT);
    }

    function test_RevertWhen_NothingIsDue() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _wait(100);
        _expectNotClosed(terms, _bill(90_000, time), abi.encodeWithSelector(IPayment.NothingToPay.selector, 90_000));
        _assertJob(terms, DEPOSIT, 90_000, time - 100, 0);
    }

    function test_RevertWhen_TheBillIsOld() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, time, time);
        _expectNotClosed(terms, _bill(95_000, time), reason);
    }

    function test_RevertWhen_TheBillIsDatedAhead() public {
        Terms memory terms = _open();
        _wait(100);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, time + 1, time);
        _expectNotClosed(terms, _bill(90_000, time + 1), reason);
    }

    /// A stale total with rubbish for a signature must not close the job as if it were agreed.
    function test_Attack_CloseWithAStaleTotalAndRubbish() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        vm.expectRevert(abi.encodeWithSelector(IPayment.InvalidSignature.selector, signer));
        vm.prank(provider);
        payment.settleAndClose(terms, _bill(90_000, time), new bytes(65), false);
    }

    function test_RevertGiven_TheJobNeverWas() public {
        Terms memory terms = _terms();
        _wait(100);
        _expectNotClosed(terms, _bill(1, time), abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertGiven_TheJobIsClosed() public {
        Terms memory terms = _open();
        _wait(100);
        _close(terms, _bill(90_000, time), false);
        _wait(100);
        _expectNotClosed(terms, _bill(95_000, time), abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        _assertJob(terms, 90_000, 90_000, time - 100, 1);
    }

    function test_RevertWhen_TheCallerIsNotTheProvider() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(1, time);
        bytes memory signature = _sign(terms, bill);
        address[4] memory others = [publisher, signer, operator, thief];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, others[i]));
            vm.prank(others[i]);
            payment.settleAndClose(terms, bill, signature, false);
        }
    }

    function testFuzz_SettleAndClose_SplitsTheDeposit(uint96 total, uint32 elapsed) public {
        Terms memory terms = _open();
        _wait(_bound(elapsed, 1, 20_000));
        _close(terms, _bill(_bound(total, 1, type(uint96).max), time), false);
        vm.assertEq(payment.balanceOf(provider) + payment.balanceOf(publisher), DEPOSIT, "split");
        _assertJob(terms, payment.balanceOf(provider), payment.balanceOf(provider), time, 1);
    }

    function _close(Terms memory terms, Bill memory bill, bool payOut) private {
        bytes memory signature = _sign(terms, bill);
        vm.prank(terms.provider);
        payment.settleAndClose(terms, bill, signature, payOut);
    }

    function _expectNotClosed(Terms memory terms, Bill memory bill, bytes memory reason) private {
        bytes memory signature = _sign(terms, bill);
        vm.expectRevert(reason);
        vm.prank(provider);
        payment.settleAndClose(terms, bill, signature, false);
    }
}
