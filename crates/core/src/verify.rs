//! A bill, recomputed from its receipts.

use alloy_primitives::Address;
use roadstead_abi::{receipt_root, recover, voucher_digest};
use roadstead_types::{
    Bill, Domain, Job, JobId, SignedReceipt, Tariff, Terms, Timestamp, TokenAmount, Voucher,
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
    /// deposit.
    pub due: TokenAmount,
    /// What of that the provider did not take: what the chain rounds off at each settlement, or a bill that was accepted
    /// and not settled.
    pub unclaimed: TokenAmount,
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
    /// What was paid for is not all there.
    #[error("receipts are missing: there are {receipts}, and more was paid than they explain")]
    Missing {
        /// How many there are.
        receipts: u32,
    },
    /// More was paid than was due.
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
    /// When it was opened, as the chain has it at the end.
    pub opened_at: Timestamp,
    /// All that was put in.
    pub deposit: TokenAmount,
    /// The slot at the end.
    pub state: Job,
    /// All receipts, from number 0 on. The last one may be one of which the voucher accepts only what is right.
    pub receipts: &'a [SignedReceipt],
    /// The last voucher; without one all that was metered is due.
    pub voucher: Option<&'a Voucher>,
}

/// Recomputes the whole bill of a job that is over: every signature, every link, every sum, and what was paid.
///
/// How early the receipts begin is not looked at: they were judged by the opening that the chain had then, and a
/// reorganisation may have moved it since, by any time. The money is bounded all the same, because the contract pays no
/// more than the rate of the terms allows since the opening that stands.
pub fn verify_bill(job: &FinishedJob<'_>) -> Result<Recomputed, BillProblem> {
    let mut follower = Follower::new(job.job, *job.tariff);
    let mut disputed = None;
    for (index, signed) in job.receipts.iter().enumerate() {
        let given = Circumstances {
            domain: job.domain,
            terms: job.terms,
            operator: job.operator,
            opened_at: Timestamp::default(),
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
            Verdict::Refused { bill: Some(bill), .. }
                if index + 1 == job.receipts.len() && is_for(job.voucher, &bill) =>
            {
                disputed = Some(bill);
            }
            Verdict::Known => return Err(BillProblem::Receipt { seq, code: RefusalCode::Order }),
            Verdict::Refused { refusal, .. } => {
                return Err(BillProblem::Receipt { seq, code: refusal.code });
            }
        }
    }
    let head = follower.head();
    let metered = disputed.map(|bill| bill.cumulative).or(head.map(|head| head.cumulative));
    let metered = metered.unwrap_or_default();
    let until = disputed.map(|bill| bill.until).or(head.map(|head| head.to));
    let receipts = u32::try_from(job.receipts.len()).unwrap_or(u32::MAX);
    let accepted = match job.voucher {
        Some(voucher) => accepted_by(voucher, disputed.as_ref(), job)?,
        None => metered.min(job.deposit),
    };
    let paid = job.state.paid;
    // Whatever is paid beyond what was accepted is the start fee, of which the bill is a part.
    let due = if paid > accepted { accepted.max(job.terms.start_fee) } else { accepted };
    let due = due.min(job.deposit);
    if paid > due {
        let is_missing = until.is_none_or(|until| until < job.state.paid_until);
        return Err(if is_missing {
            BillProblem::Missing { receipts }
        } else {
            BillProblem::Paid { due, paid }
        });
    }
    let (until, unclaimed) = (until.unwrap_or(job.opened_at), due.saturating_sub(paid));
    Ok(Recomputed { receipts, until, metered, due, unclaimed })
}

fn is_for(voucher: Option<&Voucher>, bill: &Bill) -> bool {
    voucher.is_some_and(|voucher| voucher.bill.usage_root == bill.usage_root)
}

/// What the last voucher accepts. It is of any of the receipts, and for no more than what of it is right.
fn accepted_by(
    voucher: &Voucher,
    disputed: Option<&Bill>,
    job: &FinishedJob<'_>,
) -> Result<TokenAmount, BillProblem> {
    let bill = &voucher.bill;
    let digest = voucher_digest(job.domain, job.job, bill);
    let of = job.receipts.iter().find(|signed| receipt_root(&signed.receipt) == bill.usage_root);
    let follows = of.is_some_and(|signed| {
        let most = disputed.map_or(signed.receipt.cumulative, |disputed| disputed.cumulative);
        bill.until == signed.receipt.to && bill.cumulative <= most
    });
    if follows && recover(&digest, &voucher.signature) == Some(job.terms.signer) {
        Ok(bill.cumulative)
    } else {
        Err(BillProblem::Voucher)
    }
}
