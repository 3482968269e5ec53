//! Job ids, the hashes that are signed, and whose a signature is.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, SolValue, eip712_domain, sol};
use roadstead_types::{Bill, Domain, JobId, Resource, Session, Signature, Terms};

use crate::bindings::Payment;

sol! {
    /// What a signer signs: one job's bill (EIP-712).
    struct Voucher {
        bytes32 job;
        uint96 cumulative;
        uint32 until;
        bytes32 usageRoot;
    }

    /// What a provider signs: one reading of a job's meter (EIP-712). Totals in the order of [`Resource::ALL`].
    struct Receipt {
        bytes32 job;
        uint32 seq;
        uint32 from;
        uint32 to;
        uint64[6] total;
        uint96 cumulative;
        bytes32 prev;
    }

    /// What an account signs to speak through a peer (EIP-712). The peer by its binary id.
    struct PeerSession {
        address subject;
        bytes peer;
        address provider;
        uint32 expiry;
        bytes32 nonce;
    }
}

/// The id of the job with these terms: `keccak256(abi.encode(chain id, contract, terms))`, the chain id being the one
/// at the contract's deployment.
pub fn job_id(domain: &Domain, terms: &Terms) -> JobId {
    let Domain { chain, contract } = *domain;
    let encoded = (U256::from(chain), contract, Payment::Terms::from(terms)).abi_encode();
    JobId(keccak256(encoded))
}

/// The EIP-712 digest that accepts `bill` for `job`, under the domain of the payment contract.
pub fn voucher_digest(domain: &Domain, job: JobId, bill: &Bill) -> B256 {
    let voucher = Voucher {
        job: job.0,
        cumulative: bill.cumulative.into(),
        until: bill.until.0,
        usageRoot: bill.usage_root,
    };
    voucher.eip712_signing_hash(&eip712(domain))
}

/// The EIP-712 struct hash of a receipt: `prev` of the receipt after it, and the usage root of the bill that follows
/// from it.
pub fn receipt_root(receipt: &roadstead_types::Receipt) -> B256 {
    Receipt::from(receipt).eip712_hash_struct()
}

/// The EIP-712 digest of a receipt, under the domain of the payment contract.
pub fn receipt_digest(domain: &Domain, receipt: &roadstead_types::Receipt) -> B256 {
    Receipt::from(receipt).eip712_signing_hash(&eip712(domain))
}

/// The EIP-712 digest of a session, under the domain of the payment contract.
pub fn session_digest(domain: &Domain, session: &Session) -> B256 {
    let session = PeerSession {
        subject: session.subject,
        peer: session.peer.to_bytes().into(),
        provider: session.provider,
        expiry: session.expiry.0,
        nonce: session.nonce,
    };
    session.eip712_signing_hash(&eip712(domain))
}

/// Whose signature of `digest` it is, by the rules of the contracts: 65 bytes, 27 or 28 at their end, `s` in the lower
/// half of the curve's order. `None` where it is nobody's.
pub fn recover(digest: &B256, signature: &Signature) -> Option<Address> {
    if !matches!(signature.0[64], 27 | 28) {
        return None;
    }
    let parsed = alloy_primitives::Signature::from_raw(&signature.0).ok()?;
    let is_high = parsed.normalize_s().is_some();
    if is_high { None } else { parsed.recover_address_from_prehash(digest).ok() }
}

fn eip712(domain: &Domain) -> Eip712Domain {
    eip712_domain! {
        name: "Roadstead",
        version: "1",
        chain_id: domain.chain,
        verifying_contract: domain.contract,
    }
}

impl From<&roadstead_types::Receipt> for Receipt {
    fn from(receipt: &roadstead_types::Receipt) -> Self {
        Self {
            job: receipt.job.0,
            seq: receipt.seq,
            from: receipt.from.0,
            to: receipt.to.0,
            total: Resource::ALL.map(|resource| receipt.total.get(resource)),
            cumulative: receipt.cumulative.into(),
            prev: receipt.prev,
        }
    }
}
