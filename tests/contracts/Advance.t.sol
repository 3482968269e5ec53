// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, CLOSED, Job, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

/// The rule that every bill passes, against what it is meant to say: the provider has the largest total that the
/// signer, the deposit and the time allow. There is no division, minimum or maximum in the statement here.
contract AdvanceTest is PaymentFixture {
    /// A bill, and the state that it meets.
    struct Case {
        Terms terms;
        Job job;
        uint96 cumulative;
        uint32 until;
        uint256 time;
    }

    /// Numbers of the size at which the limits meet.
    function testFuzz_Advance_PaysTheLargestTotalAllowed(
        uint256 rate,
        uint256 fee,
        uint256 deposit,
        uint256 paid,
        uint256 cumulative,
        uint256[3] calldata times
    ) public {
        Case memory c;
        c.terms = _terms();
        c.terms.ratePerHour = uint96(_bound(rate, 0, 10_000));
        c.terms.startFee = uint96(_bound(fee, 0, 5000));
        c.job.deposit = uint96(_bound(deposit, 1, 20_000));
        c.job.paid = uint96(_bound(paid, 0, c.job.deposit));
        c.cumulative = uint96(_bound(cumulative, 0, 25_000));
        c.job.paidUntil = uint32(START);
        c.time = START + _bound(times[0], 0, 10_000);
        c.until = uint32(START - 10 + _bound(times[1], 0, 10_020));
        c.job.closeAt = times[2] % 3 == 0 ? 0 : uint32(START + _bound(times[2], 0, 10_000));
        _check(c);
    }

    /// Any numbers at all.
    function testFuzz_Advance_HoldsForAnyNumbers(
        uint96[4] calldata amounts,
        uint96 cumulative,
        uint32[4] calldata times,
        bool closing
    ) public {
        Case memory c;
        c.terms = _terms();
        c.terms.ratePerHour = amounts[0];
        c.terms.startFee = amounts[1];
        c.job.deposit = amounts[2];
        c.job.paid = uint96(_bound(amounts[3], 0, c.job.deposit));
        c.cumulative = cumulative;
        c.job.paidUntil = times[0] == 0 ? 1 : times[0];
        c.time = _bound(times[1], 1, type(uint32).max);
        c.until = times[2];
        c.job.closeAt = closing && times[3] > CLOSED ? times[3] : 0;
        _check(c);
    }

    /// @dev Settles the bill and compares what follows with what is allowed.
    function _check(Case memory c) private {
        vm.warp(c.time);
        vm.store(address(payment), _slotOf(c.terms), _pack(c.job));
        Bill memory bill = _bill(c.cumulative, c.until);
        bytes memory settleCall = abi.encodeCall(payment.settle, (c.terms, bill, _sign(c.terms, bill), false));
        vm.prank(provider);
        (bool ok, bytes memory answer) = address(payment).call(settleCall);

        bytes memory reason;
        if (c.until <= c.job.paidUntil) {
            reason = abi.encodeWithSelector(IPayment.UntilTooEarly.selector, c.until, c.job.paidUntil);
        } else if (c.job.closeAt != 0 && c.job.closeAt <= c.time && c.until > c.job.closeAt) {
            reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, c.until, c.job.closeAt);
        } else if (c.until > c.time) {
            reason = abi.encodeWithSelector(IPayment.UntilTooLate.selector, c.until, c.time);
        } else if (!_allowed(c, uint256(c.job.paid) + 1)) {
            reason = abi.encodeWithSelector(IPayment.NothingToPay.selector, c.job.paid);
        }

        Job memory job = _job(c.terms);
        if (reason.length != 0) {
            vm.assertEq(ok, false, "refused");
            vm.assertEq(answer, reason, "reason");
            vm.assertEq(_pack(job), _pack(c.job), "unchanged");
        } else {
            vm.assertEq(ok, true, "paid");
            vm.assertTrue(_allowed(c, job.paid), "allowed");
            vm.assertTrue(!_allowed(c, uint256(job.paid) + 1), "largest");
            _assertBalance(provider, job.paid - c.job.paid);
            _assertJob(c.terms, c.job.deposit, job.paid, c.until, c.job.closeAt);
        }
    }

    /// @dev Whether a total above what was paid is within what the signer, the deposit and the time allow.
    function _allowed(Case memory c, uint256 total) private pure returns (bool) {
        if (total > c.cumulative || total > c.job.deposit) return false;
        if (total <= c.terms.startFee) return true;
        uint256 elapsed = c.until - c.job.paidUntil;
        return (total - c.job.paid) * 3600 <= c.terms.ratePerHour * elapsed;
    }
}
