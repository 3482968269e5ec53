// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Bill} from "../../../contracts/types/Job.sol";
import {Cheats} from "./Test.sol";

/// @title Vouchers
/// @notice EIP-712 by the book, without a line of the contracts under test.
abstract contract Vouchers is Cheats {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant TYPEHASH =
        keccak256("Voucher(bytes32 job,uint96 cumulative,uint32 until,bytes32 usageRoot)");

    /// @dev What the signer of a voucher signs.
    function _digest(uint256 chain, address verifier, bytes32 job, Bill memory bill) internal pure returns (bytes32) {
        bytes32 domain = keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256("Roadstead"), keccak256("1"), chain, verifier));
        bytes32 voucher = keccak256(abi.encode(TYPEHASH, job, bill.cumulative, bill.until, bill.usageRoot));
        return keccak256(abi.encodePacked(hex"1901", domain, voucher));
    }

    /// @dev 65 bytes of ECDSA.
    function _signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
