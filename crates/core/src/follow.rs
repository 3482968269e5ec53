//! A job as the agent of its signer follows it: receipts in, vouchers out.
//!
//! ```text
//!  following(head) ── a receipt that does not add up ──> refusing(seq, code) ── the same number, right ──> following
//!        │
//!        ├── more than may be spent ──> following, short ── top-up ──> following
//!        └── two receipts with one number ──> no more vouchers, for good
//! ```
//!
//! A receipt that is not accepted is kept all the same, with the voucher for what of it is: its number is as used up as
//! that of one that was accepted.
//!
//! A voucher is a function of the receipt and of what may be spent, and signing is deterministic (RFC 6979): agents that
//! see the same receipts sign the same bytes, and one that lost everything signs them again.

use alloy_primitives::{Address, B256};
use roadstead_abi::{receipt_digest, receipt_root, recover};
use roadstead_types::{
    Bill, Domain, JobId, Receipt, Resource, Resources, Seconds, SignedReceipt, Tariff, Terms,
    Timestamp, TokenAmount, Voucher,
};
use serde::{Deserialize, Serialize};

use crate::{
    account::ReceiptHead,
    billing::{cost_of, due_for},
    protocol::{ReceiptRefusal, RefusalCode},
};

/// How far a provider's clock may be ahead.
pub const MAX_AHEAD: Seconds = Seconds(60);

/// More receipts than an honest provider makes are so many, and twice as many as there were intervals.
const MANY_RECEIPTS: u64 = 64;

/// One job of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follower {
    job: JobId,
    tariff: Tariff,
    head: Option<ReceiptHead>,
    voucher: Option<Voucher>,
    refusal: Option<ReceiptRefusal>,
    /// The receipt after the head, where the provider signed one that is not accepted.
    refused: Option<SignedReceipt>,
    /// Where the first receipt begins.
    begun: Option<Timestamp>,
    /// Whether the job is over and no receipt is missing.
    is_complete: bool,
}

/// What a receipt is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Where the signatures count.
    pub domain: &'a Domain,
    /// Of the job.
    pub terms: &'a Terms,
    /// Who signs for the provider besides itself.
    pub operator: Option<Address>,
    /// When the job was opened.
    pub opened_at: Timestamp,
    /// The most that may be accepted: the deposit, or less.
    pub limit: TokenAmount,
    /// Whether the deposit is what limits.
    pub is_deposit: bool,
    /// The time on the chain.
    pub now: Timestamp,
}

/// A receipt that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right. The bill to sign for it, and, where that is for less, why.
    Accepted {
        /// What is accepted.
        bill: Bill,
        /// Why not all.
        shortage: Option<ReceiptRefusal>,
    },
    /// It was accepted before.
    Known,
    /// It is not right. The bill to sign all the same, if any of it is accepted.
    Refused {
        /// Why.
        refusal: ReceiptRefusal,
        /// What is accepted instead.
        bill: Option<Bill>,
    },
}

impl Circumstances<'_> {
    /// Why no more than `most` is accepted.
    fn shortage_code(&self, most: TokenAmount) -> RefusalCode {
        if most < self.limit {
            RefusalCode::Rate
        } else if self.is_deposit {
            RefusalCode::Deposit
        } else {
            RefusalCode::Limit
        }
    }
}

impl Follower {
    /// A job of which no receipt was seen.
    pub const fn new(job: JobId, tariff: Tariff) -> Self {
        Self {
            job,
            tariff,
            head: None,
            voucher: None,
            refusal: None,
            refused: None,
            begun: None,
            is_complete: false,
        }
    }

    /// Which job.
    pub const fn job(&self) -> JobId {
        self.job
    }

    /// What it is metered by.
    pub const fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// The newest receipt that was accepted.
    pub const fn head(&self) -> Option<&ReceiptHead> {
        self.head.as_ref()
    }

    /// The newest voucher.
    pub const fn voucher(&self) -> Option<&Voucher> {
        self.voucher.as_ref()
    }

    /// Why the receipt after the head is not accepted.
    pub const fn refusal(&self) -> Option<&ReceiptRefusal> {
        self.refusal.as_ref()
    }

    /// The receipt after the head, where the provider signed one that is not accepted as it is.
    pub const fn refused(&self) -> Option<&SignedReceipt> {
        self.refused.as_ref()
    }

