//! What becomes of a receipt: judged, signed for and written down, in this order.
//!
//! The follower in memory changes only after the one on disk, so that a step which fails is a step that was not taken.

use alloy_primitives::Address;
use roadstead_abi::{receipt_digest, receipt_root, recover, voucher_digest};
use roadstead_core::{
    Circumstances, Verdict,
    ports::SignError,
    protocol::{ReceiptRefusal, RefusalCode},
};
use roadstead_types::{Bill, SignedReceipt, Timestamp, Voucher};

use super::{Follow, FollowError, Standing};
use crate::{
    agent::event::AgentEvent,
    line::{Speaker, TalkError},
};

impl Follow {
    /// Judges receipts in their order, up to the first that is not right. Whether any was accepted.
    pub(super) async fn take(
        &mut self,
        receipts: &[SignedReceipt],
        standing: Standing,
    ) -> Result<bool, FollowError> {
        let operator = self.operator_of(receipts).await?;
        let mut is_accepted = false;
        for signed in receipts {
            if self.follower.has_evidence() {
                break;
            }
            let known = self.known_as(signed).await?;
            let now = self.now().await;
            let verdict = self.judge(standing, operator, now, |given| {
                let root = known.map(|known| receipt_root(&known.receipt));
                Some(self.follower.examine(signed, root, given))
            });
            match verdict {
                None | Some(Verdict::Known) => {}
                Some(Verdict::Accepted { bill, shortage }) => {
                    self.accept(signed, bill, shortage).await?;
                    is_accepted = true;
                }
                Some(Verdict::Refused { refusal, bill }) => {
                    self.refuse(signed, refusal, bill, known).await?;
                    break;
                }
            }
        }
        Ok(is_accepted)
    }

    /// Judges by what may be accepted now.
    fn judge(
        &self,
        standing: Standing,
        operator: Option<Address>,
        now: Timestamp,
        examine: impl FnOnce(&Circumstances<'_>) -> Option<Verdict>,
    ) -> Option<Verdict> {
        self.office.budget.judge(self.job, standing.deposit, |limit, is_deposit| {
            let domain = &self.office.speaker.domain;
            let (terms, opened_at) = (&self.terms, standing.opened_at);
            examine(&Circumstances { domain, terms, operator, opened_at, limit, is_deposit, now })
        })
    }

    /// Accepts more of the newest receipt, where it was accepted in part and more may be spent now.
    pub(super) async fn make_up(&mut self, standing: Standing) -> Result<(), FollowError> {
        let now = self.now().await;
        let verdict = self.judge(standing, None, now, |given| self.follower.examine_head(given));
        let (Some(Verdict::Accepted { bill, shortage }), Some(head)) =
            (verdict, self.follower.head())
        else {
            return Ok(());
        };
        let signed = self.office.journal.receipt(self.job, head.seq).await?;
        let voucher = self.sign(bill).await?;
        let mut follower = self.follower.clone();
        follower.accept_more(voucher, shortage.clone());
        self.office.journal.save_follower(self.job, &follower, None).await?;
        self.follower = follower;
        if let Some(signed) = signed {
            self.tell_accepted(&signed, bill, shortage);
        }
        Ok(())
    }

    /// Who may have signed the receipts besides the provider.
    async fn operator_of(
        &mut self,
        receipts: &[SignedReceipt],
    ) -> Result<Option<Address>, TalkError> {
        let Speaker { domain, reader, .. } = &self.office.speaker;
        let provider = Some(self.terms.provider);
        let is_by_another = |signed: &SignedReceipt| {
            recover(&receipt_digest(domain, &signed.receipt), &signed.signature) != provider
        };
        if receipts.iter().any(is_by_another) {
            match reader.operator(self.terms.provider).await {
                Ok(operator) => self.operator = operator,
                // Without the chain, whoever it was is the best guess.
                Err(error) if error.is_retryable() && self.operator.is_some() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.operator)
    }

    /// What was accepted under the number of a receipt.
    async fn known_as(&self, signed: &SignedReceipt) -> Result<Option<SignedReceipt>, FollowError> {
        let seq = signed.receipt.seq;
        if self.follower.head().is_none_or(|head| seq > head.seq) {
            return Ok(None);
        }
        Ok(self.office.journal.receipt(self.job, seq).await?)
    }

    async fn accept(
        &mut self,
        signed: &SignedReceipt,
        bill: Bill,
        shortage: Option<ReceiptRefusal>,
    ) -> Result<(), FollowError> {
        let voucher = self.sign(bill).await?;
        let mut follower = self.follower.clone();
        follower.accept(signed, voucher, shortage.clone());
        self.office.journal.save_follower(self.job, &follower, Some(signed)).await?;
        self.follower = follower;
        self.tell_accepted(signed, bill, shortage);
        Ok(())
    }

    fn tell_accepted(&self, signed: &SignedReceipt, bill: Bill, shortage: Option<ReceiptRefusal>) {
        let (job, receipt, accepted) = (self.job, signed.receipt, bill.cumulative);
        self.tell(AgentEvent::Accepted { job, receipt, accepted });
        if let Some(refusal) = shortage {
            self.tell(AgentEvent::Refused { job, refusal });
        }
    }

    async fn refuse(
        &mut self,
        signed: &SignedReceipt,
        refusal: ReceiptRefusal,
        bill: Option<Bill>,
        known: Option<SignedReceipt>,
    ) -> Result<(), FollowError> {
        let (job, seq, code) = (self.job, refusal.seq, refusal.code);
        if let (RefusalCode::Equivocation, Some(known)) = (code, known) {
            self.office.journal.keep_evidence(job, &[known, *signed]).await?;
        }
        let voucher = match bill {
            Some(bill) => Some(self.sign(bill).await?),
            None => None,
        };
        let mut follower = self.follower.clone();
        follower.refuse(refusal.clone(), voucher);
        if follower == self.follower {
            // It comes again with every answer.
            return Ok(());
        }
        self.office.journal.save_follower(job, &follower, None).await?;
        self.follower = follower;
        self.tell(match code {
            RefusalCode::Equivocation => AgentEvent::Equivocation { job, seq },
            _ => AgentEvent::Refused { job, refusal },
        });
        Ok(())
    }

    async fn sign(&self, bill: Bill) -> Result<Voucher, SignError> {
        let Speaker { signer, domain, .. } = &self.office.speaker;
        let signature = signer.sign(&voucher_digest(domain, self.job, &bill)).await?;
        Ok(Voucher { bill, signature })
    }
}
