//! Executing without a transaction: calls and gas estimates.
//!
//! Both run on a snapshot, without any lock and without the base fee check. A sender needs money for
//! what it offers to pay only: nothing at gas price zero.

use alloy::eips::BlockId;
use alloy::primitives::{Bytes, TxKind, U256};
use alloy::rpc::types::TransactionRequest;
use serde_json::Value;

use super::params::Params;
use super::{Reply, RpcError, read, reply};
use crate::block::Snapshot;
use crate::chain::Devchain;
use crate::evm::{Execution, Invalid, Message, Rules, TRANSACTION_GAS_CAP, Verdict};

/// The gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;

/// What a call with value gives to the called contract on top of its gas.
const CALL_STIPEND: u64 = 2_300;

pub(super) fn call(chain: &Devchain, params: &Params<'_>) -> Reply {
    let request = request(params)?;
    let snapshot = read::snapshot(chain, params, 1)?;
    let gas_limit = snapshot.surroundings.gas_limit;
    let message = message(request, &snapshot, gas_limit)?;
    let execution = run(&message, &snapshot)?;
    match execution.verdict {
        Verdict::Success => reply(&execution.output),
        _ => Err(failure(execution, message.gas_limit)),
    }
}

/// A gas limit with which the transaction succeeds on top of the pending block: the least one, unless
/// the code itself looks at its gas and does less, or gives up, with another amount of it.
///
/// Somewhat more than what it uses may be needed: a contract keeps a 64th part when it calls another,
/// refunds come at the end, and a call with value needs its stipend.
pub(super) fn estimate(chain: &Devchain, params: &Params<'_>) -> Reply {
    let request = request(params)?;
    let id = params.optional(1, "block")?.unwrap_or_else(BlockId::pending);
    let snapshot = chain.snapshot(id)?;
    let cap = snapshot.surroundings.gas_limit.min(TRANSACTION_GAS_CAP);
    let mut message = message(request, &snapshot, cap)?;
    message.gas_limit = message.gas_limit.min(affordable(&message, &snapshot)?);
    reply(&U256::from(least_gas(message, &snapshot)?))
}

fn least_gas(mut message: Message, snapshot: &Snapshot) -> Result<u64, RpcError> {
    let mut enough = message.gas_limit;
    if enough >= TRANSFER_GAS && suffices(&mut message, TRANSFER_GAS, snapshot)? {
        return Ok(TRANSFER_GAS);
    }
    message.gas_limit = enough;
    let execution = run(&message, snapshot)?;
    if execution.verdict != Verdict::Success {
        return Err(failure(execution, enough));
    }
    // With less than it used it would run out, if its code does the same with any gas.
    let mut too_little = execution.gas_used.saturating_sub(1);
    // Most often the answer lies just above what was spent, so look there before halving the rest.
    let guess = execution.gas_spent.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
    for candidate in [execution.gas_spent, guess] {
        if too_little < candidate && candidate < enough {
            if suffices(&mut message, candidate, snapshot)? {
                enough = candidate;
            } else {
                too_little = candidate;
            }
        }
    }
    while too_little.saturating_add(1) < enough {
        let middle = too_little + (enough - too_little) / 2;
        if suffices(&mut message, middle, snapshot)? {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    Ok(enough)
}

/// Whether the message succeeds with `gas_limit`.
fn suffices(message: &mut Message, gas_limit: u64, snapshot: &Snapshot) -> Result<bool, Invalid> {
    message.gas_limit = gas_limit;
    match run(message, snapshot) {
        Ok(execution) => Ok(execution.verdict == Verdict::Success),
        Err(Invalid::IntrinsicGas { .. }) => Ok(false),
        Err(invalid) => Err(invalid),
    }
}

/// How much gas the sender can pay for.
fn affordable(message: &Message, snapshot: &Snapshot) -> Result<u64, RpcError> {
    let balance = snapshot.state.balance(message.from);
    let left = balance
        .checked_sub(message.value)
        .ok_or(Invalid::InsufficientFunds { balance, cost: message.value })?;
    match left.checked_div(U256::from(message.max_fee)) {
        Some(gas) => Ok(u64::try_from(gas).unwrap_or(u64::MAX)),
        None => Ok(u64::MAX),
    }
}

fn run(message: &Message, snapshot: &Snapshot) -> Result<Execution, Invalid> {
    message.execute(&snapshot.state, &snapshot.surroundings, Rules::Simulation)
}

fn failure(execution: Execution, gas_limit: u64) -> RpcError {
    match execution.verdict {
        Verdict::OutOfGas => RpcError::out_of_gas(gas_limit),
        Verdict::Halt(reason) => RpcError::server(format!("execution halted: {reason}")),
        Verdict::Revert | Verdict::Success => RpcError::revert(execution.output),
    }
}

fn request(params: &Params<'_>) -> Result<TransactionRequest, RpcError> {
    for (index, name) in [(2, "state overrides"), (3, "block overrides")] {
        let overrides: Option<Value> = params.optional(index, name)?;
        let given =
            overrides.is_some_and(|value| value.as_object().is_none_or(|map| !map.is_empty()));
        if given {
            return Err(RpcError::invalid_params(format!("{name} are not supported")));
        }
    }
    params.required(0, "transaction")
}

fn message(
    request: TransactionRequest,
    snapshot: &Snapshot,
    gas_cap: u64,
) -> Result<Message, RpcError> {
    let wrong = |why: &str| RpcError::invalid_params(format!("parameter 0 (transaction): {why}"));
    if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() {
        return Err(wrong("blobs are not supported by this chain"));
    }
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return Err(wrong("it has both a gas price and a maximum fee"));
    }
    let max_tip = request.max_priority_fee_per_gas;
    let max_fee = request.gas_price.or(request.max_fee_per_gas).or(max_tip).unwrap_or_default();
    let authorizations = request.authorization_list.unwrap_or_default();
    let access_list = request.access_list.unwrap_or_default();
    let from = request.from.unwrap_or_default();
    let input = request
        .input
        .try_into_unique_input()
        .map_err(|_| wrong("its fields data and input differ"))?;
    let kind = match () {
        () if !authorizations.is_empty() => 4,
        () if dynamic => 2,
        () if !access_list.0.is_empty() => 1,
        () => 0,
    };
    Ok(Message {
        kind,
        from,
        to: request.to.unwrap_or(TxKind::Create),
        nonce: request.nonce.unwrap_or_else(|| snapshot.state.nonce(from)),
        gas_limit: request.gas.unwrap_or(gas_cap).min(gas_cap),
        max_fee,
        max_tip: (kind == 2 || kind == 4).then(|| max_tip.unwrap_or_default()),
        value: request.value.unwrap_or_default(),
        input: input.unwrap_or_else(Bytes::new),
        chain_id: Some(snapshot.surroundings.chain_id),
        access_list,
        authorizations,
    })
}
