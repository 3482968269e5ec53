// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {TokenFixture} from "./utils/TokenFixture.sol";
import {HookToken, Reentrant} from "./utils/Tokens.sol";

/// A token that tells whoever sends or receives it, and somebody who makes a call when it is told.
contract ReentrancyTest is TokenFixture {
    /// While tokens come in, their sender tries to take some out, to put some in, or to be paid.
    function test_Attack_ReenterWhileTokensComeIn() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.publisher = address(attacker);
        terms.provider = address(attacker);
        attacker.act(address(payment), abi.encodeCall(IEscrow.fund, (address(attacker), 1000)));
        bytes memory openCall = abi.encodeCall(IEscrow.open, (terms, 1000, ""));
        terms.salt += 1;
        bytes[5] memory attacks = [
            abi.encodeCall(IEscrow.withdraw, (thief, 500)),
            abi.encodeCall(IEscrow.fund, (address(attacker), 500)),
            abi.encodeCall(IEscrow.open, (terms, 500, "")),
            abi.encodeCall(IEscrow.topUp, (_id(terms), 500)),
            abi.encodeCall(IPayment.claimStartFee, (terms, true))
        ];
        for (uint256 i; i < attacks.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            attacker.prepare(attacks[i]);
            attacker.act(address(payment), openCall);
            _assertRefused(attacker);
            vm.assertEq(hooked.balanceOf(address(payment)), 2000, "held");
            vm.revertToState(snapshot);
        }
    }

    /// While tokens go out, their receiver tries to take them again.
    function test_Attack_ReenterWhileTokensGoOut() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        hooked.mint(sponsor, 1000);
        vm.prank(sponsor);
        hooked.approve(address(payment), 1000);
        _fund(sponsor, 1000);
        attacker.act(address(payment), abi.encodeCall(IEscrow.fund, (address(attacker), 500)));
        bytes memory call = abi.encodeCall(IEscrow.withdraw, (address(attacker), 500));
        attacker.prepare(call);
        attacker.act(address(payment), call);
        _assertRefused(attacker);
        vm.assertEq(hooked.balanceOf(address(payment)), 1000, "held");
    }

    /// A provider that is paid tries to be paid once more, for the start fee or for another bill.
    function test_Attack_ReenterWhileBeingPaid() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.provider = address(attacker);
        terms.startFee = 900;
        _open(terms, 1000);
        _wait(100);
        Bill memory older = _bill(300, time - 50);
        Bill memory newer = _bill(600, time);
        bytes memory settleCall = abi.encodeCall(IPayment.settle, (terms, older, _sign(terms, older), true));
        bytes[4] memory attacks = [
            abi.encodeCall(IPayment.claimStartFee, (terms, true)),
            abi.encodeCall(IPayment.settle, (terms, newer, _sign(terms, newer), true)),
            abi.encodeCall(IPayment.settleAndClose, (terms, newer, _sign(terms, newer), true)),
            abi.encodeCall(IPayment.settleAndClose, (terms, newer, _sign(terms, newer), false))
        ];
        for (uint256 i; i < attacks.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            attacker.prepare(attacks[i]);
            attacker.act(address(payment), settleCall);
            _assertRefused(attacker);
            _assertJob(terms, 1000, 300, time - 50, 0);
            vm.assertEq(hooked.balanceOf(address(payment)), 700, "held");
            vm.revertToState(snapshot);
        }
    }

    /// Calls that move no tokens are not guarded, and gain nothing: what they move is booked already.
    function test_Attack_ReenterACallThatMovesNoTokens() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.publisher = address(attacker);
        terms.provider = address(attacker);
        attacker.prepare(abi.encodeCall(IPayment.decline, (terms)));
        attacker.act(address(payment), abi.encodeCall(IEscrow.open, (terms, 1000, "")));
        vm.assertEq(attacker.succeeded(), true, "declined within open");
        _assertJob(terms, 0, 0, START, 1);
        _assertBalance(address(attacker), 1000);
        vm.assertEq(hooked.balanceOf(address(payment)), 1000, "held");
    }

    /// A provider that closes the job while it is paid for it: what it gets is booked already, so the refund is the rest.
    function test_Attack_CloseTheJobWhileBeingPaid() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.provider = address(attacker);
        terms.startFee = 300;
        _open(terms, 1000);
        _wait(100);
        Bill memory bill = _bill(300, time);
        bytes[2] memory paid = [
            abi.encodeCall(IPayment.settle, (terms, bill, _sign(terms, bill), true)),
            abi.encodeCall(IPayment.claimStartFee, (terms, true))
        ];
        uint256[2] memory paidUntil = [time, START];
        bytes[2] memory closes = [abi.encodeCall(IPayment.decline, (terms)), abi.encodeCall(IEscrow.finalize, (terms))];
        for (uint256 i; i < 4; ++i) {
            uint256 snapshot = vm.snapshotState();
            if (i >= 2) {
                _beginClose(terms);
                vm.warp(time + NOTICE);
            }
            attacker.prepare(closes[i / 2]);
            attacker.act(address(payment), paid[i % 2]);
            vm.assertEq(attacker.succeeded(), true, "closed while being paid");
            _assertJob(terms, 300, 300, paidUntil[i % 2], 1);
            _assertBalance(publisher, 700);
            _assertBalance(address(attacker), 0);
            vm.assertEq(hooked.balanceOf(address(payment)), 700, "held");
            vm.revertToState(snapshot);
        }
    }

    /// A provider that closes the job while a top-up comes in: the top-up is a part of the refund.
    function test_Attack_CloseTheJobWhileATopUpComesIn() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.provider = address(attacker);
        _open(terms, 1000);
        attacker.prepare(abi.encodeCall(IPayment.decline, (terms)));
        attacker.act(address(payment), abi.encodeCall(IEscrow.topUp, (_id(terms), 500)));
        vm.assertEq(attacker.succeeded(), true, "declined within topUp");
        _assertJob(terms, 0, 0, START, 1);
        _assertBalance(publisher, 1500);
        vm.assertEq(hooked.balanceOf(address(payment)), 1500, "held");
    }

    /// A credit can be spent before its tokens have arrived, but then they do arrive, or nothing happened.
    function test_Attack_SpendACreditBeforeItArrives() public {
        (HookToken hooked, Reentrant attacker) = _useHooks();
        Terms memory terms = _cheapTerms();
        terms.publisher = address(attacker);
        attacker.prepare(abi.encodeCall(IEscrow.openFromBalance, (terms, 1000, "")));
        attacker.act(address(payment), abi.encodeCall(IEscrow.fund, (address(attacker), 1000)));
        vm.assertEq(attacker.succeeded(), true, "opened within fund");
        _assertJob(terms, 1000, 0, START, 0);
        _assertBalance(address(attacker), 0);
        vm.assertEq(hooked.balanceOf(address(payment)), 1000, "held");
    }

    /// @dev A market over a token with hooks, and a contract that gets a call when its tokens move.
    function _useHooks() private returns (HookToken hooked, Reentrant attacker) {
        hooked = new HookToken();
        _useToken(hooked);
        attacker = new Reentrant(address(payment));
        hooked.hook(address(attacker));
        hooked.mint(address(attacker), 1_000_000);
        attacker.act(address(hooked), abi.encodeCall(hooked.approve, (address(payment), type(uint256).max)));
    }

    function _assertRefused(Reentrant attacker) private view {
        vm.assertEq(attacker.attack().length, 0, "tried");
        vm.assertEq(attacker.succeeded(), false, "refused");
        bytes4 reason = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
        vm.assertEq(attacker.answer(), abi.encodeWithSelector(reason), "answer");
    }
}
