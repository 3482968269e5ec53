// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../../contracts/interfaces/IPayment.sol";
import {Bill, CLOSED, Job, Terms} from "../../../contracts/types/Job.sol";
import {ITestToken} from "./ITestToken.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title Market
/// @notice Plays a market with several publishers and providers, an operator, a sponsor, a donor and a thief, and keeps
/// books of its own. Every action can be called at any time with any numbers: it makes sense of them, so that nearly
/// every call moves money. What must never succeed is tried as well, and an action reverts if it does.
contract Market is Vouchers {
    /// A job, and what the books say about it.
    struct Record {
        Terms terms;
        bytes32 id;
        uint256 opened;
        Job last;
    }

    uint96 private constant MAX_DEPOSIT = 1_000_000_000;

    ITestToken private immutable TOKEN;
    IPayment private immutable PAYMENT;

    address[] public people;
    address[2] private publishers = [_account("publisher 1"), _account("publisher 2")];
    address[2] private providers = [_account("provider 1"), _account("provider 2")];
    address private operator = _account("operator");
    address private sponsor = _account("sponsor");
    address private thief = _account("thief");
    address private donor = _account("donor");

    uint256 public time;
    Record[] private _records;

    /// Tokens that belong to nobody.
    uint256 public donated;

    /// How often each action was called, how often somebody was paid, and how often a job was closed.
    mapping(bytes32 action => uint256 times) public done;
    uint256 public calls;
    uint256 public payments;
    uint256 public closes;

    /// Whether the current action is one of a provider.
    bool private _providerActs;

    constructor(ITestToken token, IPayment payment, uint256 start) {
        TOKEN = token;
        PAYMENT = payment;
        time = start;
        people = [publishers[0], publishers[1], providers[0], providers[1], operator, sponsor, thief, donor];
        for (uint256 i; i < people.length; ++i) {
            vm.prank(people[i]);
            token.approve(address(payment), type(uint256).max);
        }
        // The first provider acts by an operator from time to time.
        vm.prank(providers[0]);
        payment.setOperator(operator);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       BOOKS
    //////////////////////////////////////////////////////////////////////////*/

    function jobCount() external view returns (uint256) {
        return _records.length;
    }

    function record(uint256 index) external view returns (Record memory) {
        return _records[index];
    }

    function peopleCount() external view returns (uint256) {
        return people.length;
    }

    /// @dev Sets the clock before an action, and compares every job with its last state after it.
    modifier action(bytes32 name) {
        // Forge does not keep the time between calls of a handler.
        vm.warp(time);
        calls += 1;
        _;
        done[name] += 1;
        _compare();
        _providerActs = false;
    }

    /// @dev The only transitions there may be.
    function _compare() private {
        for (uint256 i; i < _records.length; ++i) {
            Job memory last = _records[i].last;
            Job memory job = PAYMENT.jobOf(_records[i].id);
            if (last.closeAt == CLOSED) {
                require(keccak256(abi.encode(job)) == keccak256(abi.encode(last)), "closed is final");
                continue;
            }
            require(job.paid >= last.paid && job.paidUntil >= last.paidUntil, "never back");
            if (job.paid != last.paid || job.paidUntil != last.paidUntil) {
                require(_providerActs, "only the provider moves paid");
            }
            if (job.closeAt == CLOSED) {
                require(job.deposit == job.paid, "tombstone");
            } else {
                require(job.deposit >= last.deposit, "deposits only grow");
                require(last.closeAt == 0 || job.closeAt == last.closeAt, "notice never moves");
                require(last.closeAt == 0 || job.deposit == last.deposit, "nothing is added while closing");
            }
            _records[i].last = job;
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       ACTIONS
    //////////////////////////////////////////////////////////////////////////*/

    function open(uint256 seed, uint96 rate, uint96 fee, uint96 deposit, bool fromBalance) external action("open") {
        _open(seed, rate, fee, deposit, fromBalance);
    }

    function topUp(uint256 seed, uint96 amount) external action("topUp") {
        Record storage job = _pick(seed, true);
        amount = uint96(_bound(amount, 0, MAX_DEPOSIT));
        TOKEN.mint(sponsor, amount);
        vm.prank(sponsor);
        PAYMENT.topUp(job.id, amount);
    }

    function fund(uint256 seed, uint96 amount) external action("fund") {
        address account = people[seed % people.length];
        amount = uint96(_bound(amount, 0, MAX_DEPOSIT));
        TOKEN.mint(sponsor, amount);
        vm.prank(sponsor);
        PAYMENT.fund(account, amount);
    }

    function withdraw(uint256 seed, uint96 amount) external action("withdraw") {
        address account = people[seed % people.length];
        uint256 balance = PAYMENT.balanceOf(account);
        vm.prank(account);
        PAYMENT.withdraw(people[(seed >> 8) % people.length], _bound(amount, 0, balance));
    }

    function donate(uint96 amount) external action("donate") {
        amount = uint96(_bound(amount, 0, 1000));
        TOKEN.mint(donor, amount);
        vm.prank(donor);
        TOKEN.transfer(address(PAYMENT), amount);
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
        closes += 1;
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
        closes += 1;
    }

    /// @dev What nobody may do, tried by everybody who might like to.
    function steal(uint256 seed, uint96 total) external action("steal") {
        Record storage job = _records.length == 0 ? _pick(seed, false) : _records[seed % _records.length];
        Terms memory terms = job.terms;
        Bill memory bill = Bill({cumulative: total, until: uint32(time), usageRoot: 0});
        bytes memory signature = _signature(_key("signer"), _digest(block.chainid, address(PAYMENT), job.id, bill));
        address[3] memory callers = [terms.publisher, thief, terms.signer];
        for (uint256 i; i < callers.length; ++i) {
            _refused(callers[i], abi.encodeCall(IPayment.settle, (terms, bill, signature, true)));
            _refused(callers[i], abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, true)));
            _refused(callers[i], abi.encodeCall(IPayment.claimStartFee, (terms, true)));
            _refused(callers[i], abi.encodeCall(IPayment.decline, (terms)));
        }
        _refused(terms.provider, abi.encodeCall(IEscrow.beginClose, (terms)));
        _refused(thief, abi.encodeCall(IEscrow.beginClose, (terms)));
        _refused(thief, abi.encodeCall(IEscrow.withdraw, (thief, PAYMENT.balanceOf(thief) + 1)));
        // Nobody loses a deposit to a job that ends.
        if (job.last.closeAt != 0) _refused(sponsor, abi.encodeCall(IEscrow.topUp, (job.id, 1)));
        // A job id lives once.
        TOKEN.mint(terms.publisher, 1_000_000_000);
        _refused(terms.publisher, abi.encodeCall(IEscrow.open, (terms, 1_000_000_000, "")));
        // A signature that nobody gave.
        _refused(terms.provider, abi.encodeCall(IPayment.settle, (terms, bill, new bytes(65), true)));
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
        TOKEN.mint(terms.publisher, deposit);
        if (fromBalance) {
            vm.prank(terms.publisher);
            PAYMENT.fund(terms.publisher, deposit);
            vm.prank(terms.publisher);
            PAYMENT.openFromBalance(terms, deposit, "");
        } else {
            vm.prank(terms.publisher);
            PAYMENT.open(terms, deposit, "");
        }
        bytes32 id = PAYMENT.jobId(terms);
        _records.push(Record({terms: terms, id: id, opened: time, last: PAYMENT.jobOf(id)}));
    }

    /// @dev A live job, or one that is open if it must be. Opens one if there is none.
    function _pick(uint256 seed, bool mustBeOpen) private returns (Record storage) {
        uint256 count = _records.length;
        for (uint256 i; i < count; ++i) {
            Record storage candidate = _records[(seed % count + i) % count];
            uint32 closeAt = candidate.last.closeAt;
            if (closeAt == 0 || (!mustBeOpen && closeAt != CLOSED)) return candidate;
        }
        _open(seed, uint96(seed >> 32), uint96(seed >> 64), uint96(seed >> 96), seed % 3 == 0);
        return _records[count];
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
        bytes memory signature = _signature(_key("signer"), _digest(block.chainid, address(PAYMENT), job.id, bill));
        bool due = until > state.paidUntil && until <= latest && bill.cumulative > state.paid
            && _limit(terms, state, bill.until) > state.paid;
        address actor = _actor(terms, seed);
        bytes memory call = close
            ? abi.encodeCall(IPayment.settleAndClose, (terms, bill, signature, payOut))
            : abi.encodeCall(IPayment.settle, (terms, bill, signature, payOut));
        vm.prank(actor);
        (bool ok,) = address(PAYMENT).call(call);
        require(ok == due, "pays exactly if something is due");
        if (ok) payments += 1;
        if (ok && close) closes += 1;
    }

    function _limit(Terms memory terms, Job memory state, uint32 until) private pure returns (uint256 limit) {
        limit = state.paid + uint256(terms.ratePerHour) * (until - state.paidUntil) / 3600;
        if (limit < terms.startFee) limit = terms.startFee;
        if (limit > state.deposit) limit = state.deposit;
    }

    function _refused(address caller, bytes memory data) private {
        vm.prank(caller);
        (bool ok,) = address(PAYMENT).call(data);
        require(!ok, "must be refused");
    }
}
