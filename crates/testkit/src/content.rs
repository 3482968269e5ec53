//! Blocks in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore, Sources};
use roadstead_crypto::sha256;
use roadstead_types::{Cid, content::digest_of};

use crate::lock;

/// A store that keeps everything and loses what it is told to lose. Its pins hold names, not graphs, so it counts
/// collections and collects nothing.
#[derive(Debug, Default)]
pub struct MemoryStore {
    blocks: Mutex<BTreeMap<Cid, Bytes>>,
    pins: Mutex<BTreeSet<Cid>>,
    collections: Mutex<u32>,
}

impl MemoryStore {
    /// Every block.
    pub fn blocks(&self) -> Vec<Cid> {
        lock(&self.blocks).keys().copied().collect()
    }

    /// How often it was asked to collect.
    pub fn collections(&self) -> u32 {
        *lock(&self.collections)
    }

    /// Loses a block.
    pub fn lose(&self, cid: &Cid) {
        lock(&self.blocks).remove(cid);
    }

    /// Holds other bytes for a block from now on, and gives them to whoever asks.
    pub fn tamper(&self, cid: &Cid, change: impl FnOnce(&mut Vec<u8>)) {
        let mut blocks = lock(&self.blocks);
        let mut block = blocks.get(cid).map(|block| block.to_vec()).unwrap_or_default();
        change(&mut block);
        blocks.insert(*cid, block.into());
    }
}

#[async_trait]
impl BlockSource for MemoryStore {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        Ok(lock(&self.blocks).get(cid).cloned())
    }
}

#[async_trait]
impl ContentStore for MemoryStore {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        if digest_of(cid) != Some(sha256(&block)) {
            return Err(ContentError::Mismatch { place: "a test".into(), cid: *cid });
        }
        Ok(lock(&self.blocks).insert(*cid, block).is_none())
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        Ok(lock(&self.blocks).contains_key(cid))
    }

    async fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        if !self.has(root).await? {
            return Err(ContentError::Absent { cid: *root });
        }
        lock(&self.pins).insert(*root);
        Ok(())
    }

    async fn unpin(&self, root: &Cid) -> Result<(), ContentError> {
        lock(&self.pins).remove(root);
        Ok(())
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        Ok(lock(&self.pins).iter().copied().collect())
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        *lock(&self.collections) += 1;
        Ok(0)
    }
}

/// Sources by names that a test chooses.
#[derive(Default)]
pub struct MemorySources {
    known: Mutex<BTreeMap<String, Arc<dyn BlockSource>>>,
}

impl MemorySources {
    /// Makes a source known.
    pub fn add(&self, address: &str, source: Arc<dyn BlockSource>) {
        lock(&self.known).insert(address.to_owned(), source);
    }
}

impl Sources for MemorySources {
    fn open(&self, address: &str) -> Result<Arc<dyn BlockSource>, ContentError> {
        let refused = || ContentError::Refused {
            address: address.to_owned(),
            reason: "this test does not know it".into(),
        };
        lock(&self.known).get(address).cloned().ok_or_else(refused)
    }
}

impl std::fmt::Debug for MemorySources {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MemorySources").finish_non_exhaustive()
    }
}
