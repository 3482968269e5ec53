//! What every engine does with work that blocks, and with errors that may pass.

use std::error::Error;

use roadstead_core::ports::EngineError;

/// Turns an error of `operation` into an [`EngineError`] after which trying again may help.
pub(crate) fn engine_failed<E: Into<Box<dyn Error + Send + Sync>>>(
    operation: &'static str,
) -> impl FnOnce(E) -> EngineError {
    move |source| EngineError::Failed { operation, source: source.into() }
}

/// Runs what blocks in a thread where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(engine_failed("working in the background"))
}
