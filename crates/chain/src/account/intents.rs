//! What of an account is written down, and how it is taken up again.

use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::{Decodable2718, Encodable2718},
    rpc::types::TransactionReceipt,
};
use roadstead_core::ports::{Intent, IntentError, Resumed, WriteError};

use super::{Account, Sent, failed};

/// What a transaction is called that an earlier process signed.
const EARLIER: &str = "an earlier transaction";

/// Something else stands where a signed transaction of the account should.
#[derive(Debug, thiserror::Error)]
#[error("what is written down for nonce {nonce} is no transaction of this account on this chain")]
struct DamagedIntent {
    nonce: u64,
}

impl Account {
    /// Brings to an end what is written down. Nothing else of the account is sent before, so this takes up to
    /// [`PATIENCE`](super::PATIENCE) for each nonce; the first that is not mined by then ends it.
    pub(super) async fn resume(&self) -> Result<Vec<Resumed>, WriteError> {
        let Some(intents) = &self.intents else { return Ok(Vec::new()) };
        let _turn = self.turn.lock().await;
        let unread = |source| WriteError::Intent { call: EARLIER.to_owned(), source };
        let pending = intents.pending(self.address()).await.map_err(unread)?;
        let mut resumed = Vec::new();
        for forms in pending.chunk_by(|one, next| one.nonce == next.nonce) {
            let mut sent = self.restored(forms).map_err(unread)?;
            tracing::info!(call = sent.call, nonce = sent.offer.nonce, "was signed earlier");
            let receipt = self.finish(&mut sent).await?;
            resumed.push(ended(&sent, forms, receipt.as_ref()));
        }
        Ok(resumed)
    }

    /// A transaction out of all its forms, which were signed by whoever wrote them down.
    fn restored(&self, written: &[Intent]) -> Result<Sent, IntentError> {
        let mut restored: Option<Sent> = None;
        for intent in written {
            let damaged = || IntentError(DamagedIntent { nonce: intent.nonce }.into());
            let form = TxEnvelope::decode_2718_exact(&intent.raw).map_err(|_| damaged())?;
            let is_own = form.recover_signer().is_ok_and(|signer| signer == self.address());
            let offer = match form.as_eip1559() {
                Some(signed) if is_own && *form.tx_hash() == intent.transaction => signed.tx(),
                _ => return Err(damaged()),
            };
            if (offer.chain_id, offer.nonce) != (self.chain_id, intent.nonce) {
                return Err(damaged());
            }
            let (call, offer) = (intent.call.clone(), offer.clone());
            let mut forms = restored.map(|sent| sent.forms).unwrap_or_default();
            forms.push(form);
            restored = Some(Sent { name: EARLIER, call, offer, forms });
        }
        restored.ok_or_else(|| IntentError("nothing is written down".into()))
    }

    /// Sends and waits, unless the nonce is used. Where too little was offered for the node to take it, offers more.
    /// `None` where somebody else used the nonce.
    async fn finish(&self, sent: &mut Sent) -> Result<Option<TransactionReceipt>, WriteError> {
        let nonce = sent.offer.nonce;
        let is_used = async || {
            let counted = self.is_used(nonce).await;
            counted.map_err(failed(EARLIER, "eth_getTransactionCount"))
        };
        let unread = || failed(EARLIER, "eth_getTransactionReceipt");
        let mut receipt = self.receipt(sent).await.map_err(unread())?;
        if receipt.is_none() && !is_used().await? {
            match self.hand_over_any(sent).await {
                Err(refusal) if !is_used().await? => {
                    if !refusal.is_underpriced() || !self.raise(sent).await {
                        return Err(failed(EARLIER, "eth_sendRawTransaction")(refusal.error));
                    }
                }
                Ok(()) | Err(_) => {}
            }
            receipt = match self.wait(sent).await {
                Err(error @ WriteError::NotMined { .. }) if !is_used().await? => return Err(error),
                Ok(receipt) => Some(receipt),
                Err(WriteError::NotMined { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        if receipt.is_none() {
            // It may have been mined between the two questions.
            receipt = self.receipt(sent).await.map_err(unread())?;
        }
        self.forget(nonce).await;
        Ok(receipt)
    }

    /// Writes a signed form down, before the node has it.
    pub(super) async fn intend(
        &self,
        call: &str,
        nonce: u64,
        form: &TxEnvelope,
    ) -> Result<(), WriteError> {
        let Some(intents) = &self.intents else { return Ok(()) };
        let intent = Intent {
            account: self.address(),
            nonce,
            call: call.to_owned(),
            transaction: *form.tx_hash(),
            raw: form.encoded_2718().into(),
        };
        let kept = intents.intend(&intent).await;
        kept.map_err(|source| WriteError::Intent { call: intent.call, source })
    }

    /// Forgets one form that the node refused, and leaves what else was signed for its nonce.
    ///
    /// Intents are forgotten by nonce, so the rest is written down anew. A crash in between loses that: calls whose end
    /// nobody was told, as without intents.
    pub(super) async fn take_back(&self, nonce: u64, form: &TxEnvelope) {
        let Some(intents) = &self.intents else { return };
        let taken_back = async {
            let rest = intents.pending(self.address()).await?;
            intents.done(self.address(), nonce).await?;
            let is_other =
                |kept: &&Intent| kept.nonce == nonce && kept.transaction != *form.tx_hash();
            for other in rest.iter().filter(is_other) {
                intents.intend(other).await?;
            }
            Ok::<_, IntentError>(())
        };
        if let Err(error) = taken_back.await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, nonce, "a transaction that was refused is still written down");
        }
    }

    /// Forgets a nonce that is used. Where that fails, the next `resume` finds out again that it is.
    pub(super) async fn forget(&self, nonce: u64) {
        let Some(intents) = &self.intents else { return };
        if let Err(error) = intents.done(self.address(), nonce).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(
                error,
                nonce,
                "a transaction that came to its end is still written down"
            );
        }
    }
}

/// What became of a transaction. Forms of one nonce may be of several calls, where the node refused one and took another.
fn ended(sent: &Sent, written: &[Intent], receipt: Option<&TransactionReceipt>) -> Resumed {
    let newest = &sent.forms[sent.forms.len() - 1];
    let is_mined = |form: &&TxEnvelope| {
        receipt.is_some_and(|receipt| receipt.transaction_hash == *form.tx_hash())
    };
    let form = sent.forms.iter().find(is_mined).unwrap_or(newest);
    let transaction = *form.tx_hash();
    let intent = written.iter().find(|intent| intent.transaction == transaction);
    Resumed {
        call: intent.map_or_else(|| sent.call.clone(), |intent| intent.call.clone()),
        input: form.input().clone(),
        transaction,
        took_effect: receipt.is_some_and(TransactionReceipt::status),
    }
}
