//! Job ids and the hashes that are signed.

use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_sol_types::{SolStruct, SolValue, eip712_domain, sol};
use roadstead_types::{Bill, JobId, Terms};

use crate::bindings::Payment;

sol! {
    /// What a signer signs: one job's bill (EIP-712).
    struct Voucher {
        bytes32 job;
        uint96 cumulative;
        uint32 until;
        bytes32 usageRoot;
    }
}

/// The id of the job with these terms: `keccak256(abi.encode(chain id, contract, terms))`, the chain id being the one
/// at the contract's deployment.
pub fn job_id(chain_id: u64, contract: Address, terms: &Terms) -> JobId {
    let encoded = (U256::from(chain_id), contract, Payment::Terms::from(terms)).abi_encode();
    JobId(keccak256(encoded))
}

/// The EIP-712 digest that accepts `bill` for `job`, under the domain of the payment contract.
pub fn voucher_digest(chain_id: u64, contract: Address, job: JobId, bill: &Bill) -> B256 {
    let voucher = Voucher {
        job: job.0,
        cumulative: bill.cumulative.into(),
        until: bill.until.0,
        usageRoot: bill.usage_root,
    };
    let domain = eip712_domain! {
        name: "Roadstead",
        version: "1",
        chain_id: chain_id,
        verifying_contract: contract,
    };
    voucher.eip712_signing_hash(&domain)
}
