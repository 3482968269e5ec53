// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// What the tests of the chain poke at.
contract Probe {
    event Stored(address indexed who, uint256 indexed key, uint256 value);
    event Noted(string text);

    error TooSmall(uint256 given, uint256 least);
    error Plain();

    mapping(uint256 => uint256) public stored;
    address public last;
    uint256 public deployedAt = block.timestamp;

    constructor() payable {}

    receive() external payable {}

    function store(uint256 key, uint256 value) external payable {
        stored[key] = value;
        emit Stored(msg.sender, key, value);
    }

    function storeMany(uint256 first, uint256 count, uint256 value) external {
        for (uint256 key = first; key < first + count; ++key) {
            stored[key] = value;
            emit Stored(msg.sender, key, value);
        }
        emit Noted("many");
    }

    function create(uint256 value) external payable {
        Child child = new Child{value: value}();
        last = address(child);
    }

    function destroy() external {
        new Child{value: address(this).balance}().leave(payable(msg.sender));
    }

    /// Passes on at most 63 of 64 parts of its gas, and needs all of them to arrive.
    function deep(uint256 levels) external returns (uint256) {
        if (levels == 0) {
            for (uint256 key = 1000; key < 1010; ++key) stored[key] = gasleft();
            return 0;
        }
        return Probe(payable(this)).deep(levels - 1) + 1;
    }

    function pay(address payable to, uint256 value) external {
        (bool ok,) = to.call{value: value}("");
        require(ok, "payment failed");
    }

    function failWithReason() external pure {
        revert("not today");
    }

    function failWithData(uint256 given) external pure {
        revert TooSmall(given, 10);
    }

    function failPlain() external pure {
        revert Plain();
    }

    function failSilently() external pure {
        revert();
    }

    function panic(uint256 divisor) external pure returns (uint256) {
        return 1 / divisor;
    }

    function invalid() external pure {
        assembly {
            invalid()
        }
    }

    function forever() external pure {
        while (true) {}
    }

    function context() external view returns (uint256, uint256, uint256, address, uint256, uint256) {
        return (block.number, block.timestamp, block.chainid, block.coinbase, block.gaslimit, tx.gasprice);
    }

    function hashOf(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }
}

contract Child {
    constructor() payable {}

    function leave(address payable to) external {
        selfdestruct(to);
    }
}
