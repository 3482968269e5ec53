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
pub(crate) use error::RpcError;
use params::Params;

/// The most requests in one batch.
const MAX_BATCH: usize = 1_000;

/// After this many bytes of answers the rest of a batch is refused.
const MAX_BATCH_ANSWER: usize = 25 * 1024 * 1024;

type Reply = Result<Box<RawValue>, RpcError>;

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
    /// Executes on the calling thread, up to a block of gas for each request.
    #[must_use]
    pub fn respond(&self, body: &[u8]) -> Option<Vec<u8>> {
        if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return self.respond_to_batch(body);
        }
        match serde_json::from_slice::<&RawValue>(body) {
            Ok(request) => self.respond_to_one(request),
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
        let mut answer = Vec::from(*b"[");
        for request in requests {
            let one = if answer.len() > MAX_BATCH_ANSWER {
                let id = serde_json::from_str::<Request<'_>>(request.get()).ok();
                let id = id.and_then(|request| request.id);
                Some(encode(id, Err(&RpcError::answer_too_large())))
            } else {
                self.respond_to_one(request)
            };
            if let Some(one) = one {
                if answer.len() > 1 {
                    answer.push(b',');
                }
                answer.extend_from_slice(&one);
            }
        }
        answer.push(b']');
        (answer.len() > 2).then_some(answer)
    }

    fn respond_to_one(&self, request: &RawValue) -> Option<Vec<u8>> {
        let request = match serde_json::from_str::<Request<'_>>(request.get()) {
            Ok(request) => request,
            Err(error) => {
                let error = RpcError::invalid_request(&error.to_string());
                return Some(encode(None, Err(&error)));
            }
        };
        let scalar = |id: &RawValue| !id.get().starts_with(['{', '[', 't', 'f']);
        if request.jsonrpc != "2.0" || !request.id.is_none_or(scalar) {
            let error = RpcError::invalid_request("expected version 2.0 and a scalar id");
            return Some(encode(None, Err(&error)));
        }
        let result = handle(self, &request.method, request.params);
        request.id.map(|id| encode(Some(id), result.as_deref()))
    }
}

fn encode(id: Option<&RawValue>, result: Result<&RawValue, &RpcError>) -> Vec<u8> {
    let response = Response { jsonrpc: "2.0", id, result: result.ok(), error: result.err() };
    serde_json::to_vec(&response).unwrap_or_default()
}
