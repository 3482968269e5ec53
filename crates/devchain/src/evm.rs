//! Execution on revm: the only module that names it, because its API breaks at every major version.
//!
//! Hardfork Osaka, fixed. A [`Message`] runs on a borrowed [`State`] and gives an [`Execution`] with
//! the changes it would make; [`Execution::apply`] makes them. Nothing is kept between two calls.

use std::convert::Infallible;

use alloy::eips::eip2930::AccessList;
use alloy::eips::eip7702::SignedAuthorization;
use alloy::primitives::{Address, B256, Bytes, Log, TxKind, U256};
use revm::bytecode::Bytecode;
use revm::context::either::Either;
use revm::context::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::cfg::GasParams;
use revm::database_interface::WrapDatabaseRef;
use revm::handler::validation::validate_initial_tx_gas_with_gas_params;
use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;
use revm::primitives::{eip3860, eip7825};
use revm::state::{AccountInfo, EvmState};
use revm::{DatabaseRef, ExecuteEvm, MainBuilder, MainContext};
use thiserror::Error;

use crate::meter;
use crate::state::{Account, State};

const SPEC: SpecId = SpecId::OSAKA;

/// The most gas one transaction may ask for (EIP-7825).
pub(crate) const TRANSACTION_GAS_CAP: u64 = eip7825::TX_GAS_LIMIT_CAP;

/// Contract code, analysed once.
#[derive(Clone, Debug)]
pub(crate) struct Code(Bytecode);

impl Code {
    /// Analyses `bytes`; nothing for empty code, and for a malformed delegation.
    pub(crate) fn decode(bytes: Bytes) -> Option<Self> {
        Bytecode::new_raw_checked(bytes).ok().and_then(Self::some)
    }

    fn some(code: Bytecode) -> Option<Self> {
        (!code.is_empty()).then_some(Self(code))
    }

    pub(crate) fn hash(&self) -> B256 {
        self.0.hash_slow()
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.0.original_bytes()
    }

    /// Whether an externally owned account delegates to a contract (EIP-7702) with this.
    pub(crate) fn is_delegation(&self) -> bool {
        self.0.is_eip7702()
    }
}

/// The block that a message executes in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) chain_id: u64,
    pub(crate) number: u64,
    pub(crate) timestamp: u64,
    pub(crate) gas_limit: u64,
    pub(crate) base_fee: u64,
    pub(crate) prevrandao: B256,
}

/// What one transaction or call asks of the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) kind: u8,
    pub(crate) from: Address,
    pub(crate) to: TxKind,
    pub(crate) nonce: u64,
    pub(crate) gas_limit: u64,
    /// The price, or for dynamic fees the most that is paid.
    pub(crate) max_fee: u128,
    pub(crate) max_tip: Option<u128>,
    pub(crate) value: U256,
    pub(crate) input: Bytes,
    pub(crate) chain_id: Option<u64>,
    pub(crate) access_list: AccessList,
    pub(crate) authorizations: Vec<SignedAuthorization>,
}

/// By which rules a message runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// As part of a block.
    Consensus,
    /// As a question: no nonce, no base fee, no gas cap, and contracts may be the sender.
    Simulation,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Success,
    Revert,
    OutOfGas,
    /// Any other exceptional halt, by its name.
    Halt(String),
}

/// The result of a message, with the changes it would make.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) verdict: Verdict,
    pub(crate) gas_used: u64,
    /// Gas spent before refunds.
    pub(crate) gas_spent: u64,
    pub(crate) output: Bytes,
    pub(crate) logs: Vec<Log>,
    changes: EvmState,
}

