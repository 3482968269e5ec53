// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {TokenFixture} from "./utils/TokenFixture.sol";
import {
    BlockingToken,
    GenerousToken,
    HookToken,
    LyingToken,
    RefusingToken,
    SilentToken,
    TaxingToken
} from "./utils/Tokens.sol";

/// Tokens that are not what they should be. Each test deploys a market of its own over one.
contract TokensTest is TokenFixture {
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

    /// A token may turn bad later. Then no money is booked as gone that is still here.
    function test_Attack_TokenThatAnswersFalseOnTheWayOut() public {
        HookToken good = new HookToken();
        _useToken(good);
        Terms memory terms = _cheapTerms();
        _open(terms, 1000);
        vm.prank(publisher);
        payment.fund(publisher, 500);
        _wait(100);
        Bill memory bill = _bill(300, time);
        bytes memory signature = _sign(terms, bill);
        vm.etch(address(good), address(new RefusingToken()).code);
        address[4] memory callers = [publisher, provider, provider, provider];
        bytes[4] memory calls = [
            abi.encodeCall(IEscrow.withdraw, (publisher, 500)),
            abi.encodeCall(IPayment.settle, (terms, bill, signature, true)),
            abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, true)),
            abi.encodeCall(IPayment.claimStartFee, (terms, true))
        ];
        bytes memory reason = abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(good));
        for (uint256 i; i < calls.length; ++i) {
            vm.prank(callers[i]);
            (bool ok, bytes memory answer) = address(payment).call(calls[i]);
            vm.assertEq(ok, false, "refused");
            vm.assertEq(answer, reason, "answer");
            _assertJob(terms, 1000, 0, START, 0);
            _assertBalance(publisher, 500);
            _assertBalance(provider, 0);
        }
        vm.assertEq(good.balanceOf(address(payment)), 1500, "held");
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
}
