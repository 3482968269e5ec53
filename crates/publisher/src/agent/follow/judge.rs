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

/// What became of the receipts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There was none that was not known.
    Nothing,
    /// One at least was accepted.
    Accepted,
    /// The first that was not known was refused.
    Refused,
}

impl Follow {
    /// Judges receipts in their order, up to the first that is not right.
    pub(super) async fn take(
        &mut self,
        receipts: &[SignedReceipt],
        standing: Standing,
    ) -> Result<Taken, FollowError> {
        let operator = self.operator_of(receipts).await?;
        let mut taken = Taken::Nothing;
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
                    taken = Taken::Accepted;
                }
                Some(Verdict::Refused { refusal, bill }) => {
                    self.refuse(signed, refusal, bill, known).await?;
                    if taken == Taken::Nothing {
                        taken = Taken::Refused;
                    }
                    break;
                }
            }
        }
        Ok(taken)
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
        if let Some(SignedReceipt { receipt, .. }) = signed {
            let (job, accepted) = (self.job, bill.cumulative);
            self.tell(AgentEvent::MadeUp { job, receipt, accepted });
        }
        self.tell_short(shortage);
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
        let (job, receipt, accepted) = (self.job, signed.receipt, bill.cumulative);
        self.tell(AgentEvent::Accepted { job, receipt, accepted });
        self.tell_short(shortage);
        Ok(())
    }

    fn tell_short(&self, shortage: Option<ReceiptRefusal>) {
        let job = self.job;
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
        let known = known.or_else(|| self.follower.refused().copied());
        if let (RefusalCode::Equivocation, Some(known)) = (code, known) {
            self.office.journal.keep_evidence(job, &[known, *signed]).await?;
        }
        let voucher = match bill {
            Some(bill) => Some(self.sign(bill).await?),
            None => None,
        };
        let mut follower = self.follower.clone();
        follower.refuse(signed, refusal.clone(), voucher);
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