/// Why a message cannot be executed at all. The words are those of go-ethereum, because clients
/// search for them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Invalid {
    #[error("nonce too low: next nonce {expected}, tx nonce {nonce}")]
    NonceTooLow { nonce: u64, expected: u64 },
    #[error("nonce too high: next nonce {expected}, tx nonce {nonce}")]
    NonceTooHigh { nonce: u64, expected: u64 },
    #[error("nonce has max value")]
    NonceExhausted,
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    InsufficientFunds { balance: U256, cost: U256 },
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost \
         {cost}"
    )]
    Overdrawn { balance: U256, queued: U256, cost: U256 },
    #[error("intrinsic gas too low: gas {limit}, minimum needed {needed}")]
    IntrinsicGas { limit: u64, needed: u64 },
    #[error("transaction gas limit too high (cap: {TRANSACTION_GAS_CAP}, tx: {limit})")]
    GasAboveCap { limit: u64 },
    #[error("exceeds block gas limit")]
    GasAboveBlock,
    #[error("max fee per gas less than block base fee")]
    FeeBelowBase,
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    #[error("sender not an eoa")]
    SenderHasCode,
    #[error("max initcode size exceeded: code size {size}, limit {}", eip3860::MAX_INITCODE_SIZE)]
    InitCodeTooLarge { size: usize },
    #[error("invalid chain id for signer")]
    ChainId,
    #[error("{0}")]
    Other(String),
}

impl Message {
    /// The most the sender can have to pay, unless that does not even fit a word.
    pub(crate) fn cost(&self) -> Option<U256> {
        U256::from(self.gas_limit).checked_mul(U256::from(self.max_fee))?.checked_add(self.value)
    }

    /// Checks what does not depend on the state: nonce, gas limits, intrinsic gas and init code.
    pub(crate) fn check(&self, block_gas_limit: u64) -> Result<(), Invalid> {
        if self.nonce == u64::MAX {
            return Err(Invalid::NonceExhausted);
        }
        if self.gas_limit > block_gas_limit {
            return Err(Invalid::GasAboveBlock);
        }
        if self.gas_limit > TRANSACTION_GAS_CAP {
            return Err(Invalid::GasAboveCap { limit: self.gas_limit });
        }
        if self.to.is_create() && self.input.len() > eip3860::MAX_INITCODE_SIZE {
            return Err(Invalid::InitCodeTooLarge { size: self.input.len() });
        }
        if self.max_tip.is_some_and(|tip| tip > self.max_fee) {
            return Err(Invalid::TipAboveFee);
        }
        validate_initial_tx_gas_with_gas_params(
            self.environment(),
            SPEC,
            &GasParams::new_spec(SPEC),
            false,
            false,
            TRANSACTION_GAS_CAP,
            None,
        )
        .map(drop)
        .map_err(|error| self.explain(error))
    }

