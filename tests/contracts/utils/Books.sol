// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPayment} from "../../../contracts/interfaces/IPayment.sol";
import {CLOSED, Job, Terms} from "../../../contracts/types/Job.sol";
import {ITestToken} from "./ITestToken.sol";
import {Vouchers} from "./Vouchers.sol";

/// @title Books
/// @notice What the market writes down for itself, and compares with the contract after every action.
abstract contract Books is Vouchers {
    /// A job, and what the books say about it.
    struct Record {
        Terms terms;
        bytes32 id;
        uint256 opened;
        Job last;
    }

    ITestToken internal immutable TOKEN;
    IPayment internal immutable PAYMENT;

    address[] public people;
    uint256 public time;
    Record[] internal _records;

    /// Tokens that belong to nobody.
    uint256 public donated;

    /// What each account owns, as tokens outside and as its balance.
    mapping(address account => uint256 amount) public wealth;

    /// How often each action was called, how often each thing worth counting happened, how often somebody was paid, and
    /// how often a job was closed.
    mapping(bytes32 action => uint256 times) public done;
    mapping(bytes32 what => uint256 times) public happened;
    uint256 public calls;
    uint256 public payments;
    uint256 public closes;

    /// The one job that the current action may change, or zero.
    bytes32 internal _touched;

    /// Whether the current action is one of a provider.
    bool internal _providerActs;

    constructor(ITestToken token, IPayment payment, uint256 start) {
        TOKEN = token;
        PAYMENT = payment;
        time = start;
    }

    function jobCount() external view returns (uint256) {
        return _records.length;
    }

    function record(uint256 index) external view returns (Record memory) {
        return _records[index];
    }

    function peopleCount() external view returns (uint256) {
        return people.length;
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      COMPARING
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Sets the clock before an action, and compares every job and every account with the books after it.
    modifier action(bytes32 name) {
        // Forge does not keep the time between calls of a handler.
        vm.warp(time);
        calls += 1;
        _;
        done[name] += 1;
        _compareJobs();
        _comparePeople();
        _touched = 0;
        _providerActs = false;
    }

    /// @dev The only transitions there may be. Books what they pay and refund.
    function _compareJobs() private {
        for (uint256 i; i < _records.length; ++i) {
            Job memory last = _records[i].last;
            Job memory job = PAYMENT.jobOf(_records[i].id);
            if (last.closeAt == CLOSED || _records[i].id != _touched) {
                require(keccak256(abi.encode(job)) == keccak256(abi.encode(last)), "closed, or not meant");
                continue;
            }
            require(job.paid >= last.paid && job.paidUntil >= last.paidUntil, "never back");
            if (job.paid != last.paid || job.paidUntil != last.paidUntil) {
                require(_providerActs, "only the provider moves paid");
            }
            if (job.closeAt == CLOSED) {
                require(job.deposit == job.paid, "tombstone");
                wealth[_records[i].terms.publisher] += last.deposit - job.paid;
                closes += 1;
            } else {
                require(job.deposit >= last.deposit, "deposits only grow");
                require(last.closeAt == 0 || job.closeAt == last.closeAt, "notice never moves");
                require(last.closeAt == 0 || job.deposit == last.deposit, "nothing is added while closing");
            }
            wealth[_records[i].terms.provider] += job.paid - last.paid;
            _records[i].last = job;
        }
    }

    /// @dev Providers own what they were paid, publishers what they were refunded, and all what they had otherwise.
    function _comparePeople() private view {
        for (uint256 i; i < people.length; ++i) {
            uint256 owned = TOKEN.balanceOf(people[i]) + PAYMENT.balanceOf(people[i]);
            require(owned == wealth[people[i]], "wealth");
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       BOOKING
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Gives new tokens to an account.
    function _mint(address account, uint256 amount) internal {
        TOKEN.mint(account, amount);
        wealth[account] += amount;
    }

    /// @dev Makes a call that must fail for this reason.
    function _refused(address caller, bytes memory data, bytes4 reason) internal {
        vm.prank(caller);
        (bool ok, bytes memory answer) = address(PAYMENT).call(data);
        require(!ok, "must be refused");
        require(bytes4(answer) == reason, "refused for another reason");
    }
}
