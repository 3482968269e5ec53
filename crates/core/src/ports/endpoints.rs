//! How a job's ports are called from outside: the provider's own affair, not the engine's.

use std::{error::Error, net::SocketAddr};

use async_trait::async_trait;
use roadstead_types::JobId;

/// Why a port cannot be called.
#[derive(Debug, thiserror::Error)]
#[error("port {port} cannot be made callable")]
pub struct ExposeError {
    /// The container's port.
    pub port: u16,
    /// The reason.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Makes ports callable.
#[async_trait]
pub trait Endpoints: Send + Sync {
    /// The URL under which the job's `port` can be called, while the engine forwards it at `target`. May be repeated;
    /// another target replaces the one before.
    async fn expose(
        &self,
        job: JobId,
        port: u16,
        target: SocketAddr,
    ) -> Result<String, ExposeError>;

    /// Ends all that was exposed of a job.
    async fn conceal(&self, job: JobId);
}
