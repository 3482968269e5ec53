// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

contract StartFeeTest is PaymentFixture {
    function test_ClaimStartFee_PaysOut() public {
        Terms memory terms = _open();
        vm.prank(provider);
        payment.claimStartFee(terms, true);
        _assertJob(terms, DEPOSIT, START_FEE, START, 0);
        _assertTokens(provider, START_FEE);
        _assertBalance(provider, 0);
    }

    function test_ClaimStartFee_Credits() public {
        Terms memory terms = _open();
        _claim(terms);
        _assertJob(terms, DEPOSIT, START_FEE, START, 0);
        _assertTokens(provider, 0);
        _assertBalance(provider, START_FEE);
    }

    function test_ClaimStartFee_EmitsStartFeePaid() public {
        Terms memory terms = _open();
        vm.expectEmit(address(payment));
        emit IPayment.StartFeePaid(_id(terms), START_FEE);
        _claim(terms);
    }

    /// The event tells the total, not what this call added.
    function test_ClaimStartFee_EmitsTheTotalAfterASmallerBill() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 100_000);
        vm.expectEmit(address(payment));
        emit IPayment.StartFeePaid(_id(terms), START_FEE);
        _claim(terms);
    }

    function test_ClaimStartFee_DoesNotMoveTime() public {
        Terms memory terms = _open();
        _wait(1000);
        _claim(terms);
        _assertJob(terms, DEPOSIT, START_FEE, START, 0);
    }

    function test_ClaimStartFee_TakesAllOfADepositThatIsNoMore() public {
        Terms memory terms = _terms();
        _open(terms, START_FEE);
        _claim(terms);
        _assertJob(terms, START_FEE, START_FEE, START, 0);
    }

    /// The fee is prepaid: a bill of the first 500 seconds contains it.
    function test_StartFee_IsAPartOfTheBill() public {
        Terms memory terms = _open();
        _claim(terms);
        _wait(500);
        _settle(terms, 500_000);
        _assertBalance(provider, 500_000);
    }

    /// A first bill as high as the fee passes the rate cap, whether or not the fee was taken before.
    function test_StartFee_LiftsTheCapOfTheFirstBill() public {
        Terms memory terms = _open();
        _wait(1);
        _settle(terms, START_FEE + 1);
        _assertBalance(provider, START_FEE);
    }

    /// Once it is paid it lifts no cap: the rate counts from what was paid.
    function test_StartFee_IsNotPaidTwiceByABill() public {
        Terms memory terms = _open();
        _claim(terms);
        _wait(10);
        _settle(terms, 2 * START_FEE);
        _assertBalance(provider, START_FEE + 10_000);
    }

    function test_ClaimStartFee_PaysWhatASmallerBillLeft() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 100_000);
        _claim(terms);
        _assertJob(terms, DEPOSIT, START_FEE, time, 0);
        _assertBalance(provider, START_FEE);
    }

    /// Otherwise the publisher would take the first interval for nothing by leaving at once.
    function test_ClaimStartFee_WorksDuringTheNotice() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _wait(NOTICE);
        _claim(terms);
        _assertJob(terms, DEPOSIT, START_FEE, START, START + NOTICE);
    }

    function test_ClaimStartFee_ByTheOperatorPaysTheProvider() public {
        Terms memory terms = _open();
        vm.prank(provider);
        payment.setOperator(operator);
        vm.prank(operator);
        payment.claimStartFee(terms, true);
        _assertTokens(provider, START_FEE);
        _assertTokens(operator, 0);
    }

    function test_RevertGiven_TheFeeWasTaken() public {
        Terms memory terms = _open();
        _claim(terms);
        _expectNotClaimed(terms, provider, abi.encodeWithSelector(IPayment.NothingToPay.selector, START_FEE));
    }

    function test_RevertGiven_ABillPaidAsMuch() public {
        Terms memory terms = _open();
        _wait(400);
        _settle(terms, START_FEE);
        _expectNotClaimed(terms, provider, abi.encodeWithSelector(IPayment.NothingToPay.selector, START_FEE));
    }

    function test_RevertGiven_ThereIsNoFee() public {
        Terms memory terms = _terms();
        terms.startFee = 0;
        _open(terms, DEPOSIT);
        _expectNotClaimed(terms, provider, abi.encodeWithSelector(IPayment.NothingToPay.selector, 0));
    }

    function test_RevertGiven_TheJobNeverWas() public {
        Terms memory terms = _terms();
        _expectNotClaimed(terms, provider, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertGiven_TheJobIsClosed() public {
        Terms memory terms = _open();
        _decline(terms);
        _expectNotClaimed(terms, provider, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function test_RevertWhen_TheCallerIsNotTheProvider() public {
        Terms memory terms = _open();
        address[4] memory others = [publisher, signer, operator, thief];
        for (uint256 i; i < others.length; ++i) {
            _expectNotClaimed(terms, others[i], abi.encodeWithSelector(IEscrow.NotProvider.selector, others[i]));
        }
    }

    /// Terms that name the thief as provider are another job.
    function test_Attack_ClaimTheFeeWithForgedTerms() public {
        Terms memory terms = _open();
        terms.provider = thief;
        _expectNotClaimed(terms, thief, abi.encodeWithSelector(IEscrow.JobNotLive.selector, _id(terms)));
    }

    function testFuzz_StartFee_IsPaidOnceInAnyOrder(uint96 fee, uint96 bill, uint32 elapsed, bool first) public {
        Terms memory terms = _terms();
        terms.startFee = uint96(_bound(fee, 1, DEPOSIT));
        _open(terms, DEPOSIT);
        _wait(_bound(elapsed, 1, 20_000));
        uint256 total = _bound(bill, terms.startFee, DEPOSIT);
        if (first) _claim(terms);
        uint256 byRate = (first ? terms.startFee : 0) + (time - START) * 1000;
        uint256 cap = byRate > terms.startFee ? byRate : terms.startFee;
        uint256 expected = total < cap ? total : cap;
        if (!first || expected > terms.startFee) _settle(terms, total);
        _assertBalance(provider, expected);
    }

    function _claim(Terms memory terms) private {
        vm.prank(provider);
        payment.claimStartFee(terms, false);
    }

    function _expectNotClaimed(Terms memory terms, address caller, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(caller);
        payment.claimStartFee(terms, false);
    }
}
