// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bill, Terms} from "../types/Job.sol";
import {IEscrow} from "./IEscrow.sol";

/// @title IPayment
/// @notice Everything that moves what a provider was paid. Only the provider of a job or its operator may do that, and
/// the money goes to the provider only.
///
/// A voucher is an EIP-712 signature by the signer of the job, in the domain `("Roadstead", "1")` of this contract, over
/// `Voucher(bytes32 job,uint96 cumulative,uint32 until,bytes32 usageRoot)`. Bills are cumulative, so the newest one is
/// worth all before it, and settling it is enough, unless it is dated after `closeAt`; keep the last one dated before.
///
/// One rule limits every bill. With `now` the time of the block, a job is paid
///
///     min(cumulative, deposit, max(startFee, paid + floor(ratePerHour * (until - paidUntil) / 3600))) - paid
///
/// where `paidUntil < until <= min(now, closeAt if notice was given)`. A payment uses up the time until `until`, even
/// if the bill or the deposit is smaller than the limit: later bills get only later time. So wait for a top-up before
/// settling a bill above the deposit. Each payment rounds down.
interface IPayment is IEscrow {
    /*//////////////////////////////////////////////////////////////////////////
                                       EVENTS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice A bill was paid. It does not say whether tokens were sent or a balance was credited: read
    /// `balanceOf`.
    /// @param job The id of the job.
    /// @param paid What the provider was paid over the life of the job, this call included, in token units.
    /// @param until Unix time in seconds up to which the bill runs.
    /// @param usageRoot Root of the readings behind the bill.
    event Settled(bytes32 indexed job, uint96 paid, uint32 until, bytes32 usageRoot);

    /// @notice The start fee was taken. It does not say whether tokens were sent or a balance was credited: read
    /// `balanceOf`.
    /// @param job The id of the job.
    /// @param paid What the provider was paid over the life of the job, this call included, in token units.
    event StartFeePaid(bytes32 indexed job, uint96 paid);

    /*//////////////////////////////////////////////////////////////////////////
                                       ERRORS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice The signature is not the signer's signature of this bill.
    error InvalidSignature(address signer);

    /// @notice The bill does not run past what was paid before.
    error UntilTooEarly(uint32 until, uint32 paidUntil);

    /// @notice The bill runs past `latest`, which is the time of the block, or the end of the notice if that is earlier.
    error UntilTooLate(uint32 until, uint256 latest);

    /// @notice Everything that could be paid was paid before.
    error NothingToPay(uint96 paid);

    /*//////////////////////////////////////////////////////////////////////////
                                       VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice The EIP-712 type hash of a voucher.
    // forge-lint: disable-next-line(mixed-case-function)
    function VOUCHER_TYPEHASH() external view returns (bytes32);

    /*//////////////////////////////////////////////////////////////////////////
                                       PAYING
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Takes the start fee, or what is left of it, without a signature.
    ///
    /// @dev Emits {StartFeePaid}. The time up to which the job is paid does not move.
    ///
    /// Requirements:
    /// - the caller is `terms.provider` or its operator;
    /// - the job is live;
    /// - less than the start fee was paid so far.
    ///
    /// Warning: the start fee is not refundable, and nothing shows that anything was started.
    ///
    /// @param terms The terms of the job.
    /// @param payOut Whether to send the tokens to the provider. Otherwise its balance is credited.
    function claimStartFee(Terms calldata terms, bool payOut) external;

    /// @notice Pays a bill the signer has accepted.
    ///
    /// @dev Emits {Settled}.
    ///
    /// Requirements:
    /// - the caller is `terms.provider` or its operator;
    /// - `signature` is the signer's: 65 bytes of ECDSA that recover to `terms.signer`, or whatever the contract at
    ///   that address accepts by ERC-1271. ECDSA is tried first, so code that appears at the address of a key cannot
    ///   void what the key signed;
    /// - the job is live;
    /// - `bill.until` is after what was paid, and neither after the time of the block nor after `closeAt`;
    /// - something can be paid.
    ///
    /// Warning: a bill above the limit is paid in part, and a payment uses up the time until `bill.until`, even if the
    /// bill or the deposit is smaller than the limit: later bills get only later time. Wait for a top-up before
    /// settling a bill above the deposit. Each payment rounds down.
    ///
    /// Simulate the call, from the provider or its operator, before a voucher is relied on. A contract that signs can
    /// change its mind until the call is mined. If the token refuses the provider, `payOut` reverts, and crediting
    /// still works.
    ///
    /// Vouchers follow `block.chainid`: after a change of the chain's id, vouchers that are not settled are void on the
    /// side that changed, while the id of the job lives on.
    ///
    /// @param terms The terms of the job.
    /// @param bill The bill that was accepted.
    /// @param signature The signature of the voucher.
    /// @param payOut Whether to send the tokens to the provider. Otherwise its balance is credited.
    function settle(Terms calldata terms, Bill calldata bill, bytes calldata signature, bool payOut) external;

    /// @notice Pays a last bill and closes the job: what is left of the deposit is credited to the publisher.
    ///
    /// @dev Emits {Settled} and {Closed}.
    ///
    /// Requirements:
    /// - those of {settle}. A job to which nothing more is due is closed by {decline}.
    ///
    /// Warning: what the limit cuts off is lost, because nothing can be settled later.
    ///
    /// @param terms The terms of the job.
    /// @param bill The bill that was accepted.
    /// @param signature The signature of the voucher.
    /// @param payOut Whether to send the tokens to the provider. Otherwise its balance is credited.
    function settleAndClose(Terms calldata terms, Bill calldata bill, bytes calldata signature, bool payOut) external;

    /// @notice Gives a job up: everything that is not paid is credited to the publisher at once.
    ///
    /// @dev Emits {Closed}.
    ///
    /// Requirements:
    /// - the caller is `terms.provider` or its operator;
    /// - the job is live.
    ///
    /// Warning: vouchers that were not settled by now are void.
    ///
    /// @param terms The terms of the job.
    function decline(Terms calldata terms) external;
}
