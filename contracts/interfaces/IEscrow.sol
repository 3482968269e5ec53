// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Job, Terms} from "../types/Job.sol";

/// @title IEscrow
/// @notice Who holds how much. Money of an account is either free, as its balance, or bound to a job, as the part of
/// the job's deposit that is not paid yet.
///
/// A job passes through these states and never goes back:
///
///     none --open--> open --beginClose--> closing --finalize--> closed
///                      \________ the provider may close at any time _______/
///
/// @dev Warning: there is no owner and nothing can be paused, upgraded or rescued. A token that freezes, rebases or
/// changes its code takes everything that is held here with it. Tokens sent by a bare `transfer` belong to nobody and
/// stay for ever.
interface IEscrow {
    /*//////////////////////////////////////////////////////////////////////////
                                       EVENTS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice A job was opened. The data decodes straight into the argument of every other call. It does not say
    /// whether the deposit came from a balance or in tokens: read `balanceOf`.
    /// @param provider The provider of the terms.
    /// @param publisher The publisher of the terms.
    /// @param signer The signer of the terms.
    /// @param job The id of the job.
    /// @param terms The terms of the job.
    /// @param deposit What was put into the job, in token units.
    /// @param source A hint where the bundle can be fetched. It is not part of the id, and the publisher vouches for it
    /// no more than by having sent it.
    event Opened(
        address indexed provider,
        address indexed publisher,
        address indexed signer,
        bytes32 job,
        Terms terms,
        uint96 deposit,
        bytes source
    );

    /// @notice The deposit of a job grew.
    /// @param job The id of the job.
    /// @param from Who paid.
    /// @param amount What was added, in token units.
    /// @param deposit The deposit after the call, in token units.
    event ToppedUp(bytes32 indexed job, address indexed from, uint96 amount, uint96 deposit);

    /// @notice The publisher gave notice.
    /// @param job The id of the job.
    /// @param closeAt Unix time in seconds from which the rest can be refunded.
    event Closing(bytes32 indexed job, uint32 closeAt);

    /// @notice A job was closed for good.
    /// @param job The id of the job.
    /// @param paid What the provider was paid over the life of the job, in token units.
    /// @param refund What was credited to the publisher by this call, in token units.
    event Closed(bytes32 indexed job, uint96 paid, uint96 refund);

    /// @notice A balance was filled from outside.
    /// @param account Whose balance grew.
    /// @param from Who paid.
    /// @param amount What was added, in token units.
    event Funded(address indexed account, address indexed from, uint256 amount);

    /// @notice An account took money out of its balance.
    /// @param account Whose balance shrank.
    /// @param to Who received the tokens.
    /// @param amount What was taken, in token units.
    event Withdrawn(address indexed account, address indexed to, uint256 amount);

    /// @notice An account named its operator.
    /// @param account Who named it.
    /// @param operator The new operator, or zero for none.
    event OperatorSet(address indexed account, address indexed operator);

    /*//////////////////////////////////////////////////////////////////////////
                                       ERRORS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Only the publisher of the terms may do this.
    error NotPublisher(address caller);

    /// @notice Only the provider of the terms or its operator may do this.
    error NotProvider(address caller);

    /// @notice An address that must be given is zero.
    error ZeroAddress();

    /// @notice There is no contract at the address of the token.
    error NotAContract(address account);

    /// @notice Neither the zero address nor this contract can be sent tokens or be given a balance.
    error InvalidRecipient(address to);

    /// @notice There is nothing to add.
    error ZeroAmount();

    /// @notice The notice is shorter than `MIN_NOTICE` or longer than `MAX_NOTICE`.
    error NoticeOutOfBounds(uint32 notice);

    /// @notice The window is neither 0 nor between `MIN_WINDOW` and half of the notice.
    error WindowOutOfBounds(uint32 window, uint32 notice);

    /// @notice The deposit is below the start fee, or zero.
    error DepositTooSmall(uint96 deposit, uint96 minimum);

    /// @notice The source is longer than `MAX_SOURCE_LENGTH` bytes.
    error SourceTooLong(uint256 length);

    /// @notice A job with these terms exists or existed. Renting again takes another salt.
    error JobExists(bytes32 job);

    /// @notice No such job was opened, or it is closed.
    error JobNotLive(bytes32 job);

    /// @notice The publisher has already given notice.
    error AlreadyClosing(uint32 closeAt);

    /// @notice The notice has not passed yet, or `closeAt` is 0 and no notice was given.
    error NotYetFinal(uint32 closeAt);

    /// @notice The balance does not cover the amount.
    error InsufficientBalance(uint256 balance, uint256 needed);

    /// @notice The token moved another amount than it was asked to.
    error TokenAmountMismatch(uint256 received, uint256 expected);

