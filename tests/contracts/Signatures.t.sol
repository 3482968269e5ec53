// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPayment} from "../../contracts/interfaces/IPayment.sol";
import {Bill, Terms} from "../../contracts/types/Job.sol";
import {PaymentFixture} from "./utils/PaymentFixture.sol";
import {BurningSigner, MumblingSigner, NoSigner, ShoutingSigner, WalletSigner, YesSigner} from "./utils/Signers.sol";

contract SignaturesTest is PaymentFixture {
    /// The order of the curve.
    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    Terms private terms;
    Bill private bill;

    function setUp() public override {
        super.setUp();
        terms = _open();
        _wait(100);
        bill = _bill(90_000, time);
    }

    /*//////////////////////////////////////////////////////////////////////////
                                        KEYS
    //////////////////////////////////////////////////////////////////////////*/

    function test_Signature_OfTheSignerIsTaken() public {
        _expectPaid(_sign(terms, bill));
    }

    function test_RevertWhen_SomebodyElseSigned() public {
        _expectRefused(_signWith(_key("provider"), terms, bill));
        _expectRefused(_signWith(_key("publisher"), terms, bill));
        _expectRefused(_signWith(_key("thief"), terms, bill));
    }

    function test_RevertWhen_TheSignatureIsOfAnotherJob() public {
        Terms memory other = _open();
        _expectRefused(_sign(other, bill));
    }

    function test_RevertWhen_TheSignatureIsOfAnotherBill() public {
        bytes memory signature = _sign(terms, bill);
        bill.cumulative += 1;
        _expectRefused(signature);
        bill.cumulative -= 1;
        bill.until -= 1;
        _expectRefused(signature);
        bill.until += 1;
        bill.usageRoot = keccak256("other");
        _expectRefused(signature);
    }

    function test_RevertWhen_TheSignatureIsForAnotherContract() public {
        IPayment other = _deployPayment(address(token));
        bytes32 digest = _digest(block.chainid, address(other), _id(terms), bill);
        _expectRefused(_signature(_key("signer"), digest));
    }

    function test_RevertWhen_TheSignatureIsForAnotherChain() public {
        bytes32 digest = _digest(block.chainid + 1, address(payment), _id(terms), bill);
        _expectRefused(_signature(_key("signer"), digest));
    }

    /// After a split each side takes its own signatures, and the job is still the same job.
    function test_Signature_FollowsTheChainAfterASplit() public {
        bytes32 job = _id(terms);
        bytes memory before = _sign(terms, bill);
        uint256 split = block.chainid + 1;
        vm.chainId(split);
        _expectRefused(before);
        _expectPaid(_signature(_key("signer"), _digest(split, address(payment), job, bill)));
    }

    function test_RevertWhen_TheSignatureIsHighS() public {
        (uint8 v, bytes32 r, bytes32 s) = _split(_sign(terms, bill));
        _expectRefused(abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27)));
    }

    function test_RevertWhen_TheSignatureHas64Bytes() public {
        (uint8 v, bytes32 r, bytes32 s) = _split(_sign(terms, bill));
        _expectRefused(abi.encodePacked(r, bytes32(uint256(s) | (uint256(v - 27) << 255))));
    }

    function test_RevertWhen_TheSignatureHasAnotherLength() public {
        bytes memory signature = _sign(terms, bill);
        _expectRefused("");
        _expectRefused(abi.encodePacked(signature, uint8(0)));
        _expectRefused(abi.encodePacked(signature, signature));
        _expectRefused(new bytes(64));
    }

    function test_RevertWhen_TheSignatureIsZero() public {
        _expectRefused(new bytes(65));
    }

    function test_RevertWhen_TheParityIsNot27Or28() public {
        (uint8 v, bytes32 r, bytes32 s) = _split(_sign(terms, bill));
        _expectRefused(abi.encodePacked(r, s, uint8(v - 27)));
        _expectRefused(abi.encodePacked(r, s, uint8(v + 2)));
    }

    /// What cannot be recovered is zero, and must not pass for the signature of nobody.
    function test_Attack_SignatureOfNobody() public {
        terms.signer = address(0);
        vm.expectRevert(abi.encodeWithSelector(IPayment.InvalidSignature.selector, address(0)));
        vm.prank(provider);
        payment.settle(terms, bill, new bytes(65), false);
    }

    /// The signature is checked before anything is compared, or a stale bill with rubbish would pass for a good one.
    function test_Attack_StaleBillWithRubbish() public {
        _settle(terms, 90_000);
        _expectRefused(new bytes(65));
        bill.cumulative = 1;
        bill.until = uint32(START);
        _expectRefused(new bytes(65));
        bill.until = type(uint32).max;
        _expectRefused(new bytes(65));
        _decline(terms);
        _expectRefused(new bytes(65));
    }

    function testFuzz_Signature_NothingElseIsTaken(bytes calldata signature) public {
        vm.assume(keccak256(signature) != keccak256(_sign(terms, bill)));
        _expectRefused(signature);
    }

    function testFuzz_Signature_NoFlippedBitIsTaken(uint256 bit) public {
        bytes memory signature = _sign(terms, bill);
        bit %= 65 * 8;
        signature[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        _expectRefused(signature);
    }

    /*//////////////////////////////////////////////////////////////////////////
                               KEYS THAT BECOME CONTRACTS
    //////////////////////////////////////////////////////////////////////////*/

    /// A library that asks for code first lets a key void its own vouchers after the service.
    function test_Attack_CodeAtTheSignerVoidsItsVouchers() public {
        bytes memory signature = _sign(terms, bill);
        vm.etch(signer, address(new NoSigner()).code);
        _expectPaid(signature);
    }

    function test_Attack_SignerDelegatesToCodeThatAnswersNo() public {
        bytes memory signature = _sign(terms, bill);
        vm.signAndAttachDelegation(address(new NoSigner()), _key("signer"));
        vm.prank(signer);
        payment.setOperator(address(0)); // Any transaction carries the delegation.
        vm.assertEq(signer.code.length, 23, "delegated");
        _expectPaid(signature);
    }

    function test_Signature_OfADelegatedKeyMayComeFromItsCode() public {
        vm.etch(signer, address(new WalletSigner(sponsor)).code);
        _expectRefused(_signWith(_key("thief"), terms, bill));
        _expectPaid(_signWith(_key("sponsor"), terms, bill));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                      CONTRACTS
    //////////////////////////////////////////////////////////////////////////*/

    function test_Contract_AcceptsForItsOwner() public {
        _useSigner(address(new WalletSigner(sponsor)));
        _expectRefused(_signWith(_key("thief"), terms, bill));
        _expectPaid(_signWith(_key("sponsor"), terms, bill));
    }

    function test_Contract_MayTakeAnyBytes() public {
        _useSigner(address(new YesSigner()));
        _expectPaid("yes");
    }

    function test_Contract_ChangesItsMind() public {
        WalletSigner wallet = new WalletSigner(sponsor);
        _useSigner(address(wallet));
        bytes memory signature = _signWith(_key("sponsor"), terms, bill);
        wallet.revoke();
        _expectRefused(signature);
        _assertJob(terms, DEPOSIT, 0, START + 100, 0);
    }

    function test_RevertWhen_TheContractAnswersNo() public {
        _useSigner(address(new NoSigner()));
        _expectRefused("yes");
    }

    function test_RevertWhen_TheContractAnswersTooLittle() public {
        _useSigner(address(new MumblingSigner()));
        _expectRefused("yes");
    }

    function test_RevertWhen_TheContractReverts() public {
        _useSigner(address(new ShoutingSigner()));
        _expectRefused("yes");
    }

    /// It costs its own provider gas, and no more: each call concerns one signer only.
    function test_Attack_ContractBurnsTheGas() public {
        _useSigner(address(new BurningSigner()));
        vm.expectRevert(abi.encodeWithSelector(IPayment.InvalidSignature.selector, terms.signer));
        vm.prank(provider);
        payment.settle{gas: 2_000_000}(terms, bill, "yes", false);
    }

    function test_Attack_ContractCannotBeTakenForAKey() public {
        _useSigner(address(new NoSigner()));
        _expectRefused(_signWith(_key("signer"), terms, bill));
    }

    /// An account without code answers every call with success and nothing.
    function test_Attack_AccountWithoutCodeIsNoContract() public {
        _useSigner(address(0xdead));
        _expectRefused("yes");
        _expectRefused(_sign(terms, bill));
    }

    /// A signer that is a precompiled contract: `identity` returns the very call it was sent.
    function test_Attack_PrecompiledContractAsSigner() public {
        _useSigner(address(4));
        // The echo starts with the selector, followed by the digest instead of zeros.
        _expectRefused("");
        _expectRefused(new bytes(65));
    }

    /*//////////////////////////////////////////////////////////////////////////
                                    SHARED STEPS
    //////////////////////////////////////////////////////////////////////////*/

    /// @dev A job with another signer, and a bill for it.
    function _useSigner(address other) private {
        Terms memory next = _terms();
        next.signer = other;
        _open(next, DEPOSIT);
        terms = next;
        _wait(100);
        bill = _bill(90_000, time);
    }

    function _expectPaid(bytes memory signature) private {
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
        _assertBalance(provider, 90_000);
    }

    function _expectRefused(bytes memory signature) private {
        bytes memory reason = abi.encodeWithSelector(IPayment.InvalidSignature.selector, terms.signer);
        vm.expectRevert(reason);
        vm.prank(provider);
        payment.settle(terms, bill, signature, false);
        vm.expectRevert(reason);
        vm.prank(provider);
        payment.settleAndClose(terms, bill, signature, false);
    }

    function _split(bytes memory signature) private pure returns (uint8 v, bytes32 r, bytes32 s) {
        (r, s) = abi.decode(signature, (bytes32, bytes32));
        v = uint8(signature[64]);
    }
}
