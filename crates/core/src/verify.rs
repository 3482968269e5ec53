//! A bill, recomputed from its receipts.

use alloy_primitives::Address;
use roadstead_abi::{receipt_root, recover, voucher_digest};
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
    /// What was due: what was accepted of that, or the start fee where it was taken and is more, but never more than the
    /// deposit. Rounding on the chain may leave a unit of it at each settlement.
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
    #[error("what was accepted comes to {due} token units, {paid} were paid")]
    Paid {
        /// By the receipts and the voucher.
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
    /// The last voucher; without one all that was metered is due.
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
    let metered = follower.head().map(|head| head.cumulative).unwrap_or_default();
    let accepted = match job.voucher {
        Some(voucher) => accepted_by(voucher, job)?,
        None => metered.min(job.deposit),
    };
    let paid = job.state.paid;
    // Whatever is paid beyond what was accepted is the start fee, of which the bill is a part.
    let due = if paid > accepted { accepted.max(job.terms.start_fee) } else { accepted };
    let due = due.min(job.deposit);
    let receipts = follower.head().map_or(0, |head| head.seq.saturating_add(1));
    // Each settlement rounds what the time allows down by less than a unit, and none is dated as another.
    let rounded = TokenAmount::new(receipts.into()).unwrap_or(TokenAmount::MAX);
    if paid > due || due.saturating_sub(paid) > rounded {
        return Err(BillProblem::Paid { due, paid });
    }
    let until = follower.head().map_or(job.opened_at, |head| head.to);
    Ok(Recomputed { receipts, until, metered, due })
}

/// What the last voucher accepts. It is of any of the receipts, and for no more.
fn accepted_by(voucher: &Voucher, job: &FinishedJob<'_>) -> Result<TokenAmount, BillProblem> {
    let bill = &voucher.bill;
    let digest = voucher_digest(job.domain, job.job, bill);
    let of = job.receipts.iter().find(|signed| receipt_root(&signed.receipt) == bill.usage_root);
    let follows = of.is_some_and(|signed| {
        bill.until == signed.receipt.to && bill.cumulative <= signed.receipt.cumulative
    });
    if follows && recover(&digest, &voucher.signature) == Some(job.terms.signer) {
        Ok(bill.cumulative)
    } else {
        Err(BillProblem::Voucher)
    }
}
