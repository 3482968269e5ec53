// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract SettleTest is PaymentFixture {
    /*//////////////////////////////////////////////////////////////////////////
                                       PAYING
    //////////////////////////////////////////////////////////////////////////*/

    function test_Settle_PaysOut() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(90_000, time);
        bytes memory signature = _sign(terms, bill);
        vm.prank(provider);
        payment.settle(terms, bill, signature, true);
        _assertJob(terms, DEPOSIT, 90_000, time, 0);
        _assertTokens(provider, 90_000);
        _assertBalance(provider, 0);
    }

    function test_Settle_Credits() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _assertJob(terms, DEPOSIT, 90_000, time, 0);
        _assertTokens(provider, 0);
        _assertBalance(provider, 90_000);
    }

    function test_Settle_EmitsSettled() public {
        Terms memory terms = _open();
        _wait(1000);
        _settle(terms, 400_000);
        _wait(1000);
        Bill memory bill = _bill(900_000, time - 5);
        bytes memory signature = _sign(terms, bill);
        vm.expectEmit(address(payment));
        emit IPayment.Settled(_id(terms), 900_000, uint32(time - 5), bill.usageRoot);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
    }

    /// Whoever follows the events must see what was paid, not what was billed.
    function test_Settle_EmitsWhatTheRateAllowed() public {
        Terms memory terms = _open();
        _wait(1000);
        Bill memory bill = _bill(1_200_000, time);
        bytes memory signature = _sign(terms, bill);
        vm.expectEmit(address(payment));
        emit IPayment.Settled(_id(terms), 1_000_000, uint32(time), bill.usageRoot);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
    }

    function test_Settle_IsCumulative() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _wait(100);
        _settle(terms, 130_000);
        _assertBalance(provider, 130_000);
    }

    function test_Settle_MovesTimeToTheBillNotToTheBlock() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, _bill(10_000, START + 60));
        _assertJob(terms, DEPOSIT, 10_000, START + 60, 0);
    }

    /// A provider that was away for long is paid for all of it by the newest voucher.
    function test_Settle_CatchesUpAfterLongSilence() public {
        Terms memory terms = _open();
        _wait(9000);
        _settle(terms, 8_900_000);
        _assertBalance(provider, 8_900_000);
    }

    function test_Settle_TakesAVoucherThatWasSentLate() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(90_000, time);
        _wait(10 days);
        _settle(terms, bill);
        _assertBalance(provider, 90_000);
    }

    function test_Settle_JobsDoNotTouchEachOther() public {
        Terms memory first = _open();
        Terms memory second = _open();
        _wait(100_000);
        _settle(first, type(uint96).max);
        _assertJob(first, DEPOSIT, DEPOSIT, time, 0);
        _assertJob(second, DEPOSIT, 0, START, 0);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                        TIME
    //////////////////////////////////////////////////////////////////////////*/

    function test_RevertWhen_TheBillIsReplayed() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, time, time);
        _expectNotSettled(terms, _bill(90_000, time), reason);
        _expectNotSettled(terms, _bill(95_000, time), reason);
    }

    function test_RevertWhen_TheBillIsOlderThanTheLast() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, time - 1, time);
        _expectNotSettled(terms, _bill(95_000, time - 1), reason);
    }

    function test_RevertWhen_TheBillEndsWhenTheJobWasOpened() public {
        Terms memory terms = _open();
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, START, START);
        _expectNotSettled(terms, _bill(1, START), reason);
        reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, 0, START);
        _expectNotSettled(terms, _bill(1, 0), reason);
    }

    function test_RevertWhen_TheBillIsDatedAhead() public {
        Terms memory terms = _open();
        _wait(100);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, time + 1, time);
        _expectNotSettled(terms, _bill(90_000, time + 1), reason);
        _wait(1);
        _settle(terms, 90_000);
    }

    function test_Settle_WorksUpToTheEndOfTheNotice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        uint256 closeAt = time + NOTICE;
        _wait(NOTICE);
        _settle(terms, _bill(1_000_000, closeAt));
        _assertJob(terms, DEPOSIT, 1_000_000, closeAt, closeAt);
    }

    /// The last seconds of the notice can be settled only in the block in which anybody could finalize.
    function test_Settle_WorksAfterTheNoticeUntilSomebodyFinalizes() public {
        Terms memory terms = _open();
        _beginClose(terms);
        uint256 closeAt = time + NOTICE;
        _wait(2 * NOTICE);
        _settle(terms, _bill(1_000_000, closeAt));
        _assertBalance(provider, 1_000_000);
    }

    function test_RevertWhen_TheBillRunsPastTheNotice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        uint256 closeAt = time + NOTICE;
        _wait(NOTICE + 10);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, closeAt + 1, closeAt);
        _expectNotSettled(terms, _bill(1_000_000, closeAt + 1), reason);
    }

    function test_RevertWhen_TheBillIsDatedAheadDuringTheNotice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(10);
        bytes memory reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, time + 1, time);
        _expectNotSettled(terms, _bill(1000, time + 1), reason);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                     NOTHING TO PAY
    //////////////////////////////////////////////////////////////////////////*/

    function test_RevertWhen_TheTotalDoesNotGrow() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 90_000);
        _wait(100);
        bytes memory reason = abi.encodeWithSelector(IPayment.NothingToPay.selector, 90_000);
        _expectNotSettled(terms, _bill(90_000, time), reason);
        _expectNotSettled(terms, _bill(89_999, time), reason);
        _expectNotSettled(terms, _bill(0, time), reason);
    }

    function test_RevertGiven_TheDepositIsExhausted() public {
        Terms memory terms = _open();
        _wait(20_000);
        _settle(terms, DEPOSIT);
        _wait(100);
        bytes memory reason = abi.encodeWithSelector(IPayment.NothingToPay.selector, DEPOSIT);
        _expectNotSettled(terms, _bill(DEPOSIT + 1, time), reason);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      WHO AND WHAT
    //////////////////////////////////////////////////////////////////////////*/

    /// Whoever else could submit a small voucher would move time over a better one.
    function test_Attack_OnlyTheProviderMovesPaid() public {
        Terms memory terms = _open();
        _wait(1000);
        Bill memory bill = _bill(1, time);
        bytes memory signature = _sign(terms, bill);
        address[5] memory others = [publisher, signer, operator, sponsor, thief];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotProvider.selector, others[i]));
            vm.prank(others[i]);
            payment.settle(terms, bill, signature, false);
        }
        _assertJob(terms, DEPOSIT, 0, START, 0);
    }

    function test_RevertGiven_TheJobNeverWas() public {
        Terms memory terms = _terms();
        _wait(100);
        _expectNotSettled(terms, _bill(1, time), abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertGiven_TheJobIsClosed() public {
        Terms memory terms = _open();
        _wait(100);
        _decline(terms);
        _expectNotSettled(terms, _bill(1, time), abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    /// A voucher dated ahead of the chain must not be payable in a second life of the job.
    function test_Attack_VoucherOfTheFirstLifeIsWorthless() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory ahead = _bill(90_000, time + 50);
        _decline(terms);
        _wait(60);
        _expectNotSettled(terms, ahead, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    /// A provider that raises its rate or names itself the signer speaks of a job that never was.
    function test_Attack_SettleWithForgedTerms() public {
        Terms memory terms = _open();
        _wait(100);
        Bill memory bill = _bill(1_000_000, time);
        bytes memory signature = _sign(terms, bill);
        terms.ratePerHour *= 10;
        vm.expectRevert(abi.encodeWithSelector(IPayment.InvalidSignature.selector, signer));
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);

        terms.signer = provider;
        signature = _signWith(_key("provider"), terms, bill);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
    }
}
