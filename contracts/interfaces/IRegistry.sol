// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Entry, Registration} from "../types/Provider.sol";

/// @title IRegistry
/// @notice Who provides, how to reach them and which keys to seal bundles to. Everybody writes their own entry and
/// nobody else's. Every field is bounded, so that no entry can make a page too large to read.
///
/// @dev Warning: nothing here is verified. An endpoint may lead nowhere or to somebody else, a profile may not exist,
/// and registering is free. Whoever dials an endpoint must make the peer prove that it is the provider.
interface IRegistry {
    /*//////////////////////////////////////////////////////////////////////////
                                       EVENTS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice A provider registered.
    /// @param provider The provider.
    /// @param registration What it says about itself.
    event Registered(address indexed provider, Registration registration);

    /// @notice A provider replaced its registration.
    /// @param provider The provider.
    /// @param registration What it says about itself now.
    event Updated(address indexed provider, Registration registration);

    /// @notice A provider left.
    /// @param provider The provider.
    event Left(address indexed provider);

    /*//////////////////////////////////////////////////////////////////////////
                                       ERRORS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice The provider is registered already. Use {update}.
    error AlreadyRegistered(address provider);

    /// @notice The provider is not registered.
    error NotRegistered(address provider);

    /// @notice The endpoint is empty or longer than `MAX_ENDPOINT_LENGTH` bytes.
    error EndpointLengthOutOfBounds(uint256 length);

    /// @notice There is no key, or there are more than `MAX_KEYS`.
    error KeyCountOutOfBounds(uint256 count);

    /// @notice The key at this index is empty, longer than `MAX_KEY_LENGTH` bytes, or not as long as its kind requires.
    error KeyLengthOutOfBounds(uint256 index, uint16 kind, uint256 length);

    /*//////////////////////////////////////////////////////////////////////////
                                       VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice The entry of a provider.
    ///
    /// @dev Requirements:
    /// - the provider is registered.
    function providerOf(address provider) external view returns (Entry memory entry);

    /// @notice Whether a provider is registered.
    function isRegistered(address provider) external view returns (bool);

    /// @notice How many providers are registered.
    function count() external view returns (uint256);

    /// @notice The entries from position `start` on: at most `length`, at most `MAX_PAGE_LENGTH`, and as many as there
    /// are. Empty past the end.
    ///
    /// @dev Warning: positions are not stable. When a provider leaves, the last one takes its place. Read all pages at
    /// one block, or follow the events.
    ///
    /// @param start Position of the first entry, from 0.
    /// @param length How many entries are wanted.
    function page(uint256 start, uint256 length) external view returns (Entry[] memory entries);

    /*//////////////////////////////////////////////////////////////////////////
                                      REGISTERING
    //////////////////////////////////////////////////////////////////////////*/

    /// @notice Registers the caller as a provider.
    ///
    /// @dev Emits {Registered}.
    ///
    /// Requirements:
    /// - the caller is not registered;
    /// - the endpoint is from 1 to `MAX_ENDPOINT_LENGTH` bytes;
    /// - there are from 1 to `MAX_KEYS` keys, each from 1 to `MAX_KEY_LENGTH` bytes, and of exactly 32 bytes if it is
    ///   X25519.
    ///
    /// @param registration What the caller says about itself.
    function register(Registration calldata registration) external;

    /// @notice Replaces the registration of the caller.
    ///
    /// @dev Emits {Updated}.
    ///
    /// Requirements:
    /// - the caller is registered;
    /// - the bounds of {register}.
    ///
    /// Warning: bundles of open jobs stay sealed to the keys of their time, so keep the private halves.
    ///
    /// @param registration What the caller says about itself now.
    function update(Registration calldata registration) external;

    /// @notice Removes the entry of the caller. Open jobs are not touched.
    ///
    /// @dev Emits {Left}.
    ///
    /// Requirements:
    /// - the caller is registered.
    function deregister() external;
}
