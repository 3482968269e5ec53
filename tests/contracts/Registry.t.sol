// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRegistry} from "../../contracts/interfaces/IRegistry.sol";
import {EncryptionKey, Entry, Registration} from "../../contracts/types/Provider.sol";
import {Test} from "./utils/Test.sol";

contract RegistryTest is Test {
    IRegistry private registry;

    address private alice = _account("alice");
    address private bob = _account("bob");
    address private carol = _account("carol");

    function setUp() public {
        registry = IRegistry(vm.deployCode("Registry.sol:Registry", ""));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      REGISTER
    //////////////////////////////////////////////////////////////////////////*/

    function test_Register_WritesTheEntry() public {
        _register(alice, _registration(1));
        vm.assertEq(registry.isRegistered(alice), true, "registered");
        vm.assertEq(registry.isRegistered(bob), false, "not registered");
        vm.assertEq(registry.count(), 1, "count");
        _assertEntry(registry.providerOf(alice), alice, _registration(1));
    }

    function test_Register_EmitsRegistered() public {
        vm.expectEmit(address(registry));
        emit IRegistry.Registered(alice, _registration(1));
        _register(alice, _registration(1));
    }

    function test_Register_TakesTheLargestEntry() public {
        _register(alice, _largest());
        _assertEntry(registry.providerOf(alice), alice, _largest());
    }

    function test_Register_TakesTheSmallestEntry() public {
        Registration memory registration = _shaped(1, 1, 1);
        registration.keys[0].kind = 2;
        registration.profile = 0;
        _register(alice, registration);
        _assertEntry(registry.providerOf(alice), alice, registration);
    }

    function test_Register_KeepsKindsItDoesNotKnow() public {
        Registration memory registration = _registration(1);
        registration.keys[1].kind = type(uint16).max;
        _register(alice, registration);
        _assertEntry(registry.providerOf(alice), alice, registration);
    }

    function test_RevertGiven_AlreadyRegistered() public {
        _register(alice, _registration(1));
        _expectNotRegistered(_registration(2), abi.encodeWithSelector(IRegistry.AlreadyRegistered.selector, alice));
        _assertEntry(registry.providerOf(alice), alice, _registration(1));
    }

    function test_RevertWhen_TheEndpointIsOutOfBounds() public {
        bytes4 reason = IRegistry.EndpointLengthOutOfBounds.selector;
        _expectRefused(_shaped(0, 1, 32), abi.encodeWithSelector(reason, 0));
        _expectRefused(_shaped(257, 1, 32), abi.encodeWithSelector(reason, 257));
    }

    function test_RevertWhen_TheKeysAreOutOfBounds() public {
        bytes4 reason = IRegistry.KeyCountOutOfBounds.selector;
        _expectRefused(_shaped(10, 0, 32), abi.encodeWithSelector(reason, 0));
        _expectRefused(_shaped(10, 5, 32), abi.encodeWithSelector(reason, 5));
    }

    function test_RevertWhen_AKeyIsOutOfBounds() public {
        bytes4 reason = IRegistry.KeyLengthOutOfBounds.selector;
        Registration memory registration = _shaped(10, 4, 32);
        registration.keys[3] = EncryptionKey({kind: 2, key: ""});
        _expectRefused(registration, abi.encodeWithSelector(reason, 3, 2, 0));
        registration.keys[3] = EncryptionKey({kind: 2, key: new bytes(65)});
        _expectRefused(registration, abi.encodeWithSelector(reason, 3, 2, 65));
    }

    function test_RevertWhen_AnX25519KeyHasNot32Bytes() public {
        bytes4 reason = IRegistry.KeyLengthOutOfBounds.selector;
        Registration memory registration = _shaped(10, 2, 32);
        registration.keys[1].key = new bytes(31);
        _expectRefused(registration, abi.encodeWithSelector(reason, 1, 1, 31));
        registration.keys[1].key = new bytes(33);
        _expectRefused(registration, abi.encodeWithSelector(reason, 1, 1, 33));
    }

    function testFuzz_Register_BoundsEveryField(uint256 endpoint, uint256 keys, uint256 key, uint16 kind) public {
        endpoint = _bound(endpoint, 0, 300);
        keys = _bound(keys, 0, 6);
        key = _bound(key, 0, 70);
        Registration memory registration = _shaped(endpoint, keys, key);
        for (uint256 i; i < keys; ++i) {
            registration.keys[i].kind = kind % 3;
        }
        bool fits = endpoint >= 1 && endpoint <= 256 && keys >= 1 && keys <= 4 && key >= 1 && key <= 64
            && (kind % 3 != 1 || key == 32);
        vm.prank(alice);
        try registry.register(registration) {
            vm.assertEq(fits, true, "taken");
            _assertEntry(registry.providerOf(alice), alice, registration);
        } catch {
            vm.assertEq(fits, false, "refused");
            vm.assertEq(registry.count(), 0, "count");
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                       UPDATE
    //////////////////////////////////////////////////////////////////////////*/

    function test_Update_ReplacesTheEntry() public {
        _register(alice, _largest());
        _register(bob, _registration(2));
        vm.prank(alice);
        registry.update(_shaped(1, 1, 32));
        _assertEntry(registry.providerOf(alice), alice, _shaped(1, 1, 32));
        _assertEntry(registry.providerOf(bob), bob, _registration(2));
        vm.assertEq(registry.count(), 2, "count");

        // Nothing of an older entry shows again when the new one is larger.
        vm.prank(alice);
        registry.update(_registration(3));
        _assertEntry(registry.providerOf(alice), alice, _registration(3));
    }

    function test_Update_EmitsUpdated() public {
        _register(alice, _registration(1));
        vm.expectEmit(address(registry));
        emit IRegistry.Updated(alice, _registration(2));
        vm.prank(alice);
        registry.update(_registration(2));
    }

    function test_RevertWhen_UpdatingWithoutAnEntry() public {
        _register(bob, _registration(1));
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotRegistered.selector, alice));
        vm.prank(alice);
        registry.update(_registration(1));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                     DEREGISTER
    //////////////////////////////////////////////////////////////////////////*/

    function test_Deregister_RemovesTheEntry() public {
        _register(alice, _registration(1));
        _register(bob, _registration(2));
        _register(carol, _registration(3));
        vm.prank(alice);
        registry.deregister();
        vm.assertEq(registry.isRegistered(alice), false, "registered");
        vm.assertEq(registry.count(), 2, "count");

        // The last one took the place of the first.
        Entry[] memory entries = registry.page(0, 10);
        _assertEntry(entries[0], carol, _registration(3));
        _assertEntry(entries[1], bob, _registration(2));
    }

    /// No view shows what is left of an entry, but whoever reads storage would.
    function test_Deregister_ClearsWhatItStored() public {
        _register(alice, _registration(1));
        // The third variable, after the two of the set. An entry has three words: endpoint, number of keys, profile.
        uint256 slot = uint256(keccak256(abi.encode(alice, 2)));
        for (uint256 i; i < 3; ++i) {
            vm.assertNotEq(vm.load(address(registry), bytes32(slot + i)), bytes32(0), "stored");
        }
        vm.prank(alice);
        registry.deregister();
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(vm.load(address(registry), bytes32(slot + i)), bytes32(0), "cleared");
        }
    }

    function test_Deregister_EmitsLeft() public {
        _register(alice, _registration(1));
        vm.expectEmit(address(registry));
        emit IRegistry.Left(alice);
        vm.prank(alice);
        registry.deregister();
    }

    function test_Deregister_AllowsToComeBack() public {
        _register(alice, _largest());
        vm.prank(alice);
        registry.deregister();
        _register(alice, _registration(2));
        _assertEntry(registry.providerOf(alice), alice, _registration(2));
        vm.assertEq(registry.count(), 1, "count");
    }

    function test_RevertWhen_LeavingWithoutAnEntry() public {
        bytes memory reason = abi.encodeWithSelector(IRegistry.NotRegistered.selector, alice);
        vm.expectRevert(reason);
        vm.prank(alice);
        registry.deregister();

        _register(alice, _registration(1));
        vm.prank(alice);
        registry.deregister();
        vm.expectRevert(reason);
        vm.prank(alice);
        registry.deregister();
    }

    /*//////////////////////////////////////////////////////////////////////////
                                        VIEWS
    //////////////////////////////////////////////////////////////////////////*/

    function test_RevertWhen_TheProviderIsUnknown() public {
        vm.expectRevert(abi.encodeWithSelector(IRegistry.NotRegistered.selector, alice));
        registry.providerOf(alice);
    }

    function test_Page_IsClampedToWhatThereIs() public {
        vm.assertEq(registry.page(0, 10).length, 0, "nobody");
        _register(alice, _registration(1));
        _register(bob, _registration(2));
        _register(carol, _registration(3));
        vm.assertEq(registry.page(0, 0).length, 0, "none wanted");
        vm.assertEq(registry.page(0, 2).length, 2, "a part");
        vm.assertEq(registry.page(0, type(uint256).max).length, 3, "all");
        vm.assertEq(registry.page(2, type(uint256).max).length, 1, "the last");
        vm.assertEq(registry.page(3, 1).length, 0, "past the end");
        vm.assertEq(registry.page(type(uint256).max, type(uint256).max).length, 0, "far past the end");
        _assertEntry(registry.page(1, 1)[0], bob, _registration(2));
    }

    /// The worst that strangers can do: as many of the largest entries as fit a page, and more.
    function test_Attack_FillAPageWithTheLargestEntries() public {
        Registration memory largest = _largest();
        for (uint160 i = 1; i <= 120; ++i) {
            _register(address(i + 1000), largest);
        }
        _register(alice, _registration(1));
        Entry[] memory entries = registry.page(0, 1000);
        uint256 used = vm.lastCallGas().gasTotalUsed;
        emit log_named_uint("page of the largest entries", used);
        vm.assertLe(used, 10_000_000, "gas of a page");
        vm.assertEq(entries.length, 100, "a page");
        _assertEntry(entries[99], address(1100), largest);
        entries = registry.page(100, 100);
        vm.assertEq(entries.length, 21, "the rest");
        _assertEntry(entries[20], alice, _registration(1));
    }

    /// Whatever people do, the pages together hold each registered provider once, with its latest entry.
    function testFuzz_Page_ListsEverybodyOnce(uint8[40] calldata actions, uint256 size) public {
        uint256[8] memory versions;
        uint256 expected;
        for (uint256 i; i < actions.length; ++i) {
            uint256 who = actions[i] % 8;
            address provider = address(uint160(1000 + who));
            if (versions[who] == 0) {
                _register(provider, _registration(i + 1));
                versions[who] = i + 1;
                expected += 1;
            } else if (actions[i] < 128) {
                vm.prank(provider);
                registry.update(_registration(i + 1));
                versions[who] = i + 1;
            } else {
                vm.prank(provider);
                registry.deregister();
                versions[who] = 0;
                expected -= 1;
            }
        }
        vm.assertEq(registry.count(), expected, "count");
        size = _bound(size, 1, 9);
        for (uint256 start; start < expected; start += size) {
            Entry[] memory entries = registry.page(start, size);
            for (uint256 i; i < entries.length; ++i) {
                uint256 who = uint160(entries[i].provider) - 1000;
                vm.assertGt(versions[who], 0, "once");
                _assertEntry(entries[i], address(uint160(1000 + who)), _registration(versions[who]));
                versions[who] = 0;
            }
        }
        for (uint256 who; who < 8; ++who) {
            vm.assertEq(versions[who], 0, "everybody");
        }
    }

    /*//////////////////////////////////////////////////////////////////////////
                                    SHARED STEPS
    //////////////////////////////////////////////////////////////////////////*/

    function _register(address provider, Registration memory registration) private {
        vm.prank(provider);
        registry.register(registration);
    }

    /// @dev Refused as a first entry and as an update.
    function _expectRefused(Registration memory registration, bytes memory reason) private {
        uint256 snapshot = vm.snapshotState();
        _expectNotRegistered(registration, reason);
        _register(alice, _registration(1));
        vm.expectRevert(reason);
        vm.prank(alice);
        registry.update(registration);
        vm.revertToState(snapshot);
    }

    function _expectNotRegistered(Registration memory registration, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(alice);
        registry.register(registration);
    }

    function _assertEntry(Entry memory entry, address provider, Registration memory registration) private pure {
        vm.assertEq(entry.provider, provider, "provider");
        vm.assertEq(abi.encode(entry.registration), abi.encode(registration), "registration");
    }

    /// @dev A registration like any other, in as many versions as are wanted. Sizes differ between versions.
    function _registration(uint256 version) private pure returns (Registration memory registration) {
        registration = _shaped(30 + version % 50, 1 + version % 4, 32);
        registration.keys = new EncryptionKey[](2);
        registration.keys[0] = EncryptionKey({kind: 1, key: abi.encode(keccak256(abi.encode("key", version)))});
        registration.keys[1] = EncryptionKey({kind: 7, key: _noise(1 + version % 64)});
        registration.profile = keccak256(abi.encode("profile", version));
    }

    /// @dev The largest registration there may be.
    function _largest() private pure returns (Registration memory registration) {
        registration = _shaped(256, 4, 64);
        for (uint256 i; i < 4; ++i) {
            registration.keys[i].kind = 2;
        }
    }

    /// @dev A registration of these sizes, with keys of kind X25519.
    function _shaped(uint256 endpoint, uint256 keys, uint256 key) private pure returns (Registration memory) {
        EncryptionKey[] memory list = new EncryptionKey[](keys);
        for (uint256 i; i < keys; ++i) {
            list[i] = EncryptionKey({kind: 1, key: _noise(key)});
        }
        return Registration({endpoint: _noise(endpoint), keys: list, profile: keccak256("profile")});
    }

    function _noise(uint256 length) private pure returns (bytes memory data) {
        data = new bytes(length);
        for (uint256 i; i < length; ++i) {
            data[i] = bytes1(uint8(i + 1));
        }
    }
}
