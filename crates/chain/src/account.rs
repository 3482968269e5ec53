//! One account that writes: nonces, fees, sending, and waiting for the block.
//!
//! ```text
//!  estimate ──refused──> Reverted       nonce ──> sign ──> send ──> in a block ──> Mined
//!     │ no ether ──────> NoGas            ^         │ refused        │ gone from the node: the same bytes again
//!     └───────────────────────────────────┘         └─> Chain
//! ```
//!
//! There must be one `Account` per key. The nonce is asked for and its transaction sent in one turn, so calls made at
//! once go out in order. It is never remembered: a nonce that was counted here would be wrong after a reorganisation,
//! or when the same key is used elsewhere, and the transactions after the gap would wait for ever. Nothing is
//! durable: after a crash the caller asks the chain what took effect. No call of the market takes effect twice, so
//! repeating one is safe.

use std::{fmt, sync::Arc, time::Duration};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::{BlockId, Encodable2718},
    network::TxSignerSync,
    primitives::{Address, B256, Bytes, TxKind, U256},
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
    wallet::Wallet,
};

/// How long a transaction may wait for its block.
const PATIENCE: Duration = Duration::from_secs(180);

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
        let (hash, raw) = self.broadcast(draft, gas).await?;
        tracing::debug!(call = name, transaction = %hash, "sent");

        let receipt = self.wait(name, hash, &raw).await?;
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
                None => {
                    let source = rpc("eth_estimateGas")(error);
                    Err(WriteError::Chain { call: name, source })
                }
            },
        }
    }

    /// Signs with the next nonce and sends, as one step.
    async fn broadcast(&self, draft: &Draft, gas: u64) -> Result<(B256, Vec<u8>), WriteError> {
        let provider = self.connection.provider();
        let failed = |operation| {
            move |error| WriteError::Chain { call: draft.name, source: rpc(operation)(error) }
        };
        let fees = provider.estimate_eip1559_fees().await.map_err(failed("eth_feeHistory"))?;
        let balance = provider.get_balance(self.address()).await;
        let most = U256::from(gas).saturating_mul(U256::from(fees.max_fee_per_gas));
        if balance.map_err(failed("eth_getBalance"))? < most {
            return Err(WriteError::NoGas { call: draft.name, account: self.address() });
        }

        let _turn = self.turn.lock().await;
        let nonce = provider.get_transaction_count(self.address()).pending().await;
        let nonce = nonce.map_err(failed("eth_getTransactionCount"))?;
        let envelope = self.sign(draft, nonce, gas, fees)?;
        let (hash, raw) = (*envelope.tx_hash(), envelope.encoded_2718());
        match provider.send_raw_transaction(&raw).await {
            Ok(_) => {}
            Err(error) if self.knows(hash).await => {
                tracing::debug!(transaction = %hash, %error, "refused, but known");
            }
            Err(error) => return Err(failed("eth_sendRawTransaction")(error)),
        }
        Ok((hash, raw))
    }

    fn sign(
        &self,
        draft: &Draft,
        nonce: u64,
        gas_limit: u64,
        fees: Eip1559Estimation,
    ) -> Result<TxEnvelope, WriteError> {
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
        let signature = signature.map_err(|error| WriteError::Chain {
            call: draft.name,
            source: malformed("signing", error.to_string()),
        })?;
        Ok(transaction.into_signed(signature).into())
    }

    /// Whether the node has the transaction, in a block or waiting.
    async fn knows(&self, hash: B256) -> bool {
        let found = self.connection.provider().get_transaction_by_hash(hash).await;
        found.is_ok_and(|found| found.is_some())
    }

    /// Waits for the block. A transaction that the node lost is sent again, byte for byte; an unreachable node is
    /// asked again.
    async fn wait(
        &self,
        name: &'static str,
        hash: B256,
        raw: &[u8],
    ) -> Result<TransactionReceipt, WriteError> {
        let provider = self.connection.provider();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match provider.get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => return Ok(receipt),
                Ok(None) if !self.knows(hash).await => {
                    let again = provider.send_raw_transaction(raw).await;
                    tracing::debug!(transaction = %hash, accepted = again.is_ok(), "sent again");
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(transaction = %hash, %error, "no receipt"),
            }
            if Instant::now() >= deadline {
                let seconds = PATIENCE.as_secs();
                return Err(WriteError::NotMined { call: name, transaction: hash, seconds });
            }
            tokio::time::sleep(self.connection.poll_interval()).await;
        }
    }
}

impl MarketAccount {
    pub(crate) fn new(account: Account, market: Market) -> Self {
        Self { account, market: Arc::new(market) }
    }
}

#[async_trait]
impl ChainWriter for MarketAccount {
    fn account(&self) -> Address {
        self.account.address()
    }

    async fn submit(&self, call: Call) -> Result<Mined, WriteError> {
        let (to, input) = calls::encode(&self.market, &call);
        let name = call.name();
        let receipt = self.account.send(&Draft { name, to: TxKind::Call(to), input }).await?;
        let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else {
            let source = malformed("eth_getTransactionReceipt", "a receipt without a block");
            return Err(WriteError::Chain { call: name, source });
        };
        Ok(Mined {
            transaction: receipt.transaction_hash,
            block: BlockRef { number, hash },
            gas_used: receipt.gas_used,
        })
    }
}

impl fmt::Debug for MarketAccount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MarketAccount").field(&self.account.address()).finish()
    }
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
