//! A layer that is read: a task fetches and opens chunks ahead, a few at a time, and hashes them in their order.

use std::{collections::VecDeque, sync::Arc};

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, LayerReader, OpenError};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    task::{JoinError, spawn_blocking},
};
use tokio_util::task::AbortOnDropHandle;

use super::{chunk::open_data, cursor::Cursor, damaged};

/// Chunks that are fetched at once.
const AHEAD: usize = 8;

/// Pieces that wait for whoever reads.
const QUEUE: usize = 2;

/// A piece of the layer, or `None` for its end once it was checked.
type Message = Result<Option<Bytes>, OpenError>;

/// A layer that is read. Dropping it ends the work for it.
pub(super) struct Reader {
    messages: mpsc::Receiver<Message>,
    ended: bool,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    pub(super) fn new(blocks: Arc<dyn BlockSource>, cursor: Cursor, diff_id: B256) -> Self {
        let (sender, messages) = mpsc::channel(QUEUE);
        let task = tokio::spawn(async move {
            let last = match read(&blocks, cursor, diff_id, &sender).await {
                Ok(()) => Ok(None),
                Err(error) => Err(error),
            };
            // Nobody reads any more where this fails.
            let _ = sender.send(last).await;
        });
        Self { messages, ended: false, _task: AbortOnDropHandle::new(task) }
    }
}

#[async_trait]
impl LayerReader for Reader {
    async fn next(&mut self) -> Result<Option<Bytes>, OpenError> {
        if self.ended {
            return Ok(None);
        }
        // A channel that closes without a word is no end: the task failed, now or in an earlier call.
        let closed = || Err(OpenError::Failed("reading this layer has failed".into()));
        let message = self.messages.recv().await.unwrap_or_else(closed)?;
        self.ended = message.is_none();
        Ok(message)
    }
}

/// Sends all pieces. Returns once the whole layer matched its digest, or nobody reads any more.
async fn read(
    blocks: &Arc<dyn BlockSource>,
    mut cursor: Cursor,
    diff_id: B256,
    sender: &mpsc::Sender<Message>,
) -> Result<(), OpenError> {
    let mut ahead = VecDeque::with_capacity(AHEAD);
    let mut hasher = Sha256::new();
    let mut more = true;
    loop {
        while more && ahead.len() < AHEAD {
            match cursor.next(&**blocks).await? {
                Some(reference) => {
                    let blocks = Arc::clone(blocks);
                    let task = tokio::spawn(async move { open_data(&*blocks, &reference).await });
                    ahead.push_back(AbortOnDropHandle::new(task));
                }
                None => more = false,
            }
        }
        let Some(oldest) = ahead.pop_front() else { break };
        let piece = oldest.await.map_err(failed)??;
        let hashed = spawn_blocking(move || {
            hasher.update(&piece);
            (hasher, piece)
        });
        let piece;
        (hasher, piece) = hashed.await.map_err(failed)?;
        if sender.send(Ok(Some(piece))).await.is_err() {
            return Ok(());
        }
    }
    if B256::from(<[u8; 32]>::from(hasher.finalize())) != diff_id {
        return Err(damaged("a layer has another digest than the configuration names"));
    }
    Ok(())
}

fn failed(error: JoinError) -> OpenError {
    OpenError::Failed(error.into())
}
