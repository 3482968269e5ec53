// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CLOSED, Job} from "../../contracts/types/Job.sol";
import {Market} from "./utils/Market.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

/// The laws of README.md beside this file, after any history of the market.
contract ConservationInvariantTest is PaymentFixture {
    Market private market;

    function setUp() public override {
        super.setUp();
        market = new Market(token, payment, START);
    }

    /// @dev Asked by forge: what to call.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(market);
    }

    /// Every token is somebody's: bound to a live job, in a balance, or given away.
    function invariant_TokensAreConserved() public view {
        uint256 owed = market.donated();
        for (uint256 i; i < market.jobCount(); ++i) {
            Job memory job = payment.jobOf(market.record(i).id);
            owed += job.deposit - job.paid;
        }
        for (uint256 i; i < market.peopleCount(); ++i) {
            owed += payment.balanceOf(market.people(i));
        }
        vm.assertEq(token.balanceOf(address(payment)), owed, "tokens");
    }

    /// No job pays more than its deposit, nor more than start fee and rate allow for its time, nor for time to come.
    /// Once it is closed nothing is left in it.
    function invariant_JobsStayWithinTheirLimits() public view {
        for (uint256 i; i < market.jobCount(); ++i) {
            Market.Record memory record = market.record(i);
            Job memory job = payment.jobOf(record.id);
            vm.assertLe(job.paid, job.deposit, "deposit");
            uint256 accrued = uint256(record.terms.ratePerHour) * (job.paidUntil - record.opened) / 3600;
            vm.assertLe(job.paid, record.terms.startFee + accrued, "start fee and rate");
            vm.assertLe(job.paidUntil, market.time(), "time");
            vm.assertLe(record.opened, job.paidUntil, "never zero");
            if (job.closeAt == CLOSED) vm.assertEq(job.deposit, job.paid, "closed");
            else if (job.closeAt != 0) vm.assertLe(job.paidUntil, job.closeAt, "notice");
        }
    }

    /// Every publisher can get out what was not paid, within its notice, whatever anybody else does.
    function invariant_EveryPublisherCanLeave() public {
        for (uint256 i; i < market.jobCount(); ++i) {
            Market.Record memory record = market.record(i);
            Job memory job = payment.jobOf(record.id);
            if (job.closeAt == CLOSED) continue;
            address owner = record.terms.publisher;
            uint256 balance = payment.balanceOf(owner) + job.deposit - job.paid;
            uint256 tokens = token.balanceOf(owner);

            uint256 snapshot = vm.snapshotState();
            vm.warp(market.time());
            if (job.closeAt == 0) _beginClose(record.terms);
            uint256 closeAt = payment.jobOf(record.id).closeAt;
            vm.assertLe(closeAt, market.time() + record.terms.notice, "within the notice");
            vm.warp(closeAt > market.time() ? closeAt : market.time());
            vm.prank(owner);
            payment.finalize(record.terms);
            _assertBalance(owner, balance);
            vm.prank(owner);
            payment.withdraw(owner, balance);
            _assertTokens(owner, tokens + balance);
            vm.revertToState(snapshot);
        }
    }

    /// Forge calls this after each history. A market in which nothing happens would satisfy every law.
    function afterInvariant() external view {
        if (market.calls() < 40) return; // Forge shortens a history that broke a law.
        vm.assertGt(market.closes(), 0, "some job was closed");
        uint256 bills = market.done("settle") + market.done("settleAndClose");
        if (bills + market.done("claimStartFee") < 15) return; // Not every history asks often enough.
        vm.assertGt(market.payments(), 0, "somebody was paid");
    }

    /// The same market, driven by a fixed sequence: every action does what it is for, and often.
    function test_Market_ReachesEverything() public {
        bytes32[14] memory names = [
            bytes32("open"),
            "topUp",
            "fund",
            "withdraw",
            "donate",
            "wait",
            "claimStartFee",
            "settle",
            "settleAndClose",
            "decline",
            "beginClose",
            "finalize",
            "steal",
            "revive"
        ];
        for (uint256 i; i < 420; ++i) {
            uint256 seed = uint256(keccak256(abi.encode(i)));
            _act(names[(seed >> 200) % names.length], seed);
        }
        for (uint256 i; i < names.length; ++i) {
            vm.assertGt(market.done(names[i]), 10, "each action");
        }
        bytes32[5] memory happened =
            [bytes32("claimStartFee"), "settle", "settleAndClose", "settle while closing", "settle by the operator"];
        for (uint256 i; i < happened.length; ++i) {
            vm.assertGt(market.happened(happened[i]), 5, "each success");
        }
        vm.assertGt(market.payments(), 40, "payments");
        vm.assertGt(market.closes(), 40, "closes");
        invariant_TokensAreConserved();
        invariant_JobsStayWithinTheirLimits();
        invariant_EveryPublisherCanLeave();
    }

    function _act(bytes32 name, uint256 seed) private {
        uint96 amount = uint96(seed >> 100);
        uint32 duration = uint32(seed >> 60);
        bool flag = (seed >> 50) % 2 == 0;
        if (name == "open") market.open(seed, amount, uint96(seed >> 20), uint96(seed >> 40), flag);
        else if (name == "topUp") market.topUp(seed, amount);
        else if (name == "fund") market.fund(seed, amount);
        else if (name == "withdraw") market.withdraw(seed, amount);
        else if (name == "donate") market.donate(amount);
        else if (name == "wait") market.wait(duration);
        else if (name == "claimStartFee") market.claimStartFee(seed, flag);
        else if (name == "settle") market.settle(seed, amount, duration, flag);
        else if (name == "settleAndClose") market.settleAndClose(seed, amount, duration, flag);
        else if (name == "decline") market.decline(seed);
        else if (name == "beginClose") market.beginClose(seed);
        else if (name == "finalize") market.finalize(seed);
        else if (name == "steal") market.steal(seed, amount);
        else market.revive(seed, amount, flag);
    }
}
