// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IRegistry} from "./interfaces/IRegistry.sol";
import {
    EncryptionKey,
    Entry,
    KIND_X25519,
    MAX_ENDPOINT_LENGTH,
    MAX_KEYS,
    MAX_KEY_LENGTH,
    MAX_PAGE_LENGTH,
    Registration,
    X25519_KEY_LENGTH
} from "./types/Provider.sol";

/// @title Registry
/// @notice See {IRegistry}.
contract Registry is IRegistry {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// @dev Who is registered. Removing one moves the last into its place.
    EnumerableSet.AddressSet private _providers;

    /// @dev What the registered say about themselves.
    mapping(address provider => Registration registration) private _registrations;

    /*//////////////////////////////////////////////////////////////////////////
                                       VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRegistry
    function providerOf(address provider) external view override returns (Entry memory entry) {
        if (!_providers.contains(provider)) revert NotRegistered(provider);
        return _entry(provider);
    }

    /// @inheritdoc IRegistry
    function isRegistered(address provider) external view override returns (bool) {
        return _providers.contains(provider);
    }

    /// @inheritdoc IRegistry
    function count() external view override returns (uint256) {
        return _providers.length();
    }

    /// @inheritdoc IRegistry
    function page(uint256 start, uint256 length) external view override returns (Entry[] memory entries) {
        uint256 rest = Math.saturatingSub(_providers.length(), start);
        entries = new Entry[](Math.min(rest, Math.min(length, MAX_PAGE_LENGTH)));
        for (uint256 i; i < entries.length; ++i) {
            entries[i] = _entry(_providers.pos(start + i));
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       CALLS
    //////////////////////////////////////////////////////////////////////////*/

    /// @inheritdoc IRegistry
    function register(Registration calldata registration) external override {
        // Check: every field is within its bounds.
        _requireBounds(registration);

        // Check and effect: the caller is new.
        if (!_providers.add(msg.sender)) revert AlreadyRegistered(msg.sender);

        // Effect: write the entry.
        _registrations[msg.sender] = registration;
        emit Registered(msg.sender, registration);
    }

    /// @inheritdoc IRegistry
    function update(Registration calldata registration) external override {
        // Check: every field is within its bounds, and there is something to replace.
        _requireBounds(registration);
        if (!_providers.contains(msg.sender)) revert NotRegistered(msg.sender);

        // Effect: replace the entry.
        _registrations[msg.sender] = registration;
        emit Updated(msg.sender, registration);
    }

    /// @inheritdoc IRegistry
    function deregister() external override {
        // Check and effect: the caller was there.
        if (!_providers.remove(msg.sender)) revert NotRegistered(msg.sender);

        // Effect: clear the entry.
        delete _registrations[msg.sender];
        emit Left(msg.sender);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      INTERNAL
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev The entry of a registered provider.
    function _entry(address provider) private view returns (Entry memory) {
        return Entry({provider: provider, registration: _registrations[provider]});
    }

    /// @dev Reverts unless every field is within its bounds.
    function _requireBounds(Registration calldata registration) private pure {
        uint256 endpointLength = registration.endpoint.length;
        if (endpointLength == 0 || endpointLength > MAX_ENDPOINT_LENGTH) {
            revert EndpointLengthOutOfBounds(endpointLength);
        }

        uint256 keyCount = registration.keys.length;
        if (keyCount == 0 || keyCount > MAX_KEYS) revert KeyCountOutOfBounds(keyCount);

        for (uint256 i; i < keyCount; ++i) {
            EncryptionKey calldata key = registration.keys[i];
            uint256 length = key.key.length;
            bool bounded = length != 0 && length <= MAX_KEY_LENGTH;
            if (!bounded || (key.kind == KIND_X25519 && length != X25519_KEY_LENGTH)) {
                revert KeyLengthOutOfBounds(i, key.kind, length);
            }
        }
    }
}
