//! One account that writes: nonces, sending, and waiting for the block.
//!
//! ```text
//!  estimate ──refused──> Reverted
//!     │
//!   fees ── above the limit ──> FeeTooHigh
//!     │ ── no ether ──> NoGas
//!     v
//!  nonce ──> sign ──> write down ──failed──> Intent
//!              ^          │
//!              │          v
//!              │  ┌───> send ──refused──> forget ──> Chain
//!              │  │       │ ── no word whether it was taken ──> Chain
//!              │  │       │
//!              │  │       v
//!              │  │     wait ── in a block ──> forget ──> Mined
//!              │  │       │ ── its nonce used otherwise ──> forget ──> NotMined
//!              │  └───────┤ the node lost it: the same bytes again
//!              └──────────┘ too long: the same nonce with a higher fee
//!
//!  resume: each nonce that is written down ── used already ──> forget
//!                                          └─ not yet ──> send, with the bytes that were signed ──> wait
//!                                                           └─ offers too little ──> the same nonce with a higher fee
//! ```
//!
//! There must be one `Account` per key. The nonce is asked for and its transaction sent in one turn, so calls made at
//! once go out in order. It is never remembered: a nonce that was counted here would be wrong after a reorganisation,
//! or when the same key is used elsewhere, and the transactions after the gap would wait for ever.
//!
//! A call that the node refused did not take effect and never will: what was signed for it is forgotten. Without the
//! node's word that it has not got the transaction, it may take effect, at the latest by the next `resume`.
//!
//! `resume` waits for each nonce as a call waits for its block, ten minutes at most, and stops at the first that is not
//! mined by then; what is left stays written down for the next one.
//!
//! What was signed is durable where the account has [`Intents`]: a crash, or a call that is dropped, after `write down`
//! leaves it to the next `resume`, which sends it. Without them a crash loses everything here, and the caller asks the
//! chain what took effect.

mod intents;

use std::{fmt, sync::Arc, time::Duration};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockId, Encodable2718},
    network::TxSignerSync,
    primitives::{Address, Bytes, TxKind, U256},
    providers::{Provider, utils::Eip1559Estimation},
    rpc::types::{TransactionInput, TransactionReceipt, TransactionRequest},
    transports::{RpcError, TransportErrorKind},
};
use async_trait::async_trait;
use roadstead_abi::Revert;
use roadstead_core::{
    BlockRef,
    ports::{Call, ChainWriter, Intents, Mined, Resumed, WriteError},
};
use roadstead_types::Market;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    calls,
    connection::{Connection, malformed, rpc},
    fees,
    wallet::Wallet,
};

/// How long a transaction may wait for its block.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long it waits before it offers a higher fee.
const RAISE_AFTER: Duration = Duration::from_secs(30);

/// The most gas one transaction may use (EIP-7825).
const MAX_GAS: u64 = 1 << 24;

/// What nodes say of a transaction that offers too little.
const TOO_LITTLE: [&str; 4] = ["underpriced", "block base fee", "fee too low", "feetoolow"];

/// One key on one chain. Cheap to clone; clones take turns.
#[derive(Clone)]
pub struct Account {
    connection: Connection,
    chain_id: u64,
    wallet: Wallet,
    turn: Arc<Mutex<()>>,
    intents: Option<Arc<dyn Intents>>,
}

/// An account that calls one market's contracts.
#[derive(Clone)]
pub struct MarketAccount {
    account: Account,
    market: Arc<Market>,
}

/// A transaction before its nonce.
pub(crate) struct Draft {
    /// For messages.
    pub(crate) name: &'static str,
    pub(crate) to: TxKind,
    pub(crate) input: Bytes,
}

/// A transaction that was signed, with everything that it takes to send it again.
struct Sent {
    /// For messages.
    name: &'static str,
    /// The function that it calls.
    call: String,
    /// The offer that stands.
    offer: TxEip1559,
    /// Every form in which it was signed, that of the offer last. One of them is mined.
    forms: Vec<TxEnvelope>,
}

