//! What an engine removes when it opens: what a crash left of starts and removals.
//!
//! As far as that can be done: a container that is stuck with Docker, or an instance whose file is damaged, must not keep
//! an engine from all others. What is left then goes at the next opening, or with its instance.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, stream};
use roadstead_core::{ports::EngineError, with_causes};
use tokio::time::timeout;
use tracing::warn;

use super::{
    client::{Labelled, took_too_long},
    instances::Instances,
};

/// How long all of it may take, how long each piece, and how many are removed at once.
const SWEEP_TIME: Duration = Duration::from_secs(60);
const PIECE_TIME: Duration = Duration::from_secs(20);
const PIECES_AT_ONCE: usize = 8;

impl Instances {
    /// Removes what a crash left of starts and removals. What cannot be removed now is left for the next time.
    pub(super) async fn sweep(&self) -> Result<(), EngineError> {
        let (mut instances, mut unclear) = (BTreeSet::new(), BTreeSet::new());
        let mut kept = BTreeSet::new();
        for id in self.records.list().await? {
            instances.insert(id);
            match self.records.read(&id).await {
                Ok(record) => kept.extend(record.map(|record| record.container)),
                Err(error) => {
                    let error = with_causes(&error);
                    warn!(%id, %error, "the file of an instance cannot be used: remove the instance");
                    unclear.insert(id);
                }
            }
        }
        let is_left = |container: &Labelled| {
            let is_unclear = container.instance.is_some_and(|id| unclear.contains(&id));
            !is_unclear && !kept.contains(&container.id)
        };
        let sweep = async {
            let mut left = self.client.containers(None).await?;
            left.retain(is_left);
            clear(left.iter().map(|container| self.client.remove(&container.id)).collect()).await;
            let mut left = self.client.networks(None).await?;
            left.retain(|network| network.instance.is_none_or(|id| !instances.contains(&id)));
            clear(left.iter().map(|network| self.client.remove_network(&network.id)).collect())
                .await;
            for id in self.names.list().await? {
                if !instances.contains(&id) {
                    self.names.remove(&id).await?;
                }
            }
            Ok(())
        };
        let swept = timeout(SWEEP_TIME, sweep).await;
        if let Err(error) = swept.unwrap_or_else(|_| Err(took_too_long("clearing"))) {
            let error = with_causes(&error);
            warn!(%error, "what is left of earlier work with Docker could not be removed");
        }
        Ok(())
    }
}

async fn clear(left: Vec<impl Future<Output = Result<(), EngineError>>>) {
    let each = |removal| async {
        let removed = timeout(PIECE_TIME, removal).await;
        if let Err(error) = removed.unwrap_or_else(|_| Err(took_too_long("removing it"))) {
            let error = with_causes(&error);
            warn!(%error, "something that a crash left with Docker could not be removed");
        }
    };
    stream::iter(left).for_each_concurrent(PIECES_AT_ONCE, each).await;
}
