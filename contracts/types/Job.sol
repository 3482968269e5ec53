// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// Value of `Job.closeAt` once a job is closed for good.
uint32 constant CLOSED = 1;

// Shortest notice a job may have, in seconds: a provider must have time to settle what was signed.
uint32 constant MIN_NOTICE = 1 hours;

// Longest notice a job may have, in seconds: no publisher waits longer than this for its money.
uint32 constant MAX_NOTICE = 30 days;

// Shortest challenge window a job may have, in seconds, unless it has none.
uint32 constant MIN_WINDOW = 1 hours;

// Longest `source` that may accompany the opening of a job, in bytes.
uint256 constant MAX_SOURCE_LENGTH = 256;

/// @notice What publisher and provider agree on. Carried by calls and by the event `Opened`, never stored: a job is
/// found by the hash of its terms.
struct Terms {
    /// Who rents: opens the job, may begin to close it, and is credited with the refund.
    address publisher;
    /// Who hosts: identity and payee. It may be a cold key, see `setOperator`.
    address provider;
    /// Who accepts bills: a key or a contract that answers ERC-1271.
    address signer;
    /// Most that may accrue per hour, in token units, whatever is signed.
    uint96 ratePerHour;
    /// What the provider may take without a signature, in token units. Prepaid: it is part of the bill, not extra.
    uint96 startFee;
    /// Seconds between `beginClose` and the refund, from `MIN_NOTICE` to `MAX_NOTICE`.
    uint32 notice;
    /// Seconds in which an unsigned claim can be challenged: 0 for no unsigned claims, else from `MIN_WINDOW` to half
    /// of the notice.
    uint32 window;
    /// Tells jobs with otherwise equal terms apart.
    uint64 salt;
    /// SHA2-256 digest of the sealed deployment bundle.
    bytes32 bundle;
}

/// @notice The state of a job: one storage slot.
struct Job {
    /// Everything put into the job so far, in token units. Equals `paid` once the job is closed.
    uint96 deposit;
    /// Everything the provider was paid so far, in token units.
    uint96 paid;
    /// Unix time in seconds up to which the provider was paid: the time of opening at first, 0 if the job never
    /// existed.
    uint32 paidUntil;
    /// 0 while the job is open, `CLOSED` once it is closed, else the Unix time in seconds from which the rest can be
    /// refunded.
    uint32 closeAt;
}

/// @notice What the signer accepts to have been used. A voucher is a signature over the job's id and a bill.
struct Bill {
    /// Total since the job was opened, in token units, with the start fee included.
    uint96 cumulative;
    /// Unix time in seconds up to which usage is billed. This is chain time, not the wall clock of either side.
    uint32 until;
    /// Root of the signed readings from which the bill can be recomputed. It is recorded and not interpreted.
    bytes32 usageRoot;
}
