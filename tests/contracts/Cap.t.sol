// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Job, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

/// How much a signed bill can be worth.
contract CapTest is PaymentFixture {
    /// With a cap that refuses, a bill a few units too high could never be settled.
    function test_Attack_BillAboveTheCapIsCutAndTheRestStaysDue() public {
        Terms memory terms = _open();
        _wait(400);
        _settle(terms, 1_000_000);
        _assertJob(terms, DEPOSIT, 400_000, time, 0);
        _wait(900);
        _settle(terms, 1_000_000);
        _assertJob(terms, DEPOSIT, 1_000_000, time, 0);
    }

    function test_Attack_BillAboveTheDepositPaysTheDeposit() public {
        Terms memory terms = _open();
        _wait(12_000);
        _settle(terms, DEPOSIT - 1);
        _wait(10);
        _settle(terms, DEPOSIT + 1);
        _assertJob(terms, DEPOSIT, DEPOSIT, time, 0);
    }

    /// A payment uses up the time of its bill, even if the deposit cut it: what was cut never catches up with full rate.
    function test_Settle_UsesUpTheTimeOfABillThatTheDepositCut() public {
        Terms memory terms = _open();
        _wait(12_000);
        _settle(terms, 12_000_000);
        _assertJob(terms, DEPOSIT, DEPOSIT, time, 0);
        vm.prank(sponsor);
        payment.topUp(_id(terms), 50_000_000);
        for (uint256 i = 1; i <= 10; ++i) {
            _wait(1000);
            _settle(terms, 12_000_000 + i * 1_000_000);
        }
        // The signer accepted 22 million.
        _assertJob(terms, DEPOSIT + 50_000_000, 20_000_000, time, 0);
        _assertBalance(provider, 20_000_000);
    }

    /// Small jobs: 500 units per hour is nothing for 7 seconds, and one unit for 8.
    function test_Settle_RoundsTheCapDown() public {
        Terms memory terms = _terms();
        terms.ratePerHour = 500;
        terms.startFee = 0;
        _open(terms, DEPOSIT);
        _wait(7);
        _expectNotSettled(terms, _bill(1, time), abi.encodeWithSelector(IPayment.NothingToPay.selector, 0));
        _wait(1);
        _settle(terms, 2);
        _assertBalance(provider, 1);
    }

    /// An hour pays exactly the rate, whatever the token's decimals.
    function test_Settle_PaysTheRateInAnHour() public {
        Terms memory terms = _terms();
        terms.ratePerHour = 501;
        terms.startFee = 0;
        _open(terms, DEPOSIT);
        _wait(3600);
        _settle(terms, DEPOSIT);
        _assertBalance(provider, 501);
    }

    function test_Settle_WithoutARatePaysOnlyTheStartFee() public {
        Terms memory terms = _terms();
        terms.ratePerHour = 0;
        _open(terms, DEPOSIT);
        _wait(30 days);
        _settle(terms, DEPOSIT);
        _assertBalance(provider, START_FEE);
        _wait(1);
        _expectNotSettled(
            terms, _bill(DEPOSIT, time), abi.encodeWithSelector(IPayment.NothingToPay.selector, START_FEE)
        );
    }

    function test_Settle_CannotOverflow() public {
        Terms memory terms = _terms();
        terms.ratePerHour = type(uint96).max;
        terms.startFee = 0;
        token.mint(publisher, type(uint96).max);
        _open(terms, type(uint96).max);
        vm.warp(2 ** 32 - 1);
        _settle(terms, _bill(type(uint96).max, 2 ** 32 - 1));
        _assertBalance(provider, type(uint96).max);
    }

    /// The cap limits the speed, not the total: this is what `open` warns of.
    function test_Settle_IdleTimeAddsUpToTheWholeDeposit() public {
        Terms memory terms = _open();
        _wait(10_000);
        _settle(terms, type(uint96).max);
        _assertJob(terms, DEPOSIT, DEPOSIT, time, 0);
    }

    /// The thief has the signer's key and the provider, and tries any history.
    function testFuzz_Attack_StolenSignerKeyTakesAtMostRateAndFee(
        uint96 rate,
        uint96 fee,
        uint32[6] calldata gaps,
        uint32[6] calldata lags,
        uint96[6] calldata totals,
        bool claim
    ) public {
        Terms memory terms = _terms();
        terms.ratePerHour = uint96(_bound(rate, 0, 100_000_000));
        terms.startFee = uint96(_bound(fee, 0, DEPOSIT));
        _open(terms, DEPOSIT);
        if (claim && terms.startFee != 0) {
            vm.prank(provider);
            payment.claimStartFee(terms, false);
        }
        for (uint256 i; i < 6; ++i) {
            _wait(_bound(gaps[i], 1, 3000));
            Bill memory bill = _bill(_bound(totals[i], 0, 2 * uint256(DEPOSIT)), time - lags[i] % 100);
            bytes memory signature = _sign(terms, bill);
            Job memory before = _job(terms);
            bool due = _isDue(terms, before, bill);
            vm.prank(provider);
            (bool ok,) = address(payment).call(abi.encodeCall(IPayment.settle, (terms, bill, signature, false)));
            vm.assertEq(ok, due, "pays exactly if something is due");

            Job memory job = _job(terms);
            if (due) vm.assertGt(job.paid, before.paid, "paid");
            vm.assertLe(job.paid, job.deposit, "deposit");
            uint256 accrued = uint256(terms.ratePerHour) * (job.paidUntil - START) / 3600;
            vm.assertLe(job.paid, terms.startFee + accrued, "rate and fee");
            vm.assertLe(job.paidUntil, time, "time");
            _assertBalance(provider, job.paid);
        }
    }

    /// @dev Whether a bill that is not dated ahead adds time, and its total and every limit exceed what was paid.
    function _isDue(Terms memory terms, Job memory job, Bill memory bill) private pure returns (bool) {
        if (bill.until <= job.paidUntil || bill.cumulative <= job.paid || job.deposit <= job.paid) return false;
        return terms.startFee > job.paid || uint256(terms.ratePerHour) * (bill.until - job.paidUntil) >= 3600;
    }
}
