// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";
import {
    BlockingToken,
    GenerousToken,
    HookToken,
    LyingToken,
    OddToken,
    Reentrant,
    RefusingToken,
    SilentToken,
    TaxingToken
} from "./utils/Tokens.sol";

/// Tokens that are not what they should be. Each test deploys a market of its own over one.
contract TokensTest is PaymentFixture {
    /*//////////////////////////////////////////////////////////////////////////
                                 TOKENS THAT TAX OR LIE
    //////////////////////////////////////////////////////////////////////////*/

    /// A deposit of which a part never arrived would be paid out of the deposits of others.
    function test_Attack_TokenThatTaxes() public {
        _useToken(new TaxingToken());
        _expectNoMoneyIn(abi.encodeWithSelector(IEscrow.TokenAmountMismatch.selector, 990, 1000));
    }

    function test_Attack_TokenThatLies() public {
        _useToken(new LyingToken());
        _expectNoMoneyIn(abi.encodeWithSelector(IEscrow.TokenAmountMismatch.selector, 0, 1000));
    }

    function test_Attack_TokenThatGivesTooMuch() public {
        _useToken(new GenerousToken());
        _expectNoMoneyIn(abi.encodeWithSelector(IEscrow.TokenAmountMismatch.selector, 1001, 1000));
    }

    function test_Attack_TokenThatAnswersFalse() public {
        RefusingToken refusing = new RefusingToken();
        _useToken(refusing);
        _expectNoMoneyIn(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(refusing)));
    }

    function test_Tokens_TopUpChecksTheAmountToo() public {
        HookToken hooked = new HookToken();
        _useToken(hooked);
        Terms memory terms = _cheapTerms();
        _open(terms, 1000);
        vm.etch(address(hooked), address(new TaxingToken()).code);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenAmountMismatch.selector, 990, 1000));
        vm.prank(publisher);
        payment.topUp(_id(terms), 1000);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                  TOKENS THAT SAY NOTHING
    //////////////////////////////////////////////////////////////////////////*/

    function test_Tokens_WorksWithATokenThatReturnsNothing() public {
        SilentToken silent = new SilentToken();
        silent.mint(publisher, 1000);
        payment = _deployPayment(address(silent));
        Terms memory terms = _cheapTerms();
        _open(terms, 1000);
        _wait(100);
        Bill memory bill = _bill(300, time);
        bytes memory signature = _sign(terms, bill);
        vm.prank(provider);
        payment.settleAndClose(terms, bill, signature, true);
        vm.prank(publisher);
        payment.withdraw(publisher, 700);
        vm.assertEq(silent.balanceOf(provider), 300, "provider");
        vm.assertEq(silent.balanceOf(publisher), 700, "publisher");
    }

    /*//////////////////////////////////////////////////////////////////////////
                                  TOKENS THAT BLOCK
    //////////////////////////////////////////////////////////////////////////*/

    function test_Attack_BlockedProviderIsCreditedInstead() public {
        BlockingToken blocking = new BlockingToken();
        _useToken(blocking);
        Terms memory terms = _cheapTerms();
        _open(terms, 1000);
        blocking.block_(provider);
        _wait(100);
        Bill memory bill = _bill(300, time);
        bytes memory signature = _sign(terms, bill);
        vm.expectRevert(abi.encodeWithSelector(BlockingToken.Blocked.selector, provider));
        vm.prank(provider);
        payment.settle(terms, bill, signature, true);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
        vm.prank(provider);
        payment.withdraw(sponsor, 300);
        vm.assertEq(blocking.balanceOf(sponsor), 300, "sponsor");
    }

    /// Refunds are credits, so nobody who is blocked keeps a job from being closed.
    function test_Attack_BlockedPublisherCannotStopAClose() public {
        BlockingToken blocking = new BlockingToken();
        _useToken(blocking);
        Terms memory first = _cheapTerms();
        Terms memory second = _cheapTerms();
        _open(first, 1000);
        _open(second, 1000);
        blocking.block_(publisher);
        _decline(first);
        _beginClose(second);
        _wait(NOTICE);
        payment.finalize(second);
        _assertBalance(publisher, 2000);
        vm.prank(publisher);
        payment.withdraw(sponsor, 2000);
        vm.assertEq(blocking.balanceOf(sponsor), 2000, "sponsor");
    }

    /*//////////////////////////////////////////////////////////////////////////
                                    REENTRANCY
    //////////////////////////////////////////////////////////////////////////*/

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

    /*//////////////////////////////////////////////////////////////////////////
                                     DONATIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// Tokens that were sent by mistake change nothing for anybody.
    function test_Attack_DonateTokens() public {
        Terms memory terms = _open();
        vm.prank(thief);
        token.transfer(address(payment), 12_345);
        Terms memory other = _open();
        _wait(100);
        _settle(terms, 90_000);
        _decline(terms);
        _decline(other);
        vm.prank(publisher);
        payment.withdraw(publisher, 2 * DEPOSIT - 90_000);
        vm.prank(provider);
        payment.withdraw(provider, 90_000);
        _assertTokens(address(payment), 12_345);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                    SHARED STEPS
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev A market over another token, of which the publisher has enough.
    function _useToken(OddToken odd) private {
        payment = _deployPayment(address(odd));
        odd.mint(publisher, 1_000_000);
        vm.prank(publisher);
        odd.approve(address(payment), type(uint256).max);
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

    /// @dev Ten units per second, so that a deposit of 1000 is enough.
    function _cheapTerms() private returns (Terms memory terms) {
        terms = _terms();
        terms.ratePerHour = 36_000;
        terms.startFee = 10;
    }

    function _expectNoMoneyIn(bytes memory reason) private {
        Terms memory terms = _cheapTerms();
        vm.expectRevert(reason);
        vm.prank(publisher);
        payment.open(terms, 1000, "");
        vm.expectRevert(reason);
        vm.prank(publisher);
        payment.fund(publisher, 1000);
        _assertJob(terms, 0, 0, 0, 0);
        _assertBalance(publisher, 0);
    }

    function _assertRefused(Reentrant attacker) private view {
        vm.assertEq(attacker.attack().length, 0, "tried");
        vm.assertEq(attacker.succeeded(), false, "refused");
        bytes4 reason = ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector;
        vm.assertEq(attacker.answer(), abi.encodeWithSelector(reason), "answer");
    }
}