    /// Runs the message on `state`, which stays as it is.
    pub(crate) fn execute(
        &self,
        state: &State,
        surroundings: &Surroundings,
        rules: Rules,
    ) -> Result<Execution, Invalid> {
        let mut cfg = CfgEnv::new_with_spec(SPEC).with_chain_id(surroundings.chain_id);
        if rules == Rules::Simulation {
            cfg.disable_nonce_check = true;
            cfg.disable_base_fee = true;
            cfg.disable_eip3607 = true;
            cfg.tx_chain_id_check = false;
            cfg.tx_gas_limit_cap = Some(u64::MAX);
        }
        let block = BlockEnv {
            number: U256::from(surroundings.number),
            timestamp: U256::from(surroundings.timestamp),
            gas_limit: surroundings.gas_limit,
            basefee: surroundings.base_fee,
            prevrandao: Some(surroundings.prevrandao),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(
                0,
                BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
            )),
            beneficiary: Address::ZERO,
            ..BlockEnv::default()
        };
        let mut machine = Context::mainnet()
            .with_db(WrapDatabaseRef(View(state)))
            .with_cfg(cfg)
            .with_block(block)
            .build_mainnet();
        let outcome = machine.transact(self.environment()).map_err(|error| match error {
            EVMError::Transaction(invalid) => self.explain(invalid),
            other => Invalid::Other(other.to_string()),
        })?;
        let gas = *outcome.result.gas();
        meter::charge(gas.total_gas_spent());
        let (verdict, output, logs) = match outcome.result {
            ExecutionResult::Success { logs, output, .. } => {
                (Verdict::Success, output.into_data(), logs)
            }
            ExecutionResult::Revert { output, .. } => (Verdict::Revert, output, Vec::new()),
            ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => {
                (Verdict::OutOfGas, Bytes::new(), Vec::new())
            }
            ExecutionResult::Halt { reason, .. } => {
                (Verdict::Halt(format!("{reason:?}")), Bytes::new(), Vec::new())
            }
        };
        Ok(Execution {
            verdict,
            gas_used: gas.tx_gas_used(),
            gas_spent: gas.total_gas_spent(),
            output,
            logs,
            changes: outcome.state,
        })
    }

    fn environment(&self) -> TxEnv {
        TxEnv {
            tx_type: self.kind,
            caller: self.from,
            gas_limit: self.gas_limit,
            gas_price: self.max_fee,
            kind: self.to,
            value: self.value,
            data: self.input.clone(),
            nonce: self.nonce,
            chain_id: self.chain_id,
            access_list: self.access_list.clone(),
            gas_priority_fee: self.max_tip,
            authorization_list: self.authorizations.iter().cloned().map(Either::Left).collect(),
            ..TxEnv::default()
        }
    }

    fn explain(&self, error: InvalidTransaction) -> Invalid {
        match error {
            InvalidTransaction::NonceTooLow { tx, state } => {
                Invalid::NonceTooLow { nonce: tx, expected: state }
            }
            InvalidTransaction::NonceTooHigh { tx, state } => {
                Invalid::NonceTooHigh { nonce: tx, expected: state }
            }
            InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
                Invalid::InsufficientFunds { balance: *balance, cost: *fee }
            }
            InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                Invalid::IntrinsicGas { limit: gas_limit, needed: initial_gas }
            }
            InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
                Invalid::IntrinsicGas { limit: gas_limit, needed: gas_floor }
            }
            InvalidTransaction::TxGasLimitGreaterThanCap { gas_limit, .. } => {
                Invalid::GasAboveCap { limit: gas_limit }
            }
            InvalidTransaction::CallerGasLimitMoreThanBlock => Invalid::GasAboveBlock,
            InvalidTransaction::GasPriceLessThanBasefee => Invalid::FeeBelowBase,
            InvalidTransaction::PriorityFeeGreaterThanMaxFee => Invalid::TipAboveFee,
            InvalidTransaction::RejectCallerWithCode => Invalid::SenderHasCode,
            InvalidTransaction::CreateInitCodeSizeLimit => {
                Invalid::InitCodeTooLarge { size: self.input.len() }
            }
            InvalidTransaction::InvalidChainId => Invalid::ChainId,
            other => Invalid::Other(other.to_string()),
        }
    }
}

impl Execution {
    /// Makes the changes in `state`, which must be the one the message ran on.
    pub(crate) fn apply(self, state: &mut State) {
        for (address, changed) in self.changes {
            if !changed.is_touched() {
                continue;
            }
            if changed.is_selfdestructed() {
                state.put(address, Account::default());
                continue;
            }
            // A new contract starts with empty storage, whatever its address held before.
            let mut account = if changed.is_created() {
                Account::default()
            } else {
                state.account(address).cloned().unwrap_or_default()
            };
            account.nonce = changed.info.nonce;
            account.balance = changed.info.balance;
            // Code that the execution never loaded is absent here, and unchanged.
            if let Some(code) = changed.info.code {
                account.code = Code::some(code);
            }
            for (slot, value) in changed.storage {
                if value.is_changed() {
                    account.set_storage(slot, value.present_value());
                }
            }
            state.put(address, account);
        }
    }
}

/// A state as revm reads it.
struct View<'a>(&'a State);

impl DatabaseRef for View<'_> {
    type Error = Infallible;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.0.account(address).map(|account| {
            let code = account.code.as_ref().map_or_else(Bytecode::default, |code| code.0.clone());
            AccountInfo::new(account.balance, account.nonce, code.hash_slow(), code)
        }))
    }

    /// Never asked, because every account comes with its code.
    fn code_by_hash_ref(&self, _hash: B256) -> Result<Bytecode, Infallible> {
        Ok(Bytecode::default())
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.0.storage(address, slot))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, Infallible> {
        Ok(self.0.block_hash(number))
    }
}
