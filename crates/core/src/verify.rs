//! A bill, recomputed from its receipts.

use alloy_primitives::Address;
use roadstead_types::{
    Domain, Job, JobId, SignedReceipt, Tariff, Terms, Timestamp, TokenAmount, Voucher,
};
use serde::Serialize;

use crate::follow::{Circumstances, Follower, Verdict};
use crate::protocol::RefusalCode;

/// What a bill comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Recomputed {
    /// How many receipts there are.
    pub receipts: u32,
    /// Up to when they run.
    pub until: Timestamp,
    /// What follows from them, in token base units.
    pub metered: TokenAmount,
    /// What was due: that, or the start fee where it was taken and is more, but never more than the deposit.
    pub due: TokenAmount,
}

/// Why a bill does not follow from its receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BillProblem {
    /// A receipt that no agent accepts.
    #[error("receipt {seq} is wrong: {code:?}")]
    Receipt {
        /// Its number.
        seq: u32,
        /// What is wrong.
        code: RefusalCode,
    },
    /// The voucher is for something else.
    #[error("the last voucher does not follow from the receipts")]
    Voucher,
    /// The chain says otherwise.
    #[error("the receipts come to {due} token units, {paid} were paid")]
    Paid {
        /// By the receipts.
        due: TokenAmount,
        /// By the chain.
        paid: TokenAmount,
    },
}

/// A finished job, with all that its bill rests on.
#[derive(Clone, Copy, Debug)]
pub struct FinishedJob<'a> {
    /// Where the signatures count.
    pub domain: &'a Domain,
    /// Which job.
    pub job: JobId,
    /// What both sides agreed on.
    pub terms: &'a Terms,
    /// What it was metered by.
    pub tariff: &'a Tariff,
    /// Who signed for the provider besides itself.
    pub operator: Option<Address>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// All that was put in.
    pub deposit: TokenAmount,
    /// The slot at the end.
    pub state: Job,
    /// All receipts, from number 0 on.
    pub receipts: &'a [SignedReceipt],
    /// The last voucher.
    pub voucher: Option<&'a Voucher>,
}

/// Recomputes the whole bill of a job that is over: every signature, every link, every sum, and what was paid.
pub fn verify_bill(job: &FinishedJob<'_>) -> Result<Recomputed, BillProblem> {
    let mut follower = Follower::new(job.job, *job.tariff);
    for signed in job.receipts {
        let given = Circumstances {
            domain: job.domain,
            terms: job.terms,
            operator: job.operator,
            opened_at: job.opened_at,
            limit: job.deposit,
            is_deposit: true,
            now: signed.receipt.to,
        };
        let seq = signed.receipt.seq;
        match follower.examine(signed, None, &given) {
            Verdict::Accepted { bill, .. } => {
                // Only the bill counts here: a signature is looked for in the last voucher.
                let voucher = Voucher { bill, signature: signed.signature };
                follower.accept(signed, voucher, None);
            }
            Verdict::Known => return Err(BillProblem::Receipt { seq, code: RefusalCode::Order }),
            Verdict::Refused { refusal, .. } => {
                return Err(BillProblem::Receipt { seq, code: refusal.code });
            }
        }
    }
    let expected = follower.voucher().map(|voucher| voucher.bill);
    if let Some(voucher) = job.voucher {
        let digest = roadstead_abi::voucher_digest(job.domain, job.job, &voucher.bill);
        let signer = roadstead_abi::recover(&digest, &voucher.signature);
        if Some(voucher.bill) != expected || signer != Some(job.terms.signer) {
            return Err(BillProblem::Voucher);
        }
    }
    let metered = follower.accepted();
    let paid = job.state.paid;
    // The start fee is taken only where something ran, and then it is the least.
    let due = if paid.is_zero() { metered } else { metered.max(job.terms.start_fee) };
    let due = due.min(job.deposit);
    if due != paid {
        return Err(BillProblem::Paid { due, paid });
    }
    let until = follower.head().map_or(job.opened_at, |head| head.to);
    let receipts = follower.head().map_or(0, |head| head.seq.saturating_add(1));
    Ok(Recomputed { receipts, until, metered, due })
}