/// Why the node did not take a transaction.
struct NotTaken {
    error: RpcError<TransportErrorKind>,
    /// The node said so itself, and that it has not got it. Otherwise it may have it.
    is_refused: bool,
}

impl NotTaken {
    /// Whether a higher fee may help. Nodes have no code for that, and each its own words.
    fn is_underpriced(&self) -> bool {
        let said = self.error.as_error_resp().filter(|_| self.is_refused);
        let said = said.map(|response| response.message.to_lowercase());
        said.is_some_and(|said| TOO_LITTLE.iter().any(|words| said.contains(words)))
    }
}

impl Account {
    /// An account on the chain with this id.
    pub fn new(connection: Connection, chain_id: u64, wallet: Wallet) -> Self {
        Self { connection, chain_id, wallet, turn: Arc::default(), intents: None }
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Sends and waits for the block. A receipt that comes back is one of success.
    pub(crate) async fn send(&self, draft: &Draft) -> Result<TransactionReceipt, WriteError> {
        let name = draft.name;
        let request = self.request(draft);
        let gas = self.estimate(name, request.clone()).await?;
        let mut sent = self.broadcast(draft, gas).await?;
        let receipt = self.wait(&mut sent).await?;
        if receipt.status() {
            return Ok(receipt);
        }
        // It was fine when estimated; what it would say in that very block is the best answer there is.
        let block = receipt.block_number.map_or_else(BlockId::latest, BlockId::number);
        let refused = self.connection.provider().call(request).block(block).await;
        let source = refused.err().as_ref().and_then(revert_of);
        let source = source.unwrap_or_else(|| Revert::Unknown(Bytes::new()));
        Err(WriteError::Reverted { call: name, source })
    }

    fn request(&self, draft: &Draft) -> TransactionRequest {
        TransactionRequest {
            from: Some(self.wallet.address()),
            to: Some(draft.to),
            input: TransactionInput::new(draft.input.clone()),
            ..Default::default()
        }
    }

    /// Gas with a tenth to spare: the state may change before the block.
    async fn estimate(
        &self,
        name: &'static str,
        request: TransactionRequest,
    ) -> Result<u64, WriteError> {
        let estimate = self.connection.provider().estimate_gas(request).block(BlockId::latest());
        match estimate.await {
            Ok(gas) => Ok(gas.saturating_add(gas / 10).min(MAX_GAS)),
            Err(error) => match revert_of(&error) {
                Some(source) => Err(WriteError::Reverted { call: name, source }),
                None => Err(failed(name, "eth_estimateGas")(error)),
            },
        }
    }

    /// Signs with the next nonce and sends, as one step.
    async fn broadcast(&self, draft: &Draft, gas: u64) -> Result<Sent, WriteError> {
        let provider = self.connection.provider();
        let fees = self.fees(draft.name).await?;
        if fees.max_fee_per_gas > fees::LIMIT {
            let (call, fee, limit) = (draft.name, fees.max_fee_per_gas, fees::LIMIT);
            return Err(WriteError::FeeTooHigh { call, fee, limit });
        }
        let balance = provider.get_balance(self.address()).await;
        let balance = balance.map_err(failed(draft.name, "eth_getBalance"))?;
        if balance < U256::from(gas).saturating_mul(U256::from(fees.max_fee_per_gas)) {
            return Err(WriteError::NoGas { call: draft.name, account: self.address() });
        }

        let _turn = self.turn.lock().await;
        let nonce = provider.get_transaction_count(self.address()).pending().await;
        let nonce = nonce.map_err(failed(draft.name, "eth_getTransactionCount"))?;
        let offer = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: draft.to,
            input: draft.input.clone(),
            ..Default::default()
        };
        let form = self.sign(&offer);
        self.intend(draft.name, nonce, &form).await?;
        if let Err(NotTaken { error, is_refused }) = self.hand_over(&form).await {
            if is_refused {
                self.take_back(nonce, &form).await;
            }
            return Err(failed(draft.name, "eth_sendRawTransaction")(error));
        }
        tracing::debug!(call = draft.name, transaction = %form.tx_hash(), nonce, "sent");
        Ok(Sent { name: draft.name, call: draft.name.to_owned(), offer, forms: vec![form] })
    }

