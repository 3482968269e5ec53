// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../../contracts/interfaces/IPayment.sol";
import {Bill, CLOSED, Job, Terms} from "../../../contracts/types/Job.sol";
import {Books} from "./Books.sol";
import {ITestToken} from "./ITestToken.sol";

/// @title Market
/// @notice Plays a market with several publishers and providers, an operator, a sponsor, a donor and a thief. Every
/// action can be called at any time with any numbers: it makes sense of them, so that nearly every call moves money.
/// What must never succeed is tried as well, and an action reverts if it does.
contract Market is Books {
    uint96 private constant MAX_DEPOSIT = 1_000_000_000;

    address[2] private publishers = [_account("publisher 1"), _account("publisher 2")];
    address[2] private providers = [_account("provider 1"), _account("provider 2")];
    address private operator = _account("operator");
    address private sponsor = _account("sponsor");
    address private thief = _account("thief");
    address private donor = _account("donor");

    constructor(ITestToken token, IPayment payment, uint256 start) Books(token, payment, start) {
        people = [publishers[0], publishers[1], providers[0], providers[1], operator, sponsor, thief, donor];
        for (uint256 i; i < people.length; ++i) {
            vm.prank(people[i]);
            token.approve(address(payment), type(uint256).max);
            wealth[people[i]] = token.balanceOf(people[i]);
        }
        // The first provider acts by an operator from time to time.
        vm.prank(providers[0]);
        payment.setOperator(operator);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       ACTIONS
    //////////////////////////////////////////////////////////////////////////*/

    function open(uint256 seed, uint96 rate, uint96 fee, uint96 deposit, bool fromBalance) external action("open") {
        _open(seed, rate, fee, deposit, fromBalance);
    }

    function topUp(uint256 seed, uint96 amount) external action("topUp") {
        Record storage job = _pick(seed, true);
        amount = uint96(_bound(amount, 1, MAX_DEPOSIT));
        _mint(sponsor, amount);
        vm.prank(sponsor);
        PAYMENT.topUp(job.id, amount);
        wealth[sponsor] -= amount;
    }

    function fund(uint256 seed, uint96 amount) external action("fund") {
        address account = people[seed % people.length];
        amount = uint96(_bound(amount, 1, MAX_DEPOSIT));
        _mint(sponsor, amount);
        vm.prank(sponsor);
        PAYMENT.fund(account, amount);
        wealth[sponsor] -= amount;
        wealth[account] += amount;
    }

    function withdraw(uint256 seed, uint96 amount) external action("withdraw") {
        address account = people[seed % people.length];
        address to = people[(seed >> 8) % people.length];
        uint256 sent = _bound(amount, 0, PAYMENT.balanceOf(account));
        vm.prank(account);
        PAYMENT.withdraw(to, sent);
        wealth[account] -= sent;
        wealth[to] += sent;
    }

    function donate(uint96 amount) external action("donate") {
        amount = uint96(_bound(amount, 0, 1000));
        _mint(donor, amount);
        vm.prank(donor);
        TOKEN.transfer(address(PAYMENT), amount);
        wealth[donor] -= amount;
        donated += amount;
    }

    function wait(uint32 duration) external action("wait") {
        time += _bound(duration, 1, 3 days);
        vm.warp(time);
    }

    function claimStartFee(uint256 seed, bool payOut) external action("claimStartFee") {
        Record storage job = _pick(seed, false);
        Terms memory terms = job.terms;
        vm.prank(_actor(terms, seed));
        if (terms.startFee <= job.last.paid) {
            vm.expectRevert(abi.encodeWithSelector(IPayment.NothingToPay.selector, job.last.paid));
        } else {
            payments += 1;
            happened["claimStartFee"] += 1;
        }
        PAYMENT.claimStartFee(terms, payOut);
    }

    function settle(uint256 seed, uint96 total, uint32 elapsed, bool payOut) external action("settle") {
        _settle(seed, total, elapsed, payOut, false);
    }

    function settleMore(uint256 seed, uint96 total, uint32 elapsed, bool payOut) external action("settle") {
        _settle(seed, total, elapsed, payOut, false);
    }

    function settleAndClose(uint256 seed, uint96 total, uint32 elapsed, bool payOut) external action("settleAndClose") {
        _settle(seed, total, elapsed, payOut, true);
    }

    function decline(uint256 seed) external action("decline") {
        Terms memory terms = _pick(seed, false).terms;
        vm.prank(_actor(terms, seed));
        PAYMENT.decline(terms);
    }

    function beginClose(uint256 seed) external action("beginClose") {
        Terms memory terms = _pick(seed, true).terms;
        vm.prank(terms.publisher);
        PAYMENT.beginClose(terms);
    }

    function finalize(uint256 seed) external action("finalize") {
        Record storage job = _pick(seed, false);
        Terms memory terms = job.terms;
        if (job.last.closeAt == 0) {
            vm.prank(terms.publisher);
            PAYMENT.beginClose(terms);
        }
        uint256 closeAt = PAYMENT.jobOf(job.id).closeAt;
        if (closeAt > time) {
            vm.warp(closeAt - 1);
            vm.expectRevert(abi.encodeWithSelector(IEscrow.NotYetFinal.selector, closeAt));
            PAYMENT.finalize(terms);
            time = closeAt;
            vm.warp(time);
        }
        vm.prank(thief);
        PAYMENT.finalize(terms);
    }

    /// @dev What nobody may do, tried by everybody who might like to.
    function steal(uint256 seed, uint96 total) external action("steal") {
        Record storage job = _records.length == 0 ? _pick(seed, false) : _records[seed % _records.length];
        Terms memory terms = job.terms;
        Bill memory bill = Bill({cumulative: total, until: uint32(time), usageRoot: 0});
        bytes memory signature = _sign(job.id, bill);
        address[3] memory callers = [terms.publisher, thief, terms.signer];
        bytes4 reason = IEscrow.NotProvider.selector;
        for (uint256 i; i < callers.length; ++i) {
            _refused(callers[i], abi.encodeCall(IPayment.settle, (terms, bill, signature, true)), reason);
            _refused(callers[i], abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, true)), reason);
            _refused(callers[i], abi.encodeCall(IPayment.claimStartFee, (terms, true)), reason);
            _refused(callers[i], abi.encodeCall(IPayment.decline, (terms)), reason);
        }
        reason = IEscrow.NotPublisher.selector;
        _refused(terms.provider, abi.encodeCall(IEscrow.beginClose, (terms)), reason);
        _refused(thief, abi.encodeCall(IEscrow.beginClose, (terms)), reason);
        reason = IEscrow.InsufficientBalance.selector;
        _refused(thief, abi.encodeCall(IEscrow.withdraw, (thief, PAYMENT.balanceOf(thief) + 1)), reason);
        // Nobody loses a deposit to a job that ends.
        if (job.last.closeAt != 0) {
            reason = job.last.closeAt == CLOSED ? IEscrow.JobNotLive.selector : IEscrow.AlreadyClosing.selector;
            _refused(sponsor, abi.encodeCall(IEscrow.topUp, (job.id, 1)), reason);
        }
        // A job id lives once.
        _mint(terms.publisher, MAX_DEPOSIT);
        reason = IEscrow.JobExists.selector;
        _refused(terms.publisher, abi.encodeCall(IEscrow.open, (terms, MAX_DEPOSIT, "")), reason);
        // A signature that nobody gave.
        reason = IPayment.InvalidSignature.selector;
        _refused(terms.provider, abi.encodeCall(IPayment.settle, (terms, bill, new bytes(65), true)), reason);
    }

    /// @dev What those who could do it while the job was live try once it is closed.
    function revive(uint256 seed, uint96 total, bool payOut) external action("revive") {
        Record storage job = _pickClosed(seed);
        Terms memory terms = job.terms;
        time += 1 hours;
        vm.warp(time);
        total = uint96(_bound(total, uint256(job.last.paid) + 1, uint256(MAX_DEPOSIT) * 4));
        Bill memory bill = Bill({cumulative: total, until: uint32(time), usageRoot: 0});
        bytes memory signature = _sign(job.id, bill);
        address provider = terms.provider;
        bytes4 reason = IEscrow.JobNotLive.selector;
        _refused(provider, abi.encodeCall(IPayment.settle, (terms, bill, signature, payOut)), reason);
        _refused(provider, abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, payOut)), reason);
        _refused(provider, abi.encodeCall(IPayment.claimStartFee, (terms, payOut)), reason);
        _refused(provider, abi.encodeCall(IPayment.decline, (terms)), reason);
        _refused(terms.publisher, abi.encodeCall(IEscrow.beginClose, (terms)), reason);
        address anyone = people[seed % people.length];
        _refused(anyone, abi.encodeCall(IEscrow.finalize, (terms)), reason);
        _refused(anyone, abi.encodeCall(IEscrow.topUp, (job.id, 1)), reason);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                    SHARED STEPS
    //////////////////////////////////////////////////////////////////////////*/

    function _open(uint256 seed, uint96 rate, uint96 fee, uint96 deposit, bool fromBalance) private {
        Terms memory terms = Terms({
            publisher: publishers[seed % 2],
            provider: providers[(seed >> 1) % 2],
            signer: _account("signer"),
            ratePerHour: uint96(_bound(rate, 0, 100_000_000)),
            startFee: uint96(_bound(fee, 0, MAX_DEPOSIT / 10)),
            notice: uint32(_bound(seed >> 8, 1 hours, 30 days)),
            window: 0,
            salt: uint64(_records.length),
            bundle: bytes32(seed)
        });
        deposit = uint96(_bound(deposit, terms.startFee == 0 ? 1 : terms.startFee, MAX_DEPOSIT));
        _mint(terms.publisher, deposit);
        if (fromBalance) {
            vm.prank(terms.publisher);
            PAYMENT.fund(terms.publisher, deposit);
            vm.prank(terms.publisher);
            PAYMENT.openFromBalance(terms, deposit, "");
        } else {
            vm.prank(terms.publisher);
            PAYMENT.open(terms, deposit, "");
        }
        wealth[terms.publisher] -= deposit;
        bytes32 id = PAYMENT.jobId(terms);
        Job memory fresh = Job({deposit: deposit, paid: 0, paidUntil: uint32(time), closeAt: 0});
        _records.push(Record({terms: terms, id: id, opened: time, last: fresh}));
        _touched = id;
    }

    /// @dev A live job, or one that is open if it must be. Opens one if there is none.
    function _pick(uint256 seed, bool mustBeOpen) private returns (Record storage) {
        uint256 count = _records.length;
        for (uint256 i; i < count; ++i) {
            Record storage candidate = _records[(seed % count + i) % count];
            uint32 closeAt = candidate.last.closeAt;
            if (closeAt == 0 || (!mustBeOpen && closeAt != CLOSED)) {
                _touched = candidate.id;
                return candidate;
            }
        }
        _open(seed, uint96(seed >> 32), uint96(seed >> 64), uint96(seed >> 96), seed % 3 == 0);
        return _records[count];
    }

    /// @dev A closed job. Closes one if there is none, and none may change otherwise.
    function _pickClosed(uint256 seed) private returns (Record storage picked) {
        uint256 count = _records.length;
        for (uint256 i; i < count; ++i) {
            Record storage candidate = _records[(seed % count + i) % count];
            if (candidate.last.closeAt == CLOSED) return candidate;
        }
        picked = _pick(seed, false);
        vm.prank(_actor(picked.terms, seed));
        PAYMENT.decline(picked.terms);
    }

    /// @dev The signer's signature of a bill.
    function _sign(bytes32 id, Bill memory bill) private view returns (bytes memory) {
        return _signature(_key("signer"), _digest(block.chainid, address(PAYMENT), id, bill));
    }

    /// @dev The provider, or its operator if it has one.
    function _actor(Terms memory terms, uint256 seed) private returns (address) {
        _providerActs = true;
        return terms.provider == providers[0] && seed % 2 == 0 ? operator : terms.provider;
    }

    /// @dev Settles, after a while, a total between nothing and more than is allowed.
    function _settle(uint256 seed, uint96 total, uint32 elapsed, bool payOut, bool close) private {
        Record storage job = _pick(seed, false);
        Terms memory terms = job.terms;
        Job memory state = job.last;
        time += _bound(elapsed, 1, 6 hours);
        vm.warp(time);
        uint256 latest = state.closeAt != 0 && state.closeAt < time ? state.closeAt : time;
        // Most bills run up to now, and the others from before the job was opened to some time ahead.
        uint256 until = seed % 3 != 0 ? latest : _bound(seed >> 16, job.opened - 10, time + 1 hours);
        Bill memory bill = Bill({
            cumulative: uint96(_bound(total, state.paid, uint256(MAX_DEPOSIT) * 2)),
            until: uint32(until),
            usageRoot: bytes32(seed)
        });
        bytes memory signature = _sign(job.id, bill);
        bytes memory call = close
            ? abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, payOut))
            : abi.encodeCall(IPayment.settle, (terms, bill, signature, payOut));
        address actor = _actor(terms, seed);
        bytes4 reason;
        if (until <= state.paidUntil) reason = IPayment.UntilTooEarly.selector;
        else if (until > latest) reason = IPayment.UntilTooLate.selector;
        else if (bill.cumulative <= state.paid) reason = IPayment.NothingToPay.selector;
        else if (_limit(terms, state, bill.until) <= state.paid) reason = IPayment.NothingToPay.selector;
        if (reason != 0) {
            _refused(actor, call, reason);
            return;
        }
        vm.prank(actor);
        (bool ok,) = address(PAYMENT).call(call);
        require(ok, "pays if something is due");
        payments += 1;
        happened[close ? bytes32("settleAndClose") : bytes32("settle")] += 1;
        if (state.closeAt != 0) happened["settle while closing"] += 1;
        if (actor == operator) happened["settle by the operator"] += 1;
    }

    function _limit(Terms memory terms, Job memory state, uint32 until) private pure returns (uint256 limit) {
        limit = state.paid + uint256(terms.ratePerHour) * (until - state.paidUntil) / 3600;
        if (limit < terms.startFee) limit = terms.startFee;
        if (limit > state.deposit) limit = state.deposit;
    }
}
