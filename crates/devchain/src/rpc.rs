//! JSON-RPC: from the bytes of a request to the bytes of the answer.
//!
//! One method is one function in a submodule; this module owns the envelope: ids, batches, limits
//! and the table of methods. Answering executes code and takes locks, so callers in async code run
//! it on a blocking thread.

mod call;
mod development;
mod error;
mod fees;
mod logs;
mod params;
mod read;
mod shape;
mod transactions;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::chain::Devchain;
use crate::meter::Budget;
pub(crate) use error::RpcError;
use params::Params;

/// The most requests in one batch.
const MAX_BATCH: usize = 1_000;

/// After this many bytes of answers the rest of a batch is refused.
const MAX_BATCH_ANSWER: usize = 25 * 1024 * 1024;

/// After executing this much gas, ten full blocks of the usual size, the rest of a batch is refused.
const MAX_BATCH_GAS: u64 = 300_000_000;

pub(crate) type Reply = Result<Box<RawValue>, RpcError>;

/// What the requests of a batch may execute together. The one that goes beyond it is still answered.
pub(crate) fn batch_budget() -> Budget {
    Budget::new(MAX_BATCH_GAS)
}

/// Answers one request.
pub(crate) fn handle(chain: &Devchain, method: &str, params: Option<&RawValue>) -> Reply {
    let params = Params::parse(params)?;
    let params = &params;
    tracing::trace!(method, "request");
    match method {
        "eth_chainId" => read::chain_id(chain),
        "net_version" => read::network_version(chain),
        "web3_clientVersion" => read::client_version(),
        "eth_blockNumber" => read::block_number(chain),
        "eth_getBlockByNumber" => read::block_by_number(chain, params),
        "eth_getBlockByHash" => read::block_by_hash(chain, params),
        "eth_getBalance" => read::balance(chain, params),
        "eth_getCode" => read::code(chain, params),
        "eth_getStorageAt" => read::storage(chain, params),
        "eth_getTransactionCount" => read::transaction_count(chain, params),
        "eth_syncing" => read::syncing(),
        "eth_accounts" => read::accounts(),
        "eth_gasPrice" => fees::gas_price(chain),
        "eth_maxPriorityFeePerGas" => fees::priority_fee(),
        "eth_feeHistory" => fees::history(chain, params),
        "eth_call" => call::call(chain, params),
        "eth_estimateGas" => call::estimate(chain, params),
        "eth_sendRawTransaction" => transactions::send_raw(chain, params),
        "eth_getTransactionByHash" => transactions::by_hash(chain, params),
        "eth_getTransactionReceipt" => transactions::receipt(chain, params),
        "eth_getBlockReceipts" => transactions::block_receipts(chain, params),
        "eth_getLogs" => logs::logs(chain, params),
        "evm_mine" => development::evm_mine(chain, params),
        "anvil_mine" | "hardhat_mine" => development::mine(chain, params),
        "evm_increaseTime" => development::increase_time(chain, params),
        "evm_setNextBlockTimestamp" => development::set_next_timestamp(chain, params),
        "evm_setAutomine" => development::set_automine(chain, params),
        "anvil_setBalance" | "hardhat_setBalance" => development::set_balance(chain, params),
        _ => Err(RpcError::unknown_method(method)),
    }
}

/// Serialises the result of a method.
fn reply(value: &impl Serialize) -> Reply {
    serde_json::value::to_raw_value(value).map_err(|error| RpcError::internal(&error))
}

#[derive(Deserialize)]
struct Request<'a> {
    jsonrpc: Cow<'a, str>,
    /// A request without an id is a notification, which gets no answer; `null` is an id.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// As much of a request as an answer needs, even if the rest of it is wrong.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

#[derive(Serialize)]
struct Response<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RpcError>,
}

impl Devchain {
    /// Answers the text of a JSON-RPC request or batch, whatever it is; nothing when there is nothing
    /// to answer.
    ///
    /// Executes on the calling thread: for most requests at most a block of gas, and another one if
    /// they ask about the pending block; for an estimate some thirty transactions; for mining what the
    /// blocks hold. A batch that has executed ten blocks of gas is refused from there on.
    #[must_use]
    pub fn respond(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return self.respond_to_batch(body);
        }
        match serde_json::from_slice::<&RawValue>(body) {
            Ok(request) => self.respond_to_one(request, None),
            Err(error) => Some(encode(None, Err(&RpcError::parse(&error)))),
        }
    }

    fn respond_to_batch(&self, body: &[u8]) -> Option<Vec<u8>> {
        let requests = match serde_json::from_slice::<Vec<&RawValue>>(body) {
            Ok(requests) => requests,
            Err(error) => return Some(encode(None, Err(&RpcError::parse(&error)))),
        };
        if requests.is_empty() {
            return Some(encode(None, Err(&RpcError::invalid_request("the batch is empty"))));
        }
        if requests.len() > MAX_BATCH {
            return Some(encode(None, Err(&RpcError::batch_too_long(requests.len(), MAX_BATCH))));
        }
        let budget = batch_budget();
        let mut answer = Vec::from(*b"[");
        for request in requests {
            let refusal = if answer.len() > MAX_BATCH_ANSWER {
                Some(RpcError::answer_too_large())
            } else if budget.is_left() {
                None
            } else {
                Some(RpcError::batch_too_costly())
            };
            if let Some(one) = self.respond_to_one(request, refusal) {
                if answer.len() > 1 {
                    answer.push(b',');
                }
                answer.extend_from_slice(&one);
            }
        }
        answer.push(b']');
        (answer.len() > 2).then_some(answer)
    }

    /// Answers one request, with `refusal` if there is one.
    fn respond_to_one(&self, body: &RawValue, refusal: Option<RpcError>) -> Option<Vec<u8>> {
        let invalid = |why: &str| {
            let request = serde_json::from_str::<Identified<'_>>(body.get());
            let id = request.ok().map(|request| request.id).filter(|id| is_scalar(id));
            Some(encode(id, Err(&RpcError::invalid_request(why))))
        };
        let request = match serde_json::from_str::<Request<'_>>(body.get()) {
            Ok(request) => request,
            Err(error) => return invalid(&error.to_string()),
        };
        if request.jsonrpc != "2.0" || !request.id.is_none_or(is_scalar) {
            return invalid("expected version 2.0 and a scalar id");
        }
        let result = match refusal {
            Some(refusal) => Err(refusal),
            None => handle(self, &request.method, request.params),
        };
        request.id.map(|id| encode(Some(id), result.as_deref()))
    }
}

fn is_scalar(id: &RawValue) -> bool {
    !id.get().starts_with(['{', '[', 't', 'f'])
}

fn encode(id: Option<&RawValue>, result: Result<&RawValue, &RpcError>) -> Vec<u8> {
    let response = Response { jsonrpc: "2.0", id, result: result.ok(), error: result.err() };
    serde_json::to_vec(&response).unwrap_or_default()
}