    /*//////////////////////////////////////////////////////////////////////////
                                       VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice The token of all amounts, fixed at deployment.
    function token() external view returns (IERC20);

    /// @notice The free money of an account, in token units. {Opened}, {Settled} and {StartFeePaid} do not say whether
    /// it changed or tokens moved, so events alone do not add up to it.
    function balanceOf(address account) external view returns (uint256);

    /// @notice The key that may act for an account as a provider, or zero.
    function operatorOf(address account) external view returns (address);

    /// @notice The id of the job with these terms, whether or not it was opened:
    /// `keccak256(abi.encode(chain id at deployment, this contract, terms))`.
    function jobId(Terms calldata terms) external view returns (bytes32);

    /// @notice The state of a job: all zero if it was never opened, and its last state for ever once it is closed.
    function jobOf(bytes32 job) external view returns (Job memory);

    /*//////////////////////////////////////////////////////////////////////////
                                       OPENING
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Opens a job and pulls its deposit from the publisher.
    ///
    /// @dev Emits {Opened}.
    ///
    /// Requirements:
    /// - the caller is `terms.publisher`;
    /// - `terms.provider` and `terms.signer` are not zero;
    /// - `terms.notice` is from `MIN_NOTICE` to `MAX_NOTICE`;
    /// - `terms.window` is 0 or from `MIN_WINDOW` to half of the notice;
    /// - `deposit` is above zero and not below `terms.startFee`;
    /// - `source` is at most `MAX_SOURCE_LENGTH` bytes;
    /// - no job with these terms was opened before, even if it is closed now;
    /// - the caller has approved this contract for `deposit`, and the token moves exactly that;
    /// - Unix time still fits 32 bits. From 2106 on no job can be opened, and every job can still be closed.
    ///
    /// Warning: the rate limits the speed of the bill, not its size. Time in which nothing is settled adds head-room:
    /// after `deposit / ratePerHour` hours without a settlement, one voucher can take the whole deposit. So whoever has
    /// the signer's key, together with the provider, can take what is left of this job's deposit, and never more.
    /// Keep deposits short and top them up. A signer that is the provider is a bill nobody checks.
    ///
    /// The provider may take `startFee` at once without doing anything. If it never shows up, the money stays locked
    /// for `notice`, counted from {beginClose}. Only `terms.publisher` itself can begin the close and withdraw the
    /// refund, so a contract that opens a job must be able to make both calls.
    ///
    /// @param terms The terms of the job.
    /// @param deposit What to put into the job, in token units.
    /// @param source A hint where the bundle can be fetched.
    /// @return job The id of the job.
    function open(Terms calldata terms, uint96 deposit, bytes calldata source) external returns (bytes32 job);

    /// @notice Opens a job and takes its deposit from the caller's balance.
    ///
    /// @dev Emits {Opened}.
    ///
    /// Requirements:
    /// - those of {open}, but for the approval;
    /// - the balance of the caller covers `deposit`.
    ///
    /// Warning: that of {open}.
    ///
    /// @param terms The terms of the job.
    /// @param deposit What to put into the job, in token units.
    /// @param source A hint where the bundle can be fetched.
    /// @return job The id of the job.
    function openFromBalance(Terms calldata terms, uint96 deposit, bytes calldata source) external returns (bytes32 job);

    /*//////////////////////////////////////////////////////////////////////////
                                      ADDING MONEY
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Adds to the balance of an account. Anyone may pay.
    ///
    /// @dev Emits {Funded}.
    ///
    /// Requirements:
    /// - `account` is neither zero nor this contract;
    /// - `amount` is above zero;
    /// - the caller has approved this contract for `amount`, and the token moves exactly that.
    ///
    /// Warning: what is added belongs to `account` at once and cannot be taken back.
    ///
    /// @param account Whose balance grows.
    /// @param amount What to add, in token units.
    function fund(address account, uint256 amount) external;

    /// @notice Adds to the deposit of a job. Anyone may pay.
    ///
    /// @dev Emits {ToppedUp}.
    ///
    /// Requirements:
    /// - `amount` is above zero;
    /// - the job is open, and no notice was given;
    /// - the deposit stays at or below 2^96 - 1. A larger one reverts with `Panic(0x11)`, not with an error of its own;
    /// - the caller has approved this contract for `amount`, and the token moves exactly that.
    ///
    /// Warning: what the job does not use is refunded to the publisher, whoever paid it.
    ///
    /// @param job The id of the job.
    /// @param amount What to add, in token units.
    function topUp(bytes32 job, uint96 amount) external;

    /*//////////////////////////////////////////////////////////////////////////
                                        LEAVING
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Gives notice: from `closeAt` on the rest of the deposit can be refunded.
    ///
    /// @dev Emits {Closing}. If `now + notice` does not fit 32 bits, `closeAt` is the largest value that does.
    ///
    /// Requirements:
    /// - the caller is `terms.publisher`;
    /// - the job is open, and no notice was given.
    ///
    /// Warning: notice cannot be withdrawn. Until somebody finalizes, the provider may still settle bills dated up to
    /// `closeAt` and take the start fee, so finalize at `closeAt`.
    ///
    /// @param terms The terms of the job.
    function beginClose(Terms calldata terms) external;

    /// @notice Closes a job after its notice and credits the rest to the publisher. Anyone may call.
    ///
    /// @dev Emits {Closed}.
    ///
    /// Requirements:
    /// - notice was given, and `closeAt` is reached;
    /// - the job is not closed.
    ///
    /// Warning: vouchers that were not settled by now are void.
    ///
    /// @param terms The terms of the job.
    function finalize(Terms calldata terms) external;

    /// @notice Sends tokens out of the caller's balance.
    ///
    /// @dev Emits {Withdrawn}.
    ///
    /// Requirements:
    /// - `to` is neither zero nor this contract;
    /// - the balance of the caller covers `amount`.
    ///
    /// @param to Who receives the tokens.
    /// @param amount What to send, in token units.
    function withdraw(address to, uint256 amount) external;

    /*//////////////////////////////////////////////////////////////////////////
                                       OPERATOR
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Names the one key that may do for the caller what a provider may, or none. Replaces the one before.
    ///
    /// @dev Emits {OperatorSet}.
    ///
    /// Warning: an operator can never redirect money, because it always goes to the provider. But `decline`, and
    /// `settleAndClose` with an old small voucher, give all pay that is not settled back to the publisher at once, in
    /// every job of the provider: an operator key that leaks, together with a publisher that colludes, costs everything
    /// that is not settled.
    ///
    /// @param operator The key, or zero for none.
    function setOperator(address operator) external;
}
