//! Errors as clients see them: a code, a message and, for reverts, the data.

use std::fmt;

use alloy::primitives::{Bytes, hex};
use alloy::sol_types::{Panic, Revert, SolError};
use serde::Serialize;

use crate::chain::{LookupError, SendError, TimeError};
use crate::evm::Invalid;
use crate::transaction::Malformed;

const PARSE: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;
const SERVER: i64 = -32000;
const RESOURCE_NOT_FOUND: i64 = -32001;
const TRANSACTION_REJECTED: i64 = -32003;
const LIMIT_EXCEEDED: i64 = -32005;
/// Clients take this code, and only this, for a revert with data.
const REVERT: i64 = 3;

/// The error object of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Bytes>,
}

impl RpcError {
    fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn parse(error: &serde_json::Error) -> Self {
        Self::new(PARSE, format!("the request is not JSON: {error}"))
    }

    pub(super) fn invalid_request(why: &str) -> Self {
        Self::new(INVALID_REQUEST, format!("invalid request: {why}"))
    }

    pub(super) fn batch_too_long(length: usize, limit: usize) -> Self {
        Self::new(LIMIT_EXCEEDED, format!("the batch has {length} requests, the limit is {limit}"))
    }

    pub(super) fn answer_too_large() -> Self {
        Self::new(LIMIT_EXCEEDED, "the answer to the batch is too large")
    }

    pub(crate) fn batch_too_costly() -> Self {
        Self::new(LIMIT_EXCEEDED, "the batch executes too much; send the rest of it again")
    }

    pub(super) fn unknown_method(method: &str) -> Self {
        // The name comes from the client, so only as much of it as a method could have.
        let name: String = method.chars().take(64).collect();
        Self::new(METHOD_NOT_FOUND, format!("the method {name} does not exist"))
    }

    pub(super) fn invalid_params(message: String) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    pub(super) fn limit(message: String) -> Self {
        Self::new(LIMIT_EXCEEDED, message)
    }

    pub(super) fn server(message: impl Into<String>) -> Self {
        Self::new(SERVER, message)
    }

    pub(crate) fn internal(error: &dyn fmt::Display) -> Self {
        Self::new(INTERNAL, format!("internal error: {error}"))
    }

    /// A call that reverted. The message has the reason if the language itself made the data, or else
    /// names the error by its selector.
    pub(super) fn revert(data: Bytes) -> Self {
        let reason = Revert::abi_decode(&data)
            .map(|revert| revert.reason)
            .or_else(|_| Panic::abi_decode(&data).map(|panic| panic.to_string()))
            .ok();
        let message = match (reason, data.first_chunk::<4>()) {
            (Some(reason), _) => format!("execution reverted: {reason}"),
            (None, Some(selector)) => {
                format!("execution reverted: custom error {}", hex::encode_prefixed(selector))
            }
            (None, None) => "execution reverted".to_owned(),
        };
        Self { code: REVERT, message, data: Some(data) }
    }

    pub(super) fn out_of_gas(allowance: u64) -> Self {
        Self::new(SERVER, format!("out of gas: gas required exceeds allowance ({allowance})"))
    }
}

impl From<LookupError> for RpcError {
    fn from(error: LookupError) -> Self {
        Self::new(RESOURCE_NOT_FOUND, error.to_string())
    }
}

impl From<TimeError> for RpcError {
    fn from(error: TimeError) -> Self {
        Self::new(INVALID_PARAMS, error.to_string())
    }
}

impl From<Invalid> for RpcError {
    fn from(error: Invalid) -> Self {
        let code = match error {
            Invalid::IntrinsicGas { .. }
            | Invalid::GasAboveBlock
            | Invalid::GasAboveCap { .. }
            | Invalid::InitCodeTooLarge { .. } => SERVER,
            _ => TRANSACTION_REJECTED,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SendError> for RpcError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Invalid(error) => error.into(),
            SendError::Refused(error) => Self::new(TRANSACTION_REJECTED, error.to_string()),
        }
    }
}

impl From<Malformed> for RpcError {
    fn from(error: Malformed) -> Self {
        let message = match &error {
            Malformed::Invalid(error) => return error.clone().into(),
            Malformed::Encoding(source) => format!("{error}: {source}"),
            other => other.to_string(),
        };
        Self::new(INVALID_PARAMS, message)
    }
}
