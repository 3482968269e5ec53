//! Mining at an interval: a task that its owner starts, cancels and waits for.

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::chain::Devchain;

impl Devchain {
    /// Mines a block at every interval until `cancel` is triggered. A chain that does not mine at an
    /// interval just waits.
    ///
    /// The interval runs on tokio's time, the timestamps on the clock of the chain.
    pub async fn run_miner(&self, cancel: CancellationToken) {
        let Some(period) = self.interval() else {
            cancel.cancelled().await;
            return;
        };
        let mut ticks = tokio::time::interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Cancel-safe: waiting for a token holds nothing.
                () = cancel.cancelled() => return,
                // Cancel-safe: a tick that was not returned is not consumed.
                _ = ticks.tick() => {}
            }
            let chain = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || chain.mine()).await {
                tracing::error!(%error, "mining a block failed");
            }
        }
    }

    /// Runs the miner as a task of the current runtime, owned by the returned handle.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use = "dropping the handle stops the miner"]
    pub fn spawn_miner(&self) -> Miner {
        let cancel = CancellationToken::new();
        let (chain, token) = (self.clone(), cancel.clone());
        let task = tokio::spawn(async move { chain.run_miner(token).await });
        Miner { cancel, task }
    }
}

/// The running miner. Dropping it stops the mining; [`Miner::shutdown`] also waits for the end.
#[derive(Debug)]
pub struct Miner {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Miner {
    /// Stops mining and waits until a block in the making is done.
    pub async fn shutdown(mut self) {
        self.cancel.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the miner did not end well");
        }
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
