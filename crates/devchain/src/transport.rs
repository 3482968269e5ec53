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
/// current tokio runtime.
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
            let answer = move || match packet {
                RequestPacket::Single(request) => ResponsePacket::Single(answer(&chain, &request)),
                RequestPacket::Batch(requests) => ResponsePacket::Batch(
                    requests.iter().map(|request| answer(&chain, request)).collect(),
                ),
            };
            tokio::task::spawn_blocking(answer).await.map_err(TransportErrorKind::custom)
        })
    }
}

fn answer(chain: &Devchain, request: &SerializedRequest) -> Response {
    let payload = match rpc::handle(chain, request.method(), request.params()) {
        Ok(result) => ResponsePayload::Success(result),
        Err(RpcError { code, message, data }) => ResponsePayload::Failure(ErrorPayload {
            code,
            message: message.into(),
            data: data.and_then(|data| serde_json::value::to_raw_value(&data).ok()),
        }),
    };
    Response { id: request.id().clone(), payload }
}
