// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @notice A wallet contract: accepts what its owner signed, until it changes its mind.
contract WalletSigner is IERC1271 {
    address private immutable OWNER;
    bool private _revoked;

    constructor(address owner) {
        OWNER = owner;
    }

    function revoke() external {
        _revoked = true;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view override returns (bytes4) {
        (address recovered,,) = ECDSA.tryRecoverCalldata(hash, signature);
        return recovered == OWNER && !_revoked ? IERC1271.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// @notice Accepts everything.
contract YesSigner is IERC1271 {
    function isValidSignature(bytes32, bytes calldata) external pure override returns (bytes4) {
        return IERC1271.isValidSignature.selector;
    }
}

/// @notice Accepts nothing.
contract NoSigner is IERC1271 {
    function isValidSignature(bytes32, bytes calldata) external pure override returns (bytes4) {
        return 0xffffffff;
    }
}

/// @notice Burns all the gas it is given.
contract BurningSigner {
    fallback() external {
        while (true) {}
    }
}

/// @notice Reverts with a megabyte.
contract ShoutingSigner {
    fallback() external {
        bytes memory noise = new bytes(1_000_000);
        revert(string(noise));
    }
}

/// @notice Answers less than one word.
contract MumblingSigner {
    fallback(bytes calldata) external returns (bytes memory) {
        return abi.encodePacked(IERC1271.isValidSignature.selector);
    }
}
