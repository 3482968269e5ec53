// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IEscrow} from "./interfaces/IEscrow.sol";
import {CLOSED, Job, MAX_NOTICE, MAX_SOURCE_LENGTH, MIN_NOTICE, MIN_WINDOW, Terms} from "./types/Job.sol";

/// @title Escrow
/// @notice See {IEscrow}.
abstract contract Escrow is IEscrow, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @inheritdoc IEscrow
    IERC20 public immutable override token;

    /// @dev Fixed at deployment: if the id followed the chain, a chain split would lock all jobs of one side.
    uint256 private immutable DEPLOYMENT_CHAIN = block.chainid;

    /// @inheritdoc IEscrow
    mapping(address account => uint256 amount) public override balanceOf;

    /// @inheritdoc IEscrow
    mapping(address account => address operator) public override operatorOf;

    /// @dev One packed `Job` per id, see `_load`.
    mapping(bytes32 job => uint256 slot) private _slots;

    constructor(IERC20 token_) {
        if (address(token_).code.length == 0) revert NotAContract(address(token_));
        token = token_;
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc IEscrow
    function jobId(Terms calldata terms) public view override returns (bytes32) {
        return keccak256(abi.encode(DEPLOYMENT_CHAIN, address(this), terms));
    }

    /// @inheritdoc IEscrow
    function jobOf(bytes32 job) external view override returns (Job memory) {
        return _load(job);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       CALLS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc IEscrow
    function open(Terms calldata terms, uint96 deposit, bytes calldata source)
        external
        override
        nonReentrant
        returns (bytes32 job)
    {
        // Check and effect: the terms are sound and new, and the job exists from now on.
        job = _open(terms, deposit, source);

        // Interaction: take the deposit.
        _pull(deposit);
    }

    /// @inheritdoc IEscrow
    function openFromBalance(Terms calldata terms, uint96 deposit, bytes calldata source)
        external
        override
        returns (bytes32 job)
    {
        // Check and effect: the terms are sound and new, and the job exists from now on.
        job = _open(terms, deposit, source);

        // Effect: take the deposit.
        _debit(msg.sender, deposit);
    }

    /// @inheritdoc IEscrow
    function fund(address account, uint256 amount) external override nonReentrant {
        // Check: somebody can spend it, and there is something to spend.
        if (account == address(0) || account == address(this)) revert InvalidRecipient(account);
        if (amount == 0) revert ZeroAmount();

        // Effect: credit the account.
        balanceOf[account] += amount;
        emit Funded(account, msg.sender, amount);

        // Interaction: take the tokens.
        _pull(amount);
    }

    /// @inheritdoc IEscrow
    function topUp(bytes32 job, uint96 amount) external override nonReentrant {
        // Check: something is added, and the job goes on.
        if (amount == 0) revert ZeroAmount();
        Job memory state = _live(job);
        if (state.closeAt != 0) revert AlreadyClosing(state.closeAt);

        // Effect: raise the deposit.
        state.deposit += amount;
        _store(job, state);
        emit ToppedUp(job, msg.sender, amount, state.deposit);

        // Interaction: take the tokens.
        _pull(amount);
    }

    /// @inheritdoc IEscrow
    function beginClose(Terms calldata terms) external override {
        // Check: the publisher asks, and for the first time.
        if (msg.sender != terms.publisher) revert NotPublisher(msg.sender);
        bytes32 job = jobId(terms);
        Job memory state = _live(job);
        if (state.closeAt != 0) revert AlreadyClosing(state.closeAt);

        // Effect: start the notice. Saturating keeps the exit open when Unix time outgrows 32 bits.
        uint256 closeAt = block.timestamp + terms.notice;
        state.closeAt = closeAt > type(uint32).max ? type(uint32).max : SafeCast.toUint32(closeAt);
        _store(job, state);
        emit Closing(job, state.closeAt);
    }

    /// @inheritdoc IEscrow
    function finalize(Terms calldata terms) external override {
        // Check: the notice was given and has passed.
        bytes32 job = jobId(terms);
        Job memory state = _live(job);
        if (state.closeAt == 0 || block.timestamp < state.closeAt) revert NotYetFinal(state.closeAt);

        // Effect: close and refund.
        _close(job, state, terms.publisher);
    }

    /// @inheritdoc IEscrow
    function withdraw(address to, uint256 amount) external override nonReentrant {
        // Check: the tokens arrive at somebody.
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);

        // Effect: debit the caller.
        _debit(msg.sender, amount);
        emit Withdrawn(msg.sender, to, amount);

        // Interaction: send the tokens.
        token.safeTransfer(to, amount);
    }

    /// @inheritdoc IEscrow
    function setOperator(address operator) external override {
        // Effect: replace the operator.
        operatorOf[msg.sender] = operator;
        emit OperatorSet(msg.sender, operator);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                   LIFE OF A JOB
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Writes the slot of a new job. The caller of this function takes the deposit.
    function _open(Terms calldata terms, uint96 deposit, bytes calldata source) private returns (bytes32 job) {
        // Check: the publisher agrees to these terms.
        if (msg.sender != terms.publisher) revert NotPublisher(msg.sender);

        // Check: somebody can be paid, and somebody can sign.
        if (terms.provider == address(0) || terms.signer == address(0)) revert ZeroAddress();

        // Check: the publisher can leave, and the provider has time to settle.
        _requireBounds(terms.notice, terms.window);

        // Check: the deposit covers the start fee.
        uint96 minimum = terms.startFee;
        if (minimum == 0) minimum = 1;
        if (deposit < minimum) revert DepositTooSmall(deposit, minimum);

        // Check: everybody who reads events can afford this one.
        if (source.length > MAX_SOURCE_LENGTH) revert SourceTooLong(source.length);

        // Check: a job id lives once, so that no voucher and no receipt can count in a second life.
        job = jobId(terms);
        if (_slots[job] != 0) revert JobExists(job);

        // Effect: write the slot. `paidUntil` is never zero from now on.
        _store(job, Job({deposit: deposit, paid: 0, paidUntil: SafeCast.toUint32(block.timestamp), closeAt: 0}));
        emit Opened(terms.provider, msg.sender, terms.signer, job, terms, deposit, source);
    }

    /// @dev Reverts unless leaving takes a sane time, of which one half is enough for a claim to be challenged.
    function _requireBounds(uint32 notice, uint32 window) private pure {
        if (notice < MIN_NOTICE || notice > MAX_NOTICE) revert NoticeOutOfBounds(notice);
        if (window != 0 && (window < MIN_WINDOW || window > notice / 2)) revert WindowOutOfBounds(window, notice);
    }

    /// @dev Closes a job for good and credits what was not paid to the publisher. The slot stays as a tombstone.
    function _close(bytes32 job, Job memory state, address publisher) internal {
        uint96 refund = state.deposit - state.paid;
        state.deposit = state.paid;
        state.closeAt = CLOSED;
        _store(job, state);
        if (refund != 0) balanceOf[publisher] += refund;
        emit Closed(job, state.paid, refund);
    }

    /// @dev The state of a job that is open or closing. Reverts for any other.
    function _live(bytes32 job) internal view returns (Job memory state) {
        state = _load(job);
        if (state.paidUntil == 0 || state.closeAt == CLOSED) revert JobNotLive(job);
    }

    /// @dev Reverts unless the caller is the provider or its operator.
    function _requireProvider(address provider) internal view {
        if (msg.sender != provider && msg.sender != operatorOf[provider]) revert NotProvider(msg.sender);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       THE SLOT

         255          160 159           64 63       32 31        0
        +----------------+----------------+-----------+-----------+
        |    deposit     |      paid      | paidUntil |  closeAt  |
        |     uint96     |     uint96     |  uint32   |  uint32   |
        +----------------+----------------+-----------+-----------+

        Packed by hand, so that a call reads it once and writes it once.
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Reads a job.
    function _load(bytes32 job) internal view returns (Job memory) {
        uint256 slot = _slots[job];
        // Each cast keeps one field of the drawing and cuts the ones to its left.
        // forge-lint: disable-next-item(unsafe-typecast)
        return Job({
            deposit: uint96(slot >> 160), paid: uint96(slot >> 64), paidUntil: uint32(slot >> 32), closeAt: uint32(slot)
        });
    }

    /// @dev Writes a job.
    function _store(bytes32 job, Job memory state) internal {
        _slots[job] = (uint256(state.deposit) << 160) | (uint256(state.paid) << 64) | (uint256(state.paidUntil) << 32)
            | uint256(state.closeAt);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                   MOVING MONEY
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Takes from the balance of an account.
    function _debit(address account, uint256 amount) private {
        uint256 balance = balanceOf[account];
        if (balance < amount) revert InsufficientBalance(balance, amount);
        balanceOf[account] = balance - amount;
    }

    /// @dev Sends tokens, or credits a balance. The last statement of every call that pays.
    function _pay(address to, uint256 amount, bool payOut) internal {
        if (payOut) token.safeTransfer(to, amount);
        else balanceOf[to] += amount;
    }

    /// @dev Takes tokens from the caller and believes the balance, not the token's word. A token that taxes or lies
    /// fails here, and so does one that lets somebody move more tokens on the way.
    function _pull(uint256 amount) private {
        uint256 balance = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - balance;
        if (received != amount) revert TokenAmountMismatch(received, amount);
    }
}