    async fn fees(&self, name: &'static str) -> Result<Eip1559Estimation, WriteError> {
        let fees = self.connection.provider().estimate_eip1559_fees_with(fees::estimator());
        fees.await.map_err(failed(name, "eth_feeHistory"))
    }

    fn sign(&self, offer: &TxEip1559) -> TxEnvelope {
        let mut offer = offer.clone();
        let signature = self.wallet.signer().sign_transaction_sync(&mut offer);
        let signature =
            signature.expect("a key in memory that is bound to no chain signs anything");
        offer.into_signed(signature).into()
    }

    /// Whether a block holds a transaction with the nonce, this one or another.
    async fn is_used(&self, nonce: u64) -> Result<bool, RpcError<TransportErrorKind>> {
        let mined = self.connection.provider().get_transaction_count(self.address()).latest();
        Ok(mined.await? > nonce)
    }

    /// Gives a transaction to the node. One that the node has already counts as taken.
    async fn hand_over(&self, form: &TxEnvelope) -> Result<(), NotTaken> {
        let sent = self.connection.provider().send_raw_transaction(&form.encoded_2718()).await;
        let Err(error) = sent else { return Ok(()) };
        match self.find(form).await {
            Ok(true) => Ok(()),
            found => Err(NotTaken { is_refused: found.is_ok() && error.is_error_resp(), error }),
        }
    }

    /// Whether the node has the transaction, in a block or waiting.
    async fn find(&self, form: &TxEnvelope) -> Result<bool, RpcError<TransportErrorKind>> {
        let found = self.connection.provider().get_transaction_by_hash(*form.tx_hash()).await;
        found.map(|found| found.is_some())
    }

    /// Gives the node the newest form that it takes. Where it takes none, it is the newest that counts.
    async fn hand_over_any(&self, sent: &Sent) -> Result<(), NotTaken> {
        let mut refused = Ok(());
        for form in sent.forms.iter().rev() {
            match self.hand_over(form).await {
                Ok(()) => return Ok(()),
                older => refused = refused.and(older),
            }
        }
        refused
    }

    /// Waits for the block. An unreachable node is asked again.
    async fn wait(&self, sent: &mut Sent) -> Result<TransactionReceipt, WriteError> {
        let nonce = sent.offer.nonce;
        let started = Instant::now();
        let mut offered = started;
        loop {
            let newest = &sent.forms[sent.forms.len() - 1];
            let transaction = *newest.tx_hash();
            let is_lost = !self.find(newest).await.unwrap_or(false);
            // Asked before the receipts, so that a block in between is not taken for somebody else's.
            let is_used = is_lost && self.is_used(nonce).await.unwrap_or(false);
            let receipt = self.receipt(sent).await;
            // Where the node does not answer for every form, whoever used the nonce may have been one of them.
            let is_used = is_used && receipt.is_ok();
            let receipt = receipt.unwrap_or_else(|error| {
                tracing::debug!(%transaction, %error, "no receipt");
                None
            });
            if receipt.is_some() || is_used {
                self.forget(nonce).await;
            }
            if let Some(receipt) = receipt {
                return Ok(receipt);
            }
            if is_used || started.elapsed() >= PATIENCE {
                let (call, seconds) = (sent.name, started.elapsed().as_secs());
                return Err(WriteError::NotMined { call, transaction, seconds });
            }
            if is_lost {
                let again = self.hand_over_any(sent).await;
                tracing::debug!(%transaction, accepted = again.is_ok(), "sent again");
            }
            if offered.elapsed() >= RAISE_AFTER {
                offered = Instant::now();
                self.raise(sent).await;
            }
            tokio::time::sleep(self.connection.poll_interval()).await;
        }
    }

