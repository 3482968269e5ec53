//! What the demonstration pins, so that nothing of it stays in a store that outlives it.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_types::Cid;

/// A store, and what was pinned in it by way of this value. The publisher's keys are made for the demonstration, and
/// with them the ids of all its blocks, so nobody else has pinned these graphs.
pub(super) struct Pins {
    store: Arc<dyn ContentStore>,
    pinned: Mutex<Vec<Cid>>,
}

impl Pins {
    pub(super) fn of(store: Arc<dyn ContentStore>) -> Self {
        Self { store, pinned: Mutex::default() }
    }

    /// Lets everything go that was pinned. Whose blocks nobody pins is for the owner of the store to collect.
    pub(super) async fn release(&self) -> Result<(), ContentError> {
        let pinned =
            std::mem::take(&mut *self.pinned.lock().unwrap_or_else(PoisonError::into_inner));
        for root in pinned {
            self.store.unpin(&root).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl BlockSource for Pins {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        self.store.get(cid).await
    }
}

#[async_trait]
impl ContentStore for Pins {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        self.store.put(cid, block).await
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        self.store.has(cid).await
    }

    async fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        // Before the store does it: cut off, it may have.
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).push(*root);
        self.store.pin(root).await
    }

    async fn unpin(&self, root: &Cid) -> Result<(), ContentError> {
        self.store.unpin(root).await
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        self.store.pins().await
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        self.store.collect().await
    }
}
