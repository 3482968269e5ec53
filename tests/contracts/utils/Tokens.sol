// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// @notice What every odd token below is at heart.
abstract contract OddToken is ERC20("Odd", "ODD") {
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }
}

/// @notice Keeps one percent of every `transferFrom`.
contract TaxingToken is OddToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        _burn(to, amount / 100);
        return true;
    }
}

/// @notice Gives one unit more than it was asked to.
contract GenerousToken is OddToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _mint(to, 1);
        return super.transferFrom(from, to, amount);
    }
}

/// @notice Says that it moved tokens, and did not.
contract LyingToken is OddToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }
}

/// @notice Answers false instead of reverting.
contract RefusingToken is OddToken {
    function transfer(address, uint256) public pure override returns (bool) {
        return false;
    }

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @notice Answers nothing at all, like the oldest dollar token.
contract SilentToken {
    mapping(address => uint256) public balanceOf;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @notice Refuses to send to whoever is blocked.
contract BlockingToken is OddToken {
    error Blocked(address account);

    mapping(address => bool) public blocked;

    function block_(address account) external {
        blocked[account] = true;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (blocked[to]) revert Blocked(to);
        super._update(from, to, amount);
    }
}

/// @notice Tells whoever asked about every transfer they send or receive, as tokens with hooks do.
contract HookToken is OddToken {
    mapping(address => bool) private _hooked;

    function hook(address account) external {
        _hooked[account] = true;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_hooked[from]) IHooked(from).tokensMoved();
        if (_hooked[to]) IHooked(to).tokensMoved();
    }
}

/// @notice Who is told.
interface IHooked {
    function tokensMoved() external;
}

/// @notice Makes one prepared call when it is told that tokens moved, and keeps the answer.
contract Reentrant is IHooked {
    address private immutable TARGET;
    bytes public attack;
    bool public succeeded;
    bytes public answer;

    constructor(address target) {
        TARGET = target;
    }

    function prepare(bytes calldata attack_) external {
        attack = attack_;
    }

    /// @dev Does as it is told, so that it can be a publisher or a provider.
    function act(address target, bytes calldata data) external {
        Address.functionCall(target, data);
    }

    function tokensMoved() external override {
        if (attack.length == 0) return;
        bytes memory data = attack;
        delete attack;
        (succeeded, answer) = TARGET.call(data);
    }
}
