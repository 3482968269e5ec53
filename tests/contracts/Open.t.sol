// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {Job, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";
import {Vm} from "./utils/Vm.sol";

contract OpenTest is PaymentFixture {
    /*//////////////////////////////////////////////////////////////////////////
                                       OPEN
    //////////////////////////////////////////////////////////////////////////*/

    function test_Open_WritesTheSlotAndPullsTheDeposit() public {
        Terms memory terms = _terms();
        vm.prank(publisher);
        bytes32 job = payment.open(terms, DEPOSIT, SOURCE);

        vm.assertEq(job, _id(terms), "id");
        _assertJob(terms, DEPOSIT, 0, START, 0);
        _assertTokens(publisher, WEALTH - DEPOSIT);
        _assertTokens(address(payment), DEPOSIT);
    }

    function test_Open_UsesOneSlotAsDrawn() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 77_777);
        _beginClose(terms);
        Job memory drawn =
            Job({deposit: DEPOSIT, paid: 77_777, paidUntil: uint32(time), closeAt: uint32(time + NOTICE)});
        vm.assertEq(vm.load(address(payment), _slotOf(terms)), _pack(drawn), "slot");
    }

    function test_Open_EmitsOpened() public {
        Terms memory terms = _terms();
        vm.expectEmit(address(payment));
        emit IEscrow.Opened(provider, publisher, signer, _id(terms), terms, DEPOSIT, SOURCE);
        vm.prank(publisher);
        payment.open(terms, DEPOSIT, SOURCE);
    }

    function test_Open_EventAloneIsEnoughForEveryOtherCall() public {
        Terms memory terms = _terms();
        vm.recordLogs();
        vm.prank(publisher);
        payment.open(terms, DEPOSIT, SOURCE);
        Vm.Log memory log = vm.getRecordedLogs()[0];

        vm.assertEq(log.topics.length, 4, "topics");
        vm.assertEq(log.topics[0], IEscrow.Opened.selector, "event");
        vm.assertEq(log.topics[1], bytes32(uint256(uint160(provider))), "provider");
        vm.assertEq(log.topics[2], bytes32(uint256(uint160(publisher))), "publisher");
        vm.assertEq(log.topics[3], bytes32(uint256(uint160(signer))), "signer");
        (bytes32 job, Terms memory decoded, uint96 deposit, bytes memory source) =
            abi.decode(log.data, (bytes32, Terms, uint96, bytes));
        vm.assertEq(job, _id(terms), "job");
        vm.assertEq(deposit, DEPOSIT, "deposit");
        vm.assertEq(source, SOURCE, "source");
        vm.prank(provider);
        payment.decline(decoded);
        _assertBalance(publisher, DEPOSIT);
    }

    function test_Open_TakesADepositOfJustTheStartFee() public {
        Terms memory terms = _terms();
        _open(terms, START_FEE);
        _assertJob(terms, START_FEE, 0, START, 0);
    }

    function test_Open_TakesOneUnitWhenThereIsNoStartFee() public {
        Terms memory terms = _terms();
        terms.startFee = 0;
        _open(terms, 1);
        _assertJob(terms, 1, 0, START, 0);
    }

    function test_Open_TakesNoSourceAndTheLongestSource() public {
        Terms memory terms = _terms();
        vm.prank(publisher);
        payment.open(terms, DEPOSIT, "");
        terms = _terms();
        vm.prank(publisher);
        payment.open(terms, DEPOSIT, new bytes(256));
        _assertJob(terms, DEPOSIT, 0, START, 0);
    }

    function test_Open_AllowsOnePartyInAllRoles() public {
        Terms memory terms = _terms();
        terms.provider = publisher;
        terms.signer = publisher;
        _open(terms, DEPOSIT);
        _assertJob(terms, DEPOSIT, 0, START, 0);
    }

    function test_Open_AllowsAProviderThatSignsForItself() public {
        Terms memory terms = _terms();
        terms.signer = provider;
        _open(terms, DEPOSIT);
        _wait(1000);

        bytes memory signature = _signWith(_key("provider"), terms, _bill(1_000_000, time));
        vm.prank(provider);
        payment.settle(terms, _bill(1_000_000, time), signature, false);
        _assertBalance(provider, 1_000_000);
    }

    function test_RevertWhen_TheCallerIsNotThePublisher() public {
        Terms memory terms = _terms();
        address[4] memory others = [provider, signer, sponsor, thief];
        for (uint256 i; i < others.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPublisher.selector, others[i]));
            vm.prank(others[i]);
            payment.open(terms, DEPOSIT, SOURCE);
        }
    }

    function test_RevertWhen_TheProviderIsZero() public {
        Terms memory terms = _terms();
        terms.provider = address(0);
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.ZeroAddress.selector));
    }

    function test_RevertWhen_TheSignerIsZero() public {
        Terms memory terms = _terms();
        terms.signer = address(0);
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.ZeroAddress.selector));
    }

    function test_RevertWhen_TheDepositIsZero() public {
        Terms memory terms = _terms();
        terms.startFee = 0;
        _expectNotOpened(terms, 0, abi.encodeWithSelector(IEscrow.DepositTooSmall.selector, 0, 1));
    }

    function test_RevertWhen_TheDepositIsBelowTheStartFee() public {
        bytes memory reason = abi.encodeWithSelector(IEscrow.DepositTooSmall.selector, START_FEE - 1, START_FEE);
        _expectNotOpened(_terms(), START_FEE - 1, reason);
    }

    function test_RevertWhen_TheSourceIsTooLong() public {
        Terms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.SourceTooLong.selector, 257));
        vm.prank(publisher);
        payment.open(terms, DEPOSIT, new bytes(257));
    }

    function test_RevertWhen_TheAllowanceIsTooSmall() public {
        Terms memory terms = _terms();
        vm.prank(publisher);
        token.approve(address(payment), DEPOSIT - 1);
        bytes memory reason = abi.encodeWithSelector(
            IERC20Errors.ERC20InsufficientAllowance.selector, address(payment), DEPOSIT - 1, DEPOSIT
        );
        _expectNotOpened(terms, DEPOSIT, reason);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                 BOUNDS OF LEAVING
    //////////////////////////////////////////////////////////////////////////*/

    /// A notice near 2^32 made `now + notice` overflow, so that `beginClose` reverted for ever.
    function test_Attack_NoticeThatNeverEnds() public {
        Terms memory terms = _terms();
        terms.notice = type(uint32).max;
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, type(uint32).max));
        terms.notice = 30 days + 1;
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, 30 days + 1));
        terms.notice = 30 days;
        _open(terms, DEPOSIT);
    }

    /// Without a notice, `beginClose` and `finalize` in one block voided every voucher.
    function test_Attack_NoticeThatVoidsVouchersAtOnce() public {
        Terms memory terms = _terms();
        terms.window = 0;
        terms.notice = 0;
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, 0));
        terms.notice = 1 hours - 1;
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, 1 hours - 1));
        terms.notice = 1 hours;
        _open(terms, DEPOSIT);
    }

    /// With a window as long as the notice, no claim could mature after leaving.
    function test_Attack_WindowThatOutlastsTheNotice() public {
        Terms memory terms = _terms();
        terms.window = 12 hours + 1;
        bytes memory reason = abi.encodeWithSelector(IEscrow.WindowOutOfBounds.selector, 12 hours + 1, NOTICE);
        _expectNotOpened(terms, DEPOSIT, reason);
        terms.window = 12 hours;
        _open(terms, DEPOSIT);
    }

    /// A window of a second is one that nobody can use.
    function test_Attack_WindowThatNobodyCanUse() public {
        Terms memory terms = _terms();
        terms.window = 1;
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.WindowOutOfBounds.selector, 1, NOTICE));
        terms.window = 1 hours - 1;
        _expectNotOpened(
            terms, DEPOSIT, abi.encodeWithSelector(IEscrow.WindowOutOfBounds.selector, 1 hours - 1, NOTICE)
        );
        terms.window = 1 hours;
        _open(terms, DEPOSIT);
    }

    function testFuzz_Open_BoundsNoticeAndWindow(uint32 notice, uint32 window, bool near) public {
        // Half of the cases stay where both outcomes are likely.
        Terms memory terms = _terms();
        terms.notice = near ? uint32(_bound(notice, 30 minutes, 31 days)) : notice;
        terms.window = near ? uint32(_bound(window, 0, terms.notice)) : window;
        bool noticeFits = terms.notice >= 3600 && terms.notice <= 2_592_000;
        bool windowFits = terms.window == 0 || (terms.window >= 3600 && uint256(terms.window) * 2 <= terms.notice);
        if (!noticeFits) {
            _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, terms.notice));
        } else if (!windowFits) {
            bytes memory reason = abi.encodeWithSelector(IEscrow.WindowOutOfBounds.selector, terms.window, terms.notice);
            _expectNotOpened(terms, DEPOSIT, reason);
        } else {
            _open(terms, DEPOSIT);
            _beginClose(terms);
            _wait(30 days);
            payment.finalize(terms);
            _assertBalance(publisher, DEPOSIT);
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                OPEN FROM BALANCE
    //////////////////////////////////////////////////////////////////////////*/

    function test_OpenFromBalance_MovesMoneyInside() public {
        _fund(publisher, DEPOSIT + 5);
        Terms memory terms = _terms();
        vm.prank(publisher);
        bytes32 job = payment.openFromBalance(terms, DEPOSIT, SOURCE);

        vm.assertEq(job, _id(terms), "id");
        _assertJob(terms, DEPOSIT, 0, START, 0);
        _assertBalance(publisher, 5);
        _assertTokens(publisher, WEALTH);
        _assertTokens(address(payment), DEPOSIT + 5);
    }

    function test_OpenFromBalance_SpendsTheWholeBalance() public {
        _fund(publisher, DEPOSIT);
        Terms memory terms = _terms();
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
        _assertBalance(publisher, 0);
    }

    function test_OpenFromBalance_EmitsOpened() public {
        _fund(publisher, DEPOSIT);
        Terms memory terms = _terms();
        vm.expectEmit(address(payment));
        emit IEscrow.Opened(provider, publisher, signer, _id(terms), terms, DEPOSIT, SOURCE);
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
    }

    function test_RevertWhen_TheBalanceIsTooSmall() public {
        _fund(publisher, DEPOSIT - 1);
        Terms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, DEPOSIT - 1, DEPOSIT));
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
    }

    function test_RevertWhen_SomebodyOpensFromTheBalanceOfThePublisher() public {
        _fund(publisher, DEPOSIT);
        Terms memory terms = _terms();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotPublisher.selector, thief));
        vm.prank(thief);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
    }

    function test_RevertWhen_OpeningFromBalanceBreaksTheSameBounds() public {
        _fund(publisher, DEPOSIT);
        Terms memory terms = _terms();
        terms.notice = 1;
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NoticeOutOfBounds.selector, 1));
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
    }
}