    /// That receipt, where the newest voucher is for what of it is right.
    pub fn disputed(&self) -> Option<&SignedReceipt> {
        let root = self.voucher.map(|voucher| voucher.bill.usage_root);
        self.refused.as_ref().filter(|signed| Some(receipt_root(&signed.receipt)) == root)
    }

    /// Whether the job is over and no receipt is missing.
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Notes whether the job is over and no receipt is missing.
    pub const fn set_complete(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
    }

    /// Whether nothing is signed any more.
    pub fn has_evidence(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::Equivocation)
    }

    /// All that was accepted so far.
    pub fn accepted(&self) -> TokenAmount {
        self.voucher.map(|voucher| voucher.bill.cumulative).unwrap_or_default()
    }

    /// Judges a receipt: signature, order, time, growth, sum, deposit. `known` is the root of the receipt that was
    /// accepted under its number, if one was.
    pub fn examine(
        &self,
        signed: &SignedReceipt,
        known: Option<B256>,
        given: &Circumstances<'_>,
    ) -> Verdict {
        if let Some(evidence) = self.refusal.as_ref().filter(|_| self.has_evidence()) {
            return Verdict::Refused { refusal: evidence.clone(), bill: None };
        }
        let receipt = &signed.receipt;
        let found = ReceiptHead::from(receipt);
        let refuse = |code| Verdict::Refused {
            refusal: ReceiptRefusal { seq: receipt.seq, code, accepted: self.accepted() },
            bill: None,
        };
        let signer = recover(&receipt_digest(given.domain, receipt), &signed.signature);
        let is_providers =
            signer.is_some_and(|who| who == given.terms.provider || Some(who) == given.operator);
        if receipt.job != self.job || !is_providers {
            return refuse(RefusalCode::Signature);
        }
        match known {
            Some(known) if known == found.root => return Verdict::Known,
            Some(_) => return refuse(RefusalCode::Equivocation),
            None => {}
        }
        let refused = self.refused.as_ref().map(|refused| &refused.receipt);
        if refused.is_some_and(|it| it.seq == receipt.seq && receipt_root(it) != found.root) {
            return refuse(RefusalCode::Equivocation);
        }
        let (prev, total) = match &self.head {
            Some(head) => (head.root, head.total),
            None => (self.job.0, Resources::default()),
        };
        if Some(receipt.seq) != self.next() || receipt.prev != prev {
            return refuse(RefusalCode::Order);
        }
        if !self.is_timely(receipt, given) {
            return refuse(RefusalCode::Time);
        }
        self.judge_usage(signed, &found, &total, given)
    }

    /// The number of the receipt after the head.
    fn next(&self) -> Option<u32> {
        self.head.as_ref().map_or(Some(0), |head| head.seq.checked_add(1))
    }

    /// Whether a receipt joins the one before, lies between the opening and now, and is not one of too many.
    fn is_timely(&self, receipt: &Receipt, given: &Circumstances<'_>) -> bool {
        // An opening that a reorganisation moved to a later block takes nothing back that was signed before: only the
        // first receipt is measured by it.
        let joins = match &self.head {
            Some(head) => receipt.from == head.to,
            None => receipt.from.after(MAX_AHEAD) >= given.opened_at,
        };
        let begun = self.begun.unwrap_or(receipt.from).min(given.opened_at);
        let interval = u64::from(self.tariff.interval.0.max(1));
        let most = 2 * u64::from(receipt.to.since(begun).0) / interval + MANY_RECEIPTS;
        joins
            && receipt.from < receipt.to
            && receipt.to <= given.now.after(MAX_AHEAD)
            && u64::from(receipt.seq) <= most
    }

    fn judge_usage(
        &self,
        signed: &SignedReceipt,
        found: &ReceiptHead,
        before: &Resources<u64>,
        given: &Circumstances<'_>,
    ) -> Verdict {
        let receipt = &signed.receipt;
        let seconds = u64::from(receipt.to.since(receipt.from).0);
        let most = |resource| {
            let growth = self.tariff.reservation.get(resource).saturating_mul(seconds);
            before.get(resource).saturating_add(growth)
        };
        let total = &receipt.total;
        let is_within =
            |each: &Resource| (before.get(*each)..=most(*each)).contains(&total.get(*each));
        let due = |total: &Resources<u64>| {
            due_for(total, &self.tariff.prices).unwrap_or(TokenAmount::MAX)
        };
        let bill = |cumulative| Bill { cumulative, until: receipt.to, usage_root: found.root };
        let short = |code, accepted| ReceiptRefusal { seq: receipt.seq, code, accepted };
        let floor = self.accepted();
        let wrong = if !Resource::ALL.iter().all(is_within) {
            let clamped =
                Resources::from_fn(|each| total.get(each).clamp(before.get(each), most(each)));
            Some((RefusalCode::Growth, due(&clamped)))
        } else if due(total) != receipt.cumulative {
            Some((RefusalCode::Sum, due(total)))
        } else {
            None
        };
        let allowed = self.most_at(receipt.to, given);
        let most = allowed.max(floor);
        if let Some((code, right)) = wrong {
            let accepted = right.min(receipt.cumulative).min(most).max(floor);
            return Verdict::Refused {
                refusal: short(code, accepted),
                bill: (accepted <= receipt.cumulative).then(|| bill(accepted)),
            };
        }
        let accepted = receipt.cumulative.min(most);
        let code = given.shortage_code(allowed);
        let shortage = (accepted < receipt.cumulative).then(|| short(code, accepted));
        Verdict::Accepted { bill: bill(accepted), shortage }
    }

    /// The bill to sign for the head once more, where more of it may be accepted now than was: after a top-up, or under a
    /// higher limit. Then nothing, or what is still short. It is dated as the one before.
    pub fn examine_head(&self, given: &Circumstances<'_>) -> Option<Verdict> {
        let head = self.head.as_ref()?;
        let is_heads = self.voucher.is_some_and(|voucher| voucher.bill.usage_root == head.root);
        let most = self.most_at(head.to, given);
        let accepted = head.cumulative.min(most);
        if !is_heads || self.has_evidence() || accepted <= self.accepted() {
            return None;
        }
        let bill = Bill { cumulative: accepted, until: head.to, usage_root: head.root };
        let code = given.shortage_code(most);
        let shortage = (accepted < head.cumulative).then_some(ReceiptRefusal {
            seq: head.seq,
            code,
            accepted,
        });
        Some(Verdict::Accepted { bill, shortage })
    }

    /// What may be accepted up to a moment: no more than the limit, and no more than the terms' rate
    /// allows since the opening.
    fn most_at(&self, until: Timestamp, given: &Circumstances<'_>) -> TokenAmount {
        let terms = given.terms;
        let earned = cost_of(terms.rate_per_hour, until.since(given.opened_at));
        given.limit.min(earned.max(terms.start_fee))
    }

    /// Takes in an accepted receipt with the voucher for it.
    pub fn accept(
        &mut self,
        receipt: &SignedReceipt,
        voucher: Voucher,
        shortage: Option<ReceiptRefusal>,
    ) {
        if self.has_evidence() {
            return;
        }
        self.begun.get_or_insert(receipt.receipt.from);
        self.head = Some((&receipt.receipt).into());
        self.voucher = Some(voucher);
        self.refusal = shortage;
        self.refused = None;
    }

    /// Takes in a fuller voucher for the head.
    pub fn accept_more(&mut self, voucher: Voucher, shortage: Option<ReceiptRefusal>) {
        if self.has_evidence() {
            return;
        }
        self.voucher = Some(voucher);
        let head = self.head.as_ref().map(|head| head.seq);
        if self.refusal.as_ref().is_none_or(|refusal| Some(refusal.seq) <= head) {
            self.refusal = shortage;
        }
    }

    /// Takes in why a receipt is not accepted, with the voucher for what of it is.
    pub fn refuse(
        &mut self,
        signed: &SignedReceipt,
        refusal: ReceiptRefusal,
        voucher: Option<Voucher>,
    ) {
        let next = self.next();
        // What does not follow on the head says nothing new beside what is known to be wrong.
        let is_consequence = refusal.code == RefusalCode::Order
            && Some(refusal.seq) != next
            && self.refusal.is_some();
        if self.has_evidence() || is_consequence {
            return;
        }
        let is_providers =
            !matches!(refusal.code, RefusalCode::Signature | RefusalCode::Equivocation);
        if is_providers && Some(refusal.seq) == next && self.refused.is_none() {
            self.refused = Some(*signed);
        }
        self.refusal = Some(refusal);
        if voucher.is_some() {
            self.voucher = voucher;
        }
    }
}
