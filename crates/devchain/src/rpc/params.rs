//! Positional parameters, parsed one by one so that an error names the one that is wrong.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::RpcError;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params<'a>(Vec<&'a RawValue>);

impl<'a> Params<'a> {
    pub(super) fn parse(params: Option<&'a RawValue>) -> Result<Self, RpcError> {
        let Some(params) = params else { return Ok(Self(Vec::new())) };
        serde_json::from_str(params.get())
            .map(Self)
            .map_err(|_| RpcError::invalid_params("the parameters must be an array".to_owned()))
    }

    /// The parameter at `index`.
    pub(super) fn required<T: DeserializeOwned>(
        &self,
        index: usize,
        name: &str,
    ) -> Result<T, RpcError> {
        let parameter = self.0.get(index).ok_or_else(|| {
            RpcError::invalid_params(format!("parameter {index} ({name}) is missing"))
        })?;
        serde_json::from_str(parameter.get()).map_err(|error| {
            RpcError::invalid_params(format!("parameter {index} ({name}) is wrong: {error}"))
        })
    }

    /// The parameter at `index`, if it is there and not null.
    pub(super) fn optional<T: DeserializeOwned>(
        &self,
        index: usize,
        name: &str,
    ) -> Result<Option<T>, RpcError> {
        if index < self.0.len() { self.required(index, name) } else { Ok(None) }
    }
}
