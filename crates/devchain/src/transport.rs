//! The chain as a transport of alloy's clients, without a socket.

use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{
    ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload, SerializedRequest,
};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use tower::Service;

use crate::chain::Devchain;
use crate::rpc::{self, RpcError};

/// Answers the requests of an alloy client in process. Requests run on blocking threads of the
/// current tokio runtime, a few at a time, with the limits that a batch has over HTTP.
///
/// Hand it to `RpcClient::new(chain.transport(), true)`, and that to
/// `ProviderBuilder::connect_client`.
#[derive(Clone, Debug)]
pub struct DevchainTransport {
    chain: Devchain,
}

impl Devchain {
    /// A transport that talks to this chain.
    #[must_use]
    pub fn transport(&self) -> DevchainTransport {
        DevchainTransport { chain: self.clone() }
    }
}

impl Service<RequestPacket> for DevchainTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let chain = self.chain.clone();
        Box::pin(async move {
            let answer = move |chain: &Devchain| match packet {
                RequestPacket::Single(request) => ResponsePacket::Single(answer(chain, &request)),
                RequestPacket::Batch(requests) => ResponsePacket::Batch(batch(chain, &requests)),
            };
            chain.on_worker(answer).await.map_err(TransportErrorKind::custom)
        })
    }
}

fn batch(chain: &Devchain, requests: &[SerializedRequest]) -> Vec<Response> {
    let budget = rpc::batch_budget();
    let one = |request: &SerializedRequest| {
        if budget.is_left() {
            answer(chain, request)
        } else {
            response(request, Err(RpcError::batch_too_costly()))
        }
    };
    requests.iter().map(one).collect()
}

fn answer(chain: &Devchain, request: &SerializedRequest) -> Response {
    response(request, rpc::handle(chain, request.method(), request.params()))
}

fn response(request: &SerializedRequest, reply: rpc::Reply) -> Response {
    let payload = match reply {
        Ok(result) => ResponsePayload::Success(result),
        Err(RpcError { code, message, data }) => ResponsePayload::Failure(ErrorPayload {
            code,
            message: message.into(),
            data: data.and_then(|data| serde_json::value::to_raw_value(&data).ok()),
        }),
    };
    Response { id: request.id().clone(), payload }
}
