// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPayment} from "../../../contracts/interfaces/IPayment.sol";
import {Bill, Job, Terms} from "../../../contracts/types/Job.sol";
import {ITestToken} from "./ITestToken.sol";
import {Test} from "./Test.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title PaymentFixture
/// @notice A market with one publisher, one provider and everybody who should not matter.
abstract contract PaymentFixture is Test, Vouchers {
    /// Time of deployment.
    uint256 internal constant START = 1_800_000_000;

    /// 1,000 units per second, so that amounts can be read.
    uint96 internal constant RATE = 3_600_000;

    /// 300 seconds at full rate.
    uint96 internal constant START_FEE = 300_000;

    /// 10,000 seconds at full rate.
    uint96 internal constant DEPOSIT = 10_000_000;

    uint32 internal constant NOTICE = 1 days;

    /// What everybody owns at first.
    uint256 internal constant WEALTH = 1e15;

    bytes internal constant SOURCE = "https://example.org/bundle/";

    ITestToken internal token;
    IPayment internal payment;

    address internal publisher = _account("publisher");
    address internal provider = _account("provider");
    address internal operator = _account("operator");
    address internal signer = _account("signer");
    address internal sponsor = _account("sponsor");
    address internal thief = _account("thief");

    /// The time of the block. The compiler may assume that `block.timestamp` never changes, so tests keep their own.
    uint256 internal time = START;

    uint64 private _salt;

    function setUp() public virtual {
        vm.warp(START);
        token = ITestToken(vm.deployCode("TestToken.sol:TestToken", ""));
        payment = _deployPayment(address(token));
        address[3] memory rich = [publisher, sponsor, thief];
        for (uint256 i; i < rich.length; ++i) {
            token.mint(rich[i], WEALTH);
            vm.prank(rich[i]);
            token.approve(address(payment), type(uint256).max);
        }
    }

    /// @dev The contract as it is deployed: compiled by the settings of the contracts, not of the tests.
    function _deployPayment(address token_) internal returns (IPayment) {
        return IPayment(vm.deployCode("Payment.sol:Payment", abi.encode(token_)));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       VALUES
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Terms that were never used before.
    function _terms() internal returns (Terms memory) {
        return Terms({
            publisher: publisher,
            provider: provider,
            signer: signer,
            ratePerHour: RATE,
            startFee: START_FEE,
            notice: NOTICE,
            window: 6 hours,
            salt: ++_salt,
            bundle: keccak256("bundle")
        });
    }

    /// @dev A bill with a root of its own.
    function _bill(uint256 cumulative, uint256 until) internal pure returns (Bill memory) {
        return Bill({
            cumulative: uint96(cumulative), until: uint32(until), usageRoot: keccak256(abi.encode(cumulative, until))
        });
    }

    /// @dev The id of a job, worked out without the contract.
    function _id(Terms memory terms) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(payment), terms));
    }

    /// @dev The signer's signature of a bill.
    function _sign(Terms memory terms, Bill memory bill) internal view returns (bytes memory) {
        return _signWith(_key("signer"), terms, bill);
    }

    /// @dev Anybody's signature of a bill.
    function _signWith(uint256 key, Terms memory terms, Bill memory bill) internal view returns (bytes memory) {
        return _signature(key, _digest(block.chainid, address(payment), _id(terms), bill));
    }

    /// @dev Where the contract keeps a job: its third storage variable, after `balanceOf` and `operatorOf`.
    function _slotOf(Terms memory terms) internal view returns (bytes32) {
        return keccak256(abi.encode(_id(terms), 2));
    }

    /// @dev What the contract keeps of a job.
    function _pack(Job memory job) internal pure returns (bytes32) {
        return bytes32(abi.encodePacked(job.deposit, job.paid, job.paidUntil, job.closeAt));
    }

    function _job(Terms memory terms) internal view returns (Job memory) {
        return payment.jobOf(_id(terms));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       ACTIONS
    //////////////////////////////////////////////////////////////////////////*/

    function _wait(uint256 duration) internal {
        time += duration;
        vm.warp(time);
    }

    /// @dev Opens a job with these terms and this deposit.
    function _open(Terms memory terms, uint96 deposit) internal {
        vm.prank(terms.publisher);
        payment.open(terms, deposit, SOURCE);
    }

    /// @dev Opens a job like any other.
    function _open() internal returns (Terms memory terms) {
        terms = _terms();
        _open(terms, DEPOSIT);
    }

    /// @dev Tries to open a job as its publisher, who is refused.
    function _expectNotOpened(Terms memory terms, uint96 deposit, bytes memory reason) internal {
        vm.expectRevert(reason);
        vm.prank(publisher);
        payment.open(terms, deposit, SOURCE);
    }

    /// @dev Settles a signed bill, to the balance of the provider.
    function _settle(Terms memory terms, Bill memory bill) internal {
        bytes memory signature = _sign(terms, bill);
        vm.prank(terms.provider);
        payment.settle(terms, bill, signature, false);
    }

    /// @dev Settles a signed total up to now, to the balance of the provider.
    function _settle(Terms memory terms, uint256 cumulative) internal {
        _settle(terms, _bill(cumulative, time));
    }

    /// @dev Tries to settle a signed bill as the provider, who is refused.
    function _expectNotSettled(Terms memory terms, Bill memory bill, bytes memory reason) internal {
        bytes memory signature = _sign(terms, bill);
        vm.expectRevert(reason);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
    }

    function _beginClose(Terms memory terms) internal {
        vm.prank(terms.publisher);
        payment.beginClose(terms);
    }

    function _decline(Terms memory terms) internal {
        vm.prank(terms.provider);
        payment.decline(terms);
    }

    function _fund(address account, uint256 amount) internal {
        vm.prank(sponsor);
        payment.fund(account, amount);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      ASSERTIONS
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev All four fields of a job.
    function _assertJob(Terms memory terms, uint256 deposit, uint256 paid, uint256 paidUntil, uint256 closeAt)
        internal
        view
    {
        Job memory job = _job(terms);
        vm.assertEq(job.deposit, deposit, "deposit");
        vm.assertEq(job.paid, paid, "paid");
        vm.assertEq(job.paidUntil, paidUntil, "paidUntil");
        vm.assertEq(job.closeAt, closeAt, "closeAt");
    }

    /// @dev What an account may withdraw.
    function _assertBalance(address account, uint256 amount) internal view {
        vm.assertEq(payment.balanceOf(account), amount, "balance");
    }

    /// @dev Tokens an account holds outside.
    function _assertTokens(address account, uint256 amount) internal view {
        vm.assertEq(token.balanceOf(account), amount, "tokens");
    }
}