    /// The receipt of whichever form was mined. `None` is the node's word on every one of them.
    async fn receipt(
        &self,
        sent: &Sent,
    ) -> Result<Option<TransactionReceipt>, RpcError<TransportErrorKind>> {
        let mut unknown = Ok(None);
        for form in sent.forms.iter().rev() {
            match self.connection.provider().get_transaction_receipt(*form.tx_hash()).await {
                Ok(Some(receipt)) => return Ok(Some(receipt)),
                Ok(None) => {}
                Err(error) => unknown = Err(error),
            }
        }
        unknown
    }

    /// Offers more for the same nonce. Where the node does not take that, the old offer still stands.
    async fn raise(&self, sent: &mut Sent) -> bool {
        let Ok(now) = self.fees(sent.name).await else { return false };
        let offered = Eip1559Estimation {
            max_fee_per_gas: sent.offer.max_fee_per_gas,
            max_priority_fee_per_gas: sent.offer.max_priority_fee_per_gas,
        };
        let Some(fees) = fees::raised(offered, now) else { return false };
        let offer = TxEip1559 {
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            ..sent.offer.clone()
        };
        let form = self.sign(&offer);
        let nonce = offer.nonce;
        if let Err(error) = self.intend(&sent.call, nonce, &form).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, nonce, "no more is offered");
            return false;
        }
        let transaction = *form.tx_hash();
        let accepted = self.hand_over(&form).await.is_ok();
        tracing::debug!(%transaction, nonce, accepted, "offered more");
        sent.forms.retain(|known| *known.tx_hash() != transaction);
        // A refusal that was only a lost answer is mined all the same.
        let place = if accepted { sent.forms.len() } else { sent.forms.len() - 1 };
        sent.forms.insert(place, form);
        if accepted {
            sent.offer = offer;
        }
        accepted
    }
}

impl MarketAccount {
    pub(crate) fn new(account: Account, market: Market) -> Self {
        Self { account, market: Arc::new(market) }
    }

    /// The account whose transactions are written down before they are sent. Clones that were made before write nothing
    /// down.
    #[must_use]
    pub fn with_intents(mut self, intents: Arc<dyn Intents>) -> Self {
        self.account.intents = Some(intents);
        self
    }
}

#[async_trait]
impl ChainWriter for MarketAccount {
    fn account(&self) -> Address {
        self.account.address()
    }

    async fn resume(&self) -> Result<Vec<Resumed>, WriteError> {
        self.account.resume().await
    }

    async fn submit(&self, call: Call) -> Result<Mined, WriteError> {
        let (to, input) = calls::encode(&self.market, &call);
        let name = call.name();
        let receipt = self.account.send(&Draft { name, to: TxKind::Call(to), input }).await?;
        let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else {
            let source = malformed("eth_getTransactionReceipt", "a receipt without a block");
            return Err(WriteError::Chain { call: name, source });
        };
        Ok(Mined { transaction: receipt.transaction_hash, block: BlockRef { number, hash } })
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Account").field(&self.address()).finish()
    }
}

impl fmt::Debug for MarketAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MarketAccount").field(&self.account.address()).finish()
    }
}

fn failed(
    call: &'static str,
    operation: &'static str,
) -> impl Fn(RpcError<TransportErrorKind>) -> WriteError {
    move |error| WriteError::Chain { call, source: rpc(operation)(error) }
}

/// The contract's reason, where the node's error is a revert.
fn revert_of(error: &RpcError<TransportErrorKind>) -> Option<Revert> {
    let response = error.as_error_resp()?;
    match response.as_revert_data() {
        Some(data) => Some(Revert::decode(&data)),
        None if response.message.contains("revert") => Some(Revert::Unknown(Bytes::new())),
        None => None,
    }
}
