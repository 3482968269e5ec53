//! A store in memory, which also gives blocks that somebody changed.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_crypto::sha256;
use roadstead_types::{Cid, content::digest_of};

/// Blocks by their ids.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<Cid, Bytes>>);

impl Memory {
    pub(crate) fn blocks(&self) -> MutexGuard<'_, HashMap<Cid, Bytes>> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl BlockSource for Memory {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        Ok(self.blocks().get(cid).cloned())
    }
}

#[async_trait]
impl ContentStore for Memory {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        if digest_of(cid) != Some(sha256(&block)) {
            return Err(ContentError::Mismatch { place: "memory".into(), cid: *cid });
        }
        Ok(self.blocks().insert(*cid, block).is_none())
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        Ok(self.blocks().contains_key(cid))
    }

    async fn pin(&self, _: &Cid) -> Result<(), ContentError> {
        Ok(())
    }

    async fn unpin(&self, _: &Cid) -> Result<(), ContentError> {
        Ok(())
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        Ok(Vec::new())
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        Ok(0)
    }
}
