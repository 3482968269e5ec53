// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {Create2} from "@openzeppelin/contracts/utils/Create2.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IEscrow} from "../../contracts/interfaces/IEscrow.sol";
import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Job, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";

/// What a deployment is, what a job is, and that a job lives once.
contract IdentityTest is PaymentFixture {
    /*//////////////////////////////////////////////////////////////////////////
                                     DEPLOYMENT
    //////////////////////////////////////////////////////////////////////////*/

    function test_Deploy_NamesItsTokenAndDomain() public view {
        vm.assertEq(address(payment.token()), address(token), "token");
        (bytes1 fields, string memory name, string memory version, uint256 chain, address verifier, bytes32 salt,) =
            IERC5267(address(payment)).eip712Domain();
        vm.assertEq(bytes32(fields), bytes32(hex"0f"), "fields");
        vm.assertEq(name, "Roadstead", "name");
        vm.assertEq(version, "1", "version");
        vm.assertEq(chain, block.chainid, "chain");
        vm.assertEq(verifier, address(payment), "verifier");
        vm.assertEq(salt, bytes32(0), "salt");
        vm.assertEq(payment.VOUCHER_TYPEHASH(), TYPEHASH, "type hash");
    }

    function test_RevertWhen_TheTokenIsNoContract() public {
        bytes memory code = abi.encodePacked(vm.getCode("Payment.sol:Payment"), abi.encode(thief));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotAContract.selector, thief));
        this.create(code);
    }

    function create(bytes calldata code) external returns (address) {
        return Create2.deploy(0, 0, code);
    }

    function test_TestToken_IsForDevelopment() public view {
        vm.assertEq(token.name(), "Roadstead Test Dollar", "name");
        vm.assertEq(token.symbol(), "RTD", "symbol");
        vm.assertEq(token.decimals(), 6, "decimals");
    }

    /*//////////////////////////////////////////////////////////////////////////
                                         JOBS
    //////////////////////////////////////////////////////////////////////////*/

    function testFuzz_JobId_IsTheHashOfChainContractAndTerms(Terms calldata terms) public view {
        vm.assertEq(payment.jobId(terms), keccak256(abi.encode(block.chainid, address(payment), terms)), "id");
    }

    function testFuzz_JobId_ChangesWithEveryWord(uint256 word, uint32 value) public {
        Terms memory terms = _terms();
        // The value fits every field, so any word of the terms can be replaced by it.
        Terms memory changed = abi.decode(_replaceWord(abi.encode(terms), word % 9, value), (Terms));
        bool same = keccak256(abi.encode(changed)) == keccak256(abi.encode(terms));
        vm.assertEq(payment.jobId(changed) == payment.jobId(terms), same, "id");
    }

    function test_JobId_DiffersBetweenDeployments() public {
        Terms memory terms = _terms();
        IPayment other = _deployPayment(address(token));
        vm.assertNotEq(other.jobId(terms), payment.jobId(terms), "id");
    }

    /// If the id followed the chain, a chain split would lock every job on one side.
    function test_JobId_OutlivesAChainSplit() public {
        Terms memory terms = _open();
        bytes32 job = _id(terms);
        vm.chainId(block.chainid + 1);
        vm.assertEq(payment.jobId(terms), job, "id");
        _decline(terms);
        _assertBalance(publisher, DEPOSIT);
    }

    function test_JobOf_IsZeroForAJobThatNeverWas() public view {
        Job memory job = payment.jobOf(keccak256("nothing"));
        vm.assertEq(keccak256(abi.encode(job)), keccak256(new bytes(128)), "job");
    }

    function test_RevertGiven_TheJobIsOpen() public {
        Terms memory terms = _open();
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.JobExists.selector, _id(terms)));
    }

    function test_RevertGiven_TheJobIsClosing() public {
        Terms memory terms = _open();
        _beginClose(terms);
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.JobExists.selector, _id(terms)));
    }

    /// A second life would let old vouchers be paid again, and make an honest provider number its receipts twice.
    function test_Attack_ReopenAClosedJob() public {
        Terms memory terms = _open();
        _wait(100);
        _settle(terms, 50_000);
        _decline(terms);
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.JobExists.selector, _id(terms)));
        terms.salt += 1_000_000;
        _open(terms, DEPOSIT);
    }

    function test_Attack_ReopenAJobThatWasNeverPaid() public {
        Terms memory terms = _open();
        _decline(terms);
        _assertJob(terms, 0, 0, START, 1);
        _expectNotOpened(terms, DEPOSIT, abi.encodeWithSelector(IEscrow.JobExists.selector, _id(terms)));
        vm.expectRevert(abi.encodeWithSelector(IEscrow.JobExists.selector, _id(terms)));
        vm.prank(publisher);
        payment.openFromBalance(terms, DEPOSIT, SOURCE);
    }

    /// A time of opening that was cut to 32 bits would look like 1970, and the rate would allow anything.
    function test_RevertWhen_TimeOutgrows32Bits() public {
        Terms memory terms = _terms();
        vm.warp(2 ** 32 - 1);
        _open(terms, DEPOSIT);
        _assertJob(terms, DEPOSIT, 0, 2 ** 32 - 1, 0);
        vm.warp(2 ** 32);
        bytes memory reason = abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 32, 2 ** 32);
        _expectNotOpened(_terms(), DEPOSIT, reason);
    }

    function _replaceWord(bytes memory data, uint256 index, uint256 value) private pure returns (bytes memory) {
        bytes32 word = bytes32(value);
        for (uint256 i; i < 32; ++i) {
            data[index * 32 + i] = word[i];
        }
        return data;
    }
}
