// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

/// What a wallet pays. Each call is a transaction of its own (`isolate`), all balances it touches are above zero, the
/// allowance is infinite, and salts, bundles and amounts have the size of real ones. Run with `-vv` to see the figures.
contract GasTest is PaymentFixture {
    uint96 private constant REAL_DEPOSIT = 987_654_321;

    function setUp() public override {
        super.setUp();
        // Everybody has tokens outside, and a balance inside.
        token.mint(provider, WEALTH);
        _fund(publisher, 10 * REAL_DEPOSIT);
        _fund(provider, 1e9);
    }

    function test_Gas_Open() public {
        Terms memory terms = _realTerms();
        vm.prank(publisher);
        payment.open(terms, REAL_DEPOSIT, SOURCE);
        _atMost("open", 76_000);
    }

    function test_Gas_OpenFromBalance() public {
        Terms memory terms = _realTerms();
        vm.prank(publisher);
        payment.openFromBalance(terms, REAL_DEPOSIT, SOURCE);
        _atMost("openFromBalance", 62_000);
    }

    function test_Gas_TopUp() public {
        bytes32 job = _id(_running());
        vm.prank(publisher);
        payment.topUp(job, REAL_DEPOSIT);
        _atMost("topUp", 51_000);
    }

    function test_Gas_SettlePaidOut() public {
        Terms memory terms = _running();
        (Bill memory bill, bytes memory signature) = _voucher(terms);
        vm.prank(provider);
        payment.settle(terms, bill, signature, true);
        _atMost("settle, paid out", 58_000);
    }

    function test_Gas_SettleCredited() public {
        Terms memory terms = _running();
        (Bill memory bill, bytes memory signature) = _voucher(terms);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
        _atMost("settle, credited", 48_000);
    }

    function test_Gas_SettleByTheOperator() public {
        Terms memory terms = _running();
        vm.prank(provider);
        payment.setOperator(operator);
        (Bill memory bill, bytes memory signature) = _voucher(terms);
        vm.prank(operator);
        payment.settle(terms, bill, signature, true);
        _atMost("settle by the operator", 60_500);
    }

    function test_Gas_SettleAndClosePaidOut() public {
        Terms memory terms = _running();
        (Bill memory bill, bytes memory signature) = _voucher(terms);
        vm.prank(provider);
        payment.settleAndClose(terms, bill, signature, true);
        _atMost("settleAndClose, paid out", 64_500);
    }

    function test_Gas_SettleAndCloseCredited() public {
        Terms memory terms = _running();
        (Bill memory bill, bytes memory signature) = _voucher(terms);
        vm.prank(provider);
        payment.settleAndClose(terms, bill, signature, false);
        _atMost("settleAndClose, credited", 54_500);
    }

    function test_Gas_ClaimStartFee() public {
        Terms memory terms = _realTerms();
        _open(terms, REAL_DEPOSIT);
        vm.prank(provider);
        payment.claimStartFee(terms, true);
        _atMost("claimStartFee, paid out", 50_000);
    }

    function test_Gas_Decline() public {
        Terms memory terms = _running();
        vm.prank(provider);
        payment.decline(terms);
        _atMost("decline", 39_500);
    }

    function test_Gas_BeginCloseAndFinalize() public {
        Terms memory terms = _running();
        vm.prank(publisher);
        payment.beginClose(terms);
        _atMost("beginClose", 34_000);
        _wait(NOTICE);
        vm.prank(thief);
        payment.finalize(terms);
        _atMost("finalize", 39_500);
    }

    function test_Gas_Withdraw() public {
        vm.prank(publisher);
        payment.withdraw(publisher, 123_456);
        _atMost("withdraw", 46_000);
    }

    /// @dev Terms without a lucky zero.
    function _realTerms() private returns (Terms memory terms) {
        terms = _terms();
        terms.ratePerHour = 123_456_789;
        terms.startFee = 1_234_567;
        terms.salt = uint64(uint256(keccak256(abi.encode(terms.salt))));
        terms.bundle = keccak256(abi.encode("bundle", terms.salt));
    }

    /// @dev A job of which the start fee and a first bill are paid.
    function _running() private returns (Terms memory terms) {
        terms = _realTerms();
        _open(terms, REAL_DEPOSIT);
        vm.prank(provider);
        payment.claimStartFee(terms, true);
        _wait(2 hours);
        _settle(terms, 50_000_000);
        _wait(2 hours);
    }

    function _voucher(Terms memory terms) private view returns (Bill memory bill, bytes memory signature) {
        bill = _bill(99_999_999, time);
        signature = _sign(terms, bill);
    }

    function _atMost(string memory call, uint256 limit) private {
        uint256 used = vm.lastCallGas().gasTotalUsed;
        emit log_named_uint(call, used);
        vm.assertGt(used, 21_000, "a transaction of its own");
        vm.assertLe(used, limit, call);
    }
}
