//! The simplest way to expose a port: on the loopback address where the engine forwards it.

use std::net::SocketAddr;

use async_trait::async_trait;
use roadstead_core::ports::{Endpoints, ExposeError};
use roadstead_types::JobId;

/// Ports are called on this machine alone.
#[derive(Clone, Copy, Debug)]
pub struct LoopbackEndpoints;

#[async_trait]
impl Endpoints for LoopbackEndpoints {
    async fn expose(
        &self,
        _job: JobId,
        _port: u16,
        target: SocketAddr,
    ) -> Result<String, ExposeError> {
        Ok(format!("http://{target}"))
    }

    async fn conceal(&self, _job: JobId) {}
}
