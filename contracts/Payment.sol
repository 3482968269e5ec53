// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {Escrow} from "./Escrow.sol";
import {IPayment} from "./interfaces/IPayment.sol";
import {Bill, Job, Terms} from "./types/Job.sol";

/// @title Payment
/// @notice See {IPayment}.
contract Payment is Escrow, EIP712, IPayment {
    /// @inheritdoc IPayment
    bytes32 public constant override VOUCHER_TYPEHASH =
        keccak256("Voucher(bytes32 job,uint96 cumulative,uint32 until,bytes32 usageRoot)");

    constructor(IERC20 token_) Escrow(token_) EIP712("Roadstead", "1") {}

    /*//////////////////////////////////////////////////////////////////////////
                                       CALLS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc IPayment
    function claimStartFee(Terms calldata terms, bool payOut) external override nonReentrant {
        // Check: the provider asks, and a part of the fee is still due.
        _requireProvider(terms.provider);
        bytes32 job = jobId(terms);
        Job memory state = _live(job);
        if (terms.startFee <= state.paid) revert NothingToPay(state.paid);

        // Effect: the deposit covers the fee since the job was opened. `paidUntil` stays, because no time is billed.
        uint96 due = terms.startFee - state.paid;
        state.paid = terms.startFee;
        _store(job, state);
        emit StartFeePaid(job, state.paid);

        // Interaction: pay.
        _pay(terms.provider, due, payOut);
    }

    /// @inheritdoc IPayment
    function settle(Terms calldata terms, Bill calldata bill, bytes calldata signature, bool payOut)
        external
        override
        nonReentrant
    {
        // Check: the provider asks, the signer agrees, and the bill can be paid.
        (bytes32 job, Job memory state, uint96 due) = _accept(terms, bill, signature);

        // Effect: record what is paid.
        _store(job, state);
        emit Settled(job, state.paid, state.paidUntil, bill.usageRoot);

        // Interaction: pay.
        _pay(terms.provider, due, payOut);
    }

    /// @inheritdoc IPayment
    function settleAndClose(Terms calldata terms, Bill calldata bill, bytes calldata signature, bool payOut)
        external
        override
        nonReentrant
    {
        // Check: the provider asks, the signer agrees, and the bill can be paid.
        (bytes32 job, Job memory state, uint96 due) = _accept(terms, bill, signature);

        // Effect: record what is paid, close and refund.
        emit Settled(job, state.paid, state.paidUntil, bill.usageRoot);
        _close(job, state, terms.publisher);

        // Interaction: pay.
        _pay(terms.provider, due, payOut);
    }

    /// @inheritdoc IPayment
    function decline(Terms calldata terms) external override {
        // Check: the provider asks.
        _requireProvider(terms.provider);
        bytes32 job = jobId(terms);

        // Effect: close and refund.
        _close(job, _live(job), terms.publisher);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      THE RULE
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Moves `paid` and `paidUntil` of `state` and returns what is due. Every bill passes through here.
    function _advance(Terms calldata terms, Job memory state, uint96 cumulative, uint32 until)
        internal
        view
        returns (uint96 due)
    {
        // Check: the bill adds time, and neither future time nor time after the notice.
        if (until <= state.paidUntil) revert UntilTooEarly(until, state.paidUntil);
        uint256 latest = state.closeAt == 0 ? block.timestamp : Math.min(block.timestamp, state.closeAt);
        if (until > latest) revert UntilTooLate(until, latest);

        // Check: something is due within the limit. A larger bill is cut, not refused: otherwise a provider could lose
        // all because of a few units too many.
        uint256 accrued = uint256(terms.ratePerHour) * (until - state.paidUntil) / 1 hours;
        uint256 limit = Math.min(state.deposit, Math.max(terms.startFee, state.paid + accrued));
        // forge-lint: disable-next-line(unsafe-typecast)
        uint96 target = uint96(Math.min(cumulative, limit)); // The smaller of the two is at most `cumulative`.
        if (target <= state.paid) revert NothingToPay(state.paid);

        // Effect, in memory: the caller stores the state.
        due = target - state.paid;
        state.paid = target;
        state.paidUntil = until;
    }

    /// @dev Who may ask, whether the signer agrees, and what it comes to. The signature is checked before anything is
    /// compared, so that a stale bill with a bad signature is never taken for a good one.
    function _accept(Terms calldata terms, Bill calldata bill, bytes calldata signature)
        private
        view
        returns (bytes32 job, Job memory state, uint96 due)
    {
        _requireProvider(terms.provider);
        job = jobId(terms);
        _requireVoucher(terms.signer, job, bill, signature);
        state = _live(job);
        due = _advance(terms, state, bill.cumulative, bill.until);
    }

    /// @dev Reverts unless the signer accepted the bill. ECDSA comes first: a library that asks for code first lets a
    /// key void its own vouchers by delegating to code that answers no (EIP-7702).
    function _requireVoucher(address signer, bytes32 job, Bill calldata bill, bytes calldata signature) private view {
        bytes32 voucher = keccak256(abi.encode(VOUCHER_TYPEHASH, job, bill.cumulative, bill.until, bill.usageRoot));
        bytes32 digest = _hashTypedDataV4(voucher);
        (address recovered, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure == ECDSA.RecoverError.NoError && recovered == signer) return;
        if (!SignatureChecker.isValidERC1271SignatureNowCalldata(signer, digest, signature)) {
            revert InvalidSignature(signer);
        }
    }
}
