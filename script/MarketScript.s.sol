// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";

import {CHEAT_CODES, Vm} from "../tests/contracts/utils/Vm.sol";

/// @title MarketScript
/// @notice Deploys a market, and writes the file that tells everybody about it. The contracts come from their artefacts,
/// so they are compiled by their own settings and not by those of the scripts.
///
/// @dev Forge runs a script to its end before it sends anything. So the market file stands before the contracts do: where
/// sending fails, it is worth nothing, and running the script again replaces it. It is not written in a dry run.
abstract contract MarketScript {
    Vm internal constant vm = Vm(CHEAT_CODES);

    /// @dev Longest symbol of a token, in bytes.
    uint256 private constant MAX_SYMBOL_LENGTH = 32;

    /// @dev Where forge listens for what a script says.
    address private constant CONSOLE = 0x000000000000000000636F6e736F6c652e6c6f67;

    /// @notice What was deployed.
    struct Deployment {
        address token;
        address registry;
        address payment;
    }

    /// @notice What the market file says of a token.
    struct Description {
        string symbol;
        uint256 decimals;
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      SETTINGS
    //////////////////////////////////////////////////////////////////////////*/

    // Forge's own `envOr` takes the other value also where the variable holds something else than it should: a key
    // that was mistyped would be anvil's.

    function _envOr(string memory name, bool otherwise) internal view returns (bool) {
        return vm.envExists(name) ? vm.envBool(name) : otherwise;
    }

    function _envOr(string memory name, uint256 otherwise) internal view returns (uint256) {
        return vm.envExists(name) ? vm.envUint(name) : otherwise;
    }

    function _envOr(string memory name, string memory otherwise) internal view returns (string memory) {
        return vm.envExists(name) ? vm.envString(name) : otherwise;
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      DEPLOYING
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev Makes a token that anybody can mint. To be called while broadcasting.
    function _deployTestToken() internal returns (address) {
        return vm.deployCode("TestToken.sol:TestToken", "");
    }

    /// @dev Makes the contracts of a market. To be called while broadcasting.
    function _deployMarket(address token) internal returns (Deployment memory) {
        address registry = vm.deployCode("Registry.sol:Registry", "");
        address payment = vm.deployCode("Payment.sol:Payment", abi.encode(token));
        return Deployment({token: token, registry: registry, payment: payment});
    }

    /// @dev Reverts where the account cannot pay for anything.
    function _requireEther(address account) internal view {
        if (account.balance != 0) return;
        revert(
            string.concat(
                vm.toString(account),
                " has no ether on chain ",
                vm.toString(block.chainid),
                ", so it cannot pay for transactions: send it some, or use another account"
            )
        );
    }

    /// @dev Reverts where there is no contract.
    function _requireToken(address token) internal view {
        if (token.code.length != 0) return;
        revert(
            string.concat(
                "TOKEN is ",
                vm.toString(token),
                ", where chain ",
                vm.toString(block.chainid),
                " has no contract: name an ERC-20 token of this chain, or none for a test token"
            )
        );
    }

    /*//////////////////////////////////////////////////////////////////////////
                                     MARKET FILE
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev What the market file says about the chain, before anything is deployed. `MARKET_RPC` names the nodes that the
    /// file tells everybody, with commas between them.
    function _chainSection(uint256 confirmations) internal returns (string memory) {
        bytes32 genesis = _genesis();
        if (!vm.envExists("MARKET_RPC")) {
            revert(
                "MARKET_RPC is not set, so the market file cannot say where the chain is: set it to the address that others"
                " reach a node at, often the one given as --rpc-url"
            );
        }
        string[] memory urls = vm.envString("MARKET_RPC", ",");
        string memory list;
        for (uint256 i; i < urls.length; ++i) {
            _requireChain(urls[i], genesis);
            list = string.concat(list, i == 0 ? "" : ", ", _quote(urls[i]));
        }
        // The contracts come with the next block at the earliest.
        uint256 fromBlock = _toUint(vm.rpc("eth_blockNumber", "[]")) + 1;
        return string.concat(
            "[chain]\nid = ",
            vm.toString(block.chainid),
            "\ngenesis = ",
            _quote(vm.toString(genesis)),
            "\nrpc = [",
            list,
            "]\nfrom_block = ",
            vm.toString(fromBlock),
            "\nconfirmations = ",
            vm.toString(confirmations),
            "\n"
        );
    }

    /// @dev Writes the market file to `MARKET_FILE`, which must be below `target/`, where the script is to do more than
    /// to say what it would do. Returns the file's name.
    function _writeMarket(bool isDevnet, string memory chain, Deployment memory deployment)
        internal
        returns (string memory file)
    {
        Description memory description = _describe(deployment.token);
        string memory contracts = string.concat(
            "[contracts]\nregistry = ",
            _quote(vm.toString(deployment.registry)),
            "\npayment = ",
            _quote(vm.toString(deployment.payment)),
            "\n"
        );
        string memory token = string.concat(
            "[token]\naddress = ",
            _quote(vm.toString(deployment.token)),
            "\nsymbol = ",
            _quote(description.symbol),
            "\ndecimals = ",
            vm.toString(description.decimals),
            "\n"
        );
        string memory head = string.concat("version = 1\ndevnet = ", isDevnet ? "true" : "false", "\n");
        string memory text = string.concat(head, "\n", chain, "\n", contracts, "\n", token);
        file = _envOr("MARKET_FILE", string("target/market.toml"));
        if (!vm.isContext(Vm.ForgeContext.ScriptBroadcast)) return file;
        try vm.writeFile(file, text) {}
        catch {
            revert(
                string.concat(
                    "the market file cannot be written to ",
                    file,
                    ": let MARKET_FILE name a file below target/ of this checkout, in a folder that is there"
                )
            );
        }
    }

    /// @dev Says something to whoever runs the script.
    function _say(string memory text) internal view {
        (bool heard,) = CONSOLE.staticcall(abi.encodeWithSignature("log(string)", text));
        assert(heard);
    }

    /// @dev What a token says of itself. Its answers are looked at before they are decoded, because decoding what makes no
    /// sense ends the script without a word.
    function _describe(address token) private view returns (Description memory) {
        (bool hasSymbol, bytes memory symbol) = token.staticcall(abi.encodeCall(IERC20Metadata.symbol, ()));
        (bool hasDecimals, bytes memory decimals) = token.staticcall(abi.encodeCall(IERC20Metadata.decimals, ()));
        if (hasSymbol && symbol.length >= 96 && hasDecimals && decimals.length >= 32) {
            (uint256 offset, uint256 length) = abi.decode(symbol, (uint256, uint256));
            uint256 digits = abi.decode(decimals, (uint256));
            if (offset == 32 && length != 0 && length <= MAX_SYMBOL_LENGTH && digits <= type(uint8).max) {
                return Description({symbol: abi.decode(symbol, (string)), decimals: digits});
            }
        }
        revert(
            string.concat(
                "the token at ",
                vm.toString(token),
                " does not say its decimals and a symbol of 1 to 32 bytes, as ERC-20 tokens do: use another token"
            )
        );
    }

    /// @dev The hash of block 0.
    function _genesis() private view returns (bytes32) {
        try vm.getRawBlockHeader(0) returns (bytes memory header) {
            return keccak256(header);
        } catch {
            revert("there is no chain to deploy to, or its node does not give block 0: name a node with --rpc-url");
        }
    }

    /// @dev Reverts unless the node at the address knows the block by this hash. That shows two things at once: that it is
    /// the chain the script runs on, and that the chain hashes its blocks as Ethereum does.
    function _requireChain(string memory url, bytes32 genesis) private {
        string memory question = string.concat("[\"", vm.toString(genesis), "\", false]");
        try vm.rpc(url, "eth_getBlockByHash", question) returns (bytes memory answer) {
            // A block takes hundreds of bytes, `null` a word or two.
            if (answer.length > 320) return;
        } catch {
            revert(string.concat("the node at ", url, ", which MARKET_RPC names, does not answer: is it running?"));
        }
        revert(
            string.concat(
                "the node at ",
                url,
                " does not know block ",
                vm.toString(genesis),
                ", the first one of the chain that is deployed to: let MARKET_RPC name nodes of that chain"
            )
        );
    }

    /// @dev A number as nodes give it: without leading zeros, so of any length.
    function _toUint(bytes memory number) private pure returns (uint256 value) {
        for (uint256 i; i < number.length; ++i) {
            value = value << 8 | uint8(number[i]);
        }
    }

    /// @dev A TOML string. What would have to be escaped is in no address and in no honest symbol, so it is refused.
    function _quote(string memory text) private pure returns (string memory) {
        bytes memory characters = bytes(text);
        for (uint256 i; i < characters.length; ++i) {
            bytes1 one = characters[i];
            if (one < 0x20 || one == 0x7f || one == "\"" || one == "\\") {
                revert(string.concat("the market file cannot hold `", text, "`: it has a character that is refused"));
            }
        }
        return string.concat("\"", text, "\"");
    }
}
