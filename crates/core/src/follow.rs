//! A job as the agent of its signer follows it: receipts in, vouchers out.
//!
//! ```text
//!  following(head) ── a receipt that does not add up ──> refusing(seq, code) ── the same number, right ──> following
//!        │
//!        ├── more than may be spent ──> following, short ── top-up ──> following
//!        └── two receipts with one number ──> no more vouchers, for good
//! ```
//!
//! A voucher is a function of the receipt and of what may be spent, and signing is deterministic (RFC 6979): agents that
//! see the same receipts sign the same bytes, and one that lost everything signs them again.

use alloy_primitives::{Address, B256};
use roadstead_abi::{receipt_digest, recover};
use roadstead_types::{
    Bill, Domain, JobId, Resource, Resources, Seconds, SignedReceipt, Tariff, Terms, Timestamp,
    TokenAmount, Voucher,
};
use serde::{Deserialize, Serialize};

use crate::{
    account::ReceiptHead,
    billing::{cost_of, due_for},
    protocol::{ReceiptRefusal, RefusalCode},
};

/// How far a provider's clock may be ahead.
pub const MAX_AHEAD: Seconds = Seconds(60);

/// One job of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follower {
    job: JobId,
    tariff: Tariff,
    head: Option<ReceiptHead>,
    voucher: Option<Voucher>,
    refusal: Option<ReceiptRefusal>,
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
    const fn shortage_code(&self) -> RefusalCode {
        if self.is_deposit { RefusalCode::Deposit } else { RefusalCode::Limit }
    }
}

impl Follower {
    /// A job of which no receipt was seen.
    pub const fn new(job: JobId, tariff: Tariff) -> Self {
        Self { job, tariff, head: None, voucher: None, refusal: None }
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
        let (seq, prev, from, total) = match &self.head {
            Some(head) => (head.seq.checked_add(1), head.root, head.to, head.total),
            None => (Some(0), self.job.0, receipt.from, Resources::default()),
        };
        if Some(receipt.seq) != seq || receipt.prev != prev {
            return refuse(RefusalCode::Order);
        }
        // An opening that a reorganisation moved to a later block takes nothing back that was signed before.
        let is_early = receipt.from.after(MAX_AHEAD) < given.opened_at;
        let is_late = receipt.to > given.now.after(MAX_AHEAD);
        if receipt.from != from || receipt.to <= receipt.from || is_early || is_late {
            return refuse(RefusalCode::Time);
        }
        self.judge_usage(signed, &found, &total, given)
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
        let most = self.most_at(receipt.to, given).max(floor);
        if let Some((code, right)) = wrong {
            let accepted = right.min(receipt.cumulative).min(most).max(floor);
            return Verdict::Refused {
                refusal: short(code, accepted),
                bill: (accepted <= receipt.cumulative).then(|| bill(accepted)),
            };
        }
        let accepted = receipt.cumulative.min(most);
        let code = given.shortage_code();
        let shortage = (accepted < receipt.cumulative).then(|| short(code, accepted));
        Verdict::Accepted { bill: bill(accepted), shortage }
    }

    /// The bill to sign for the head once more, where more of it may be accepted now than was: after a top-up, or under a
    /// higher limit. Then nothing, or what is still short. It is dated as the one before.
    pub fn examine_head(&self, given: &Circumstances<'_>) -> Option<Verdict> {
        let head = self.head.as_ref()?;
        let is_heads = self.voucher.is_some_and(|voucher| voucher.bill.usage_root == head.root);
        let accepted = head.cumulative.min(self.most_at(head.to, given));
        if !is_heads || self.has_evidence() || accepted <= self.accepted() {
            return None;
        }
        let bill = Bill { cumulative: accepted, until: head.to, usage_root: head.root };
        let code = given.shortage_code();
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
        self.head = Some((&receipt.receipt).into());
        self.voucher = Some(voucher);
        self.refusal = shortage;
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
    pub fn refuse(&mut self, refusal: ReceiptRefusal, voucher: Option<Voucher>) {
        let next = self.head.as_ref().map_or(Some(0), |head| head.seq.checked_add(1));
        let is_consequence = refusal.code == RefusalCode::Order
            && self
                .refusal
                .as_ref()
                .is_some_and(|known| Some(known.seq) == next && refusal.seq != known.seq);
        // What comes after a receipt that is not accepted says nothing new.
        if self.has_evidence() || is_consequence {
            return;
        }
        self.refusal = Some(refusal);
        if voucher.is_some() {
            self.voucher = voucher;
        }
    }
}
