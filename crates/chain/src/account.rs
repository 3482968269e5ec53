//! One account that writes: nonces, sending, and waiting for the block.
//!
//! ```text
//!  estimate ──refused──> Reverted
//!     │
//!   fees ── above the limit ──> FeeTooHigh
//!     │ ── no ether ──> NoGas
//!     v
//!  nonce ──> sign ──> send ──refused──> Chain
//!              ^        │
//!              │        v
//!              │      wait ── in a block ──> Mined
//!              │        │ the node lost it: the same bytes again
//!              └────────┘ too long: the same nonce with a higher fee
//! ```
//!
//! There must be one `Account` per key. The nonce is asked for and its transaction sent in one turn, so calls made at
//! once go out in order. It is never remembered: a nonce that was counted here would be wrong after a reorganisation,
//! or when the same key is used elsewhere, and the transactions after the gap would wait for ever. Nothing is
//! durable: after a crash the caller asks the chain what took effect.

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
    ports::{Call, ChainWriter, Mined, WriteError},
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

/// One key on one chain. Cheap to clone; clones take turns.
#[derive(Clone, Debug)]
pub struct Account {
    connection: Connection,
    chain_id: u64,
    wallet: Wallet,
    turn: Arc<Mutex<()>>,
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

/// A transaction that was sent, with everything that it takes to send it again.
struct Sent {
    nonce: u64,
    gas: u64,
    fees: Eip1559Estimation,
    /// Every form in which it was sent, the newest last. One of them is mined.
    forms: Vec<TxEnvelope>,
}

impl Account {
    /// An account on the chain with this id.
    pub fn new(connection: Connection, chain_id: u64, wallet: Wallet) -> Self {
        Self { connection, chain_id, wallet, turn: Arc::default() }
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
        let sent = self.broadcast(draft, gas).await?;
        let receipt = self.wait(draft, sent).await?;
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
        let form = self.sign(draft, nonce, gas, fees);
        self.hand_over(&form).await.map_err(failed(draft.name, "eth_sendRawTransaction"))?;
        tracing::debug!(call = draft.name, transaction = %form.tx_hash(), nonce, "sent");
        Ok(Sent { nonce, gas, fees, forms: vec![form] })
    }

    async fn fees(&self, name: &'static str) -> Result<Eip1559Estimation, WriteError> {
        let fees = self.connection.provider().estimate_eip1559_fees_with(fees::estimator());
        fees.await.map_err(failed(name, "eth_feeHistory"))
    }

    fn sign(
        &self,
        draft: &Draft,
        nonce: u64,
        gas_limit: u64,
        fees: Eip1559Estimation,
    ) -> TxEnvelope {
        let mut transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: draft.to,
            input: draft.input.clone(),
            ..Default::default()
        };
        let signature = self.wallet.signer().sign_transaction_sync(&mut transaction);
        let signature =
            signature.expect("a key in memory that is bound to no chain signs anything");
        transaction.into_signed(signature).into()
    }

    /// Gives a transaction to the node. One that the node has already counts as taken.
    async fn hand_over(&self, form: &TxEnvelope) -> Result<(), RpcError<TransportErrorKind>> {
        let sent = self.connection.provider().send_raw_transaction(&form.encoded_2718()).await;
        match sent {
            Ok(_) => Ok(()),
            Err(_) if self.knows(form).await => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the node has the transaction, in a block or waiting.
    async fn knows(&self, form: &TxEnvelope) -> bool {
        let found = self.connection.provider().get_transaction_by_hash(*form.tx_hash()).await;
        found.is_ok_and(|found| found.is_some())
    }

    /// Waits for the block. An unreachable node is asked again.
    async fn wait(&self, draft: &Draft, mut sent: Sent) -> Result<TransactionReceipt, WriteError> {
        let started = Instant::now();
        let mut offered = started;
        loop {
            if let Some(receipt) = self.receipt(&sent).await {
                return Ok(receipt);
            }
            let newest = &sent.forms[sent.forms.len() - 1];
            if started.elapsed() >= PATIENCE {
                let (call, transaction) = (draft.name, *newest.tx_hash());
                let seconds = PATIENCE.as_secs();
                return Err(WriteError::NotMined { call, transaction, seconds });
            }
            if !self.knows(newest).await {
                let again = self.hand_over(newest).await;
                let transaction = newest.tx_hash();
                tracing::debug!(%transaction, accepted = again.is_ok(), "sent again");
            }
            if offered.elapsed() >= RAISE_AFTER {
                offered = Instant::now();
                self.raise(draft, &mut sent).await;
            }
            tokio::time::sleep(self.connection.poll_interval()).await;
        }
    }

    /// The receipt of whichever form was mined.
    async fn receipt(&self, sent: &Sent) -> Option<TransactionReceipt> {
        for form in sent.forms.iter().rev() {
            let transaction = *form.tx_hash();
            match self.connection.provider().get_transaction_receipt(transaction).await {
                Ok(Some(receipt)) => return Some(receipt),
                Ok(None) => {}
                Err(error) => tracing::debug!(%transaction, %error, "no receipt"),
            }
        }
        None
    }

    /// Offers more for the same nonce. Where that fails, the old offer still stands.
    async fn raise(&self, draft: &Draft, sent: &mut Sent) {
        let Ok(now) = self.fees(draft.name).await else { return };
        let Some(fees) = fees::raised(sent.fees, now) else { return };
        let form = self.sign(draft, sent.nonce, sent.gas, fees);
        if self.hand_over(&form).await.is_ok() {
            tracing::debug!(transaction = %form.tx_hash(), nonce = sent.nonce, "offered more");
            sent.fees = fees;
            sent.forms.push(form);
        }
    }
}

impl MarketAccount {
    pub(crate) fn new(account: Account, market: Market) -> Self {
        Self { account, market: Arc::new(market) }
    }

    /// PLACEHOLDER so that others can compile: PART 2 of the journal task replaces it.
    pub fn with_intents(self, _intents: Arc<dyn roadstead_core::ports::Intents>) -> Self {
        self
    }
}

#[async_trait]
impl ChainWriter for MarketAccount {
    fn account(&self) -> Address {
        self.account.address()
    }

    async fn resume(&self) -> Result<(), WriteError> {
        Ok(())
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
