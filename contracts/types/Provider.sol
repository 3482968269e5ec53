// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// Longest endpoint, in bytes.
uint256 constant MAX_ENDPOINT_LENGTH = 256;

// Most encryption keys of one provider.
uint256 constant MAX_KEYS = 4;

// Longest encryption key, in bytes.
uint256 constant MAX_KEY_LENGTH = 64;

// Most entries of one page.
uint256 constant MAX_PAGE_LENGTH = 100;

// `EncryptionKey.kind` of an X25519 public key.
uint16 constant KIND_X25519 = 1;

// Length of an X25519 public key, in bytes.
uint256 constant X25519_KEY_LENGTH = 32;

/// @notice A public key to which deployment bundles are sealed.
struct EncryptionKey {
    /// The algorithm: 1 is X25519. The registry stores kinds it does not know, and clients skip them.
    uint16 kind;
    /// The public key, from 1 to `MAX_KEY_LENGTH` bytes, and exactly 32 bytes for X25519.
    bytes key;
}

/// @notice What a provider says about itself.
struct Registration {
    /// Where the provider is reached: a binary multiaddr of 1 to `MAX_ENDPOINT_LENGTH` bytes. It is opaque on chain.
    bytes endpoint;
    /// From 1 to `MAX_KEYS` keys, the preferred one first.
    EncryptionKey[] keys;
    /// SHA2-256 digest of the provider's profile (regions, hardware, prices), or zero when it publishes none.
    bytes32 profile;
}

/// @notice A registered provider, as the views return it.
struct Entry {
    /// The provider, which is also the payee of its jobs.
    address provider;
    /// What it says about itself.
    Registration registration;
}
