//! The embedded store: a folder with one file a block.
//!
//! What is put is there at once, but only a pin makes it last: it walks the graph, waits until everything that was
//! written is on the disk, and then records the root. So a crash loses what was put since the last pin, or leaves parts
//! of it; which of these are whole is found by their hashes, and what is not whole counts as absent and can be put
//! again. A pin that is recorded has all its blocks.
//!
//! The system tells once that something could not be written, and not what; afterwards it reads the lost bytes back from
//! memory as if they were on the disk. So everything that was put since the last wait that succeeded counts as lost then.
//!
//! Pins and collections exclude each other. Puts and reads do not wait for either: a collection spares what is being
//! put while it runs.

mod folder;
mod reader;

use std::{
    collections::{HashMap, HashSet},
    error::Error,
    fmt, mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_types::Cid;
use tokio::sync::Mutex as AsyncMutex;

use self::folder::{Disk, Folder, SystemDisk, failed};
pub use self::reader::StoreReader;
use crate::{
    block::{BlockId, verify},
    graph::{GraphLimits, Walk, read_node},
};

/// The most blocks whose bytes are remembered to be right. Forgetting one only costs reading it once more.
const MAX_CHECKED: usize = 32_768;

/// A content store in a folder. Cheap to clone: the clones are one store.
#[derive(Clone)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    /// Held by whoever changes or uses the set of pins as a whole.
    pinning: Arc<AsyncMutex<()>>,
}

struct Shared {
    folder: Folder,
    state: Mutex<State>,
}

/// What must not change between a decision about a file and its renaming or removal.
#[derive(Default)]
struct State {
    /// Blocks that are being put, and by how many.
    under_way: HashMap<BlockId, usize>,
    /// While a collection runs: what was put, or was being put, since it began.
    spared: Option<HashSet<BlockId>>,
    /// Blocks whose files this process wrote or checked.
    checked: HashSet<BlockId>,
    /// Blocks that were written since the disk last said that it has everything.
    unsynced: HashSet<BlockId>,
    /// Blocks that the disk may not have, whatever their files say. They are to be removed or written again.
    lost: HashSet<BlockId>,
    /// How often the disk said that something could not be written.
    failed_syncs: u64,
}

impl EmbeddedStore {
    /// Opens the store in `path`, or makes one there. The caller sees to it that nobody else has it open. Blocks the
    /// thread while it lists what a crash left.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ContentError> {
        Self::open_on(Box::new(SystemDisk), path.into())
    }

    fn open_on(disk: Box<dyn Disk>, path: PathBuf) -> Result<Self, ContentError> {
        let shared = Shared { folder: Folder::open(path, disk)?, state: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), pinning: Arc::default() })
    }

    /// What [`ContentStore::collect`] does, and which blocks it removed.
    pub(crate) async fn collect_listing(&self) -> Result<Vec<BlockId>, ContentError> {
        let alone = Arc::clone(&self.pinning).lock_owned().await;
        self.on_disk("collect", move |shared| {
            let _alone = alone;
            shared.collect()
        })
        .await
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, ContentError> + Send + 'static,
    ) -> Result<T, ContentError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(done) => done,
            Err(error) => Err(failed(operation, self.shared.folder.path())(error)),
        }
    }
}

#[async_trait]
impl BlockSource for EmbeddedStore {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        let id = BlockId::of(cid)?;
        self.on_disk("read", move |shared| shared.get(id)).await
    }
}

#[async_trait]
impl ContentStore for EmbeddedStore {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        let cid = *cid;
        self.on_disk("write", move |shared| shared.put(&cid, &block)).await
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        let id = BlockId::of(cid)?;
        self.on_disk("examine", move |shared| shared.is_whole(id)).await
    }

    async fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        let root = *root;
        // The guard goes along: the work on the disk goes on where nobody waits for it any more.
        let alone = Arc::clone(&self.pinning).lock_owned().await;
        self.on_disk("pin", move |shared| {
            let _alone = alone;
            shared.pin(&root)
        })
        .await
    }

    async fn unpin(&self, root: &Cid) -> Result<(), ContentError> {
        let root = BlockId::of(root)?;
        let alone = Arc::clone(&self.pinning).lock_owned().await;
        self.on_disk("unpin", move |shared| {
            let _alone = alone;
            shared.folder.unpin(root)
        })
        .await
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        let pins = self.on_disk("list", |shared| shared.folder.pins()).await?;
        Ok(pins.into_iter().map(BlockId::cid).collect())
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        let removed = self.collect_listing().await?.len();
        Ok(u64::try_from(removed).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("EmbeddedStore").field(&self.shared.folder.path()).finish()
    }
}

impl Shared {
    fn get(&self, id: BlockId) -> Result<Option<Bytes>, ContentError> {
        match self.folder.read(id)? {
            Some(block) if id.matches(&block) => Ok(Some(block.into())),
            Some(_) => self.discard(id),
            None => Ok(None),
        }
    }

    /// Removes a damaged block, unless somebody has put it again meanwhile: then that is the answer.
    fn discard(&self, id: BlockId) -> Result<Option<Bytes>, ContentError> {
        let mut state = self.state();
        match self.folder.read(id)? {
            Some(block) if id.matches(&block) => Ok(Some(block.into())),
            Some(_) => {
                tracing::warn!(block = %id.cid(), "a damaged block is removed");
                state.checked.remove(&id);
                self.folder.remove(id)?;
                state.forget(id);
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn is_whole(&self, id: BlockId) -> Result<bool, ContentError> {
        let state = self.state();
        if state.lost.contains(&id) {
            return Ok(false);
        }
        if state.checked.contains(&id) {
            return self.folder.exists(id);
        }
        drop(state);
        let is_whole = self.get(id)?.is_some();
        let mut state = self.state();
        let is_whole = is_whole && !state.lost.contains(&id);
        if is_whole {
            state.remember(id);
        }
        Ok(is_whole)
    }

    fn put(&self, cid: &Cid, block: &[u8]) -> Result<bool, ContentError> {
        let id = verify(cid, block, "the caller")?;
        let _under_way = UnderWay::begin(self, id);
        if self.is_whole(id)? {
            return Ok(false);
        }
        loop {
            let failed_syncs = self.state().failed_syncs;
            let new = self.folder.write(block)?;
            let mut state = self.state();
            if state.checked.contains(&id) && self.folder.exists(id)? {
                return Ok(false);
            }
            if state.failed_syncs != failed_syncs {
                // These bytes may be what could not be written.
                continue;
            }
            self.folder.name(new, id)?;
            state.remember(id);
            state.lost.remove(&id);
            state.unsynced.insert(id);
            return Ok(true);
        }
    }

    fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        // Before the walk, which believes the files.
        self.remove_lost()?;
        let mut walk = Walk::new(root, GraphLimits::STORE)?;
        while let Some(id) = walk.next()? {
            if id.is_node {
                self.descend(&mut walk, id)?;
            } else if !self.is_whole(id)? {
                return Err(ContentError::Absent { cid: id.cid() });
            }
        }
        self.sync()?;
        self.folder.pin(BlockId::of(root)?)
    }

    /// Waits until every block is on the disk. Where that fails, those that were put since it last succeeded are absent.
    fn sync(&self) -> Result<(), ContentError> {
        let before = mem::take(&mut self.state().unsynced);
        let Err(error) = self.folder.sync() else { return Ok(()) };
        let mut state = self.state();
        state.failed_syncs += 1;
        // What was put while the disk was waited for may be what failed as well.
        let since = mem::take(&mut state.unsynced);
        for id in before.into_iter().chain(since) {
            state.checked.remove(&id);
            state.lost.insert(id);
        }
        drop(state);
        if let Err(error) = self.remove_lost() {
            let error = &error as &dyn Error;
            tracing::warn!(error, "blocks that may be lost cannot be removed yet");
        }
        Err(error)
    }

    fn remove_lost(&self) -> Result<(), ContentError> {
        let mut state = self.state();
        while let Some(id) = state.lost.iter().next().copied() {
            self.folder.remove(id)?;
            state.lost.remove(&id);
        }
        Ok(())
    }

    fn descend(&self, walk: &mut Walk, node: BlockId) -> Result<(), ContentError> {
        let block = self.get(node)?.ok_or_else(|| ContentError::Absent { cid: node.cid() })?;
        let node = read_node(walk.root(), block)?;
        walk.descend(node.links)
    }

    fn collect(&self) -> Result<Vec<BlockId>, ContentError> {
        let _collection = Collection::begin(self);
        let kept = self.pinned()?;
        let mut removed = Vec::new();
        for shard in 0..=u8::MAX {
            for id in self.folder.list(shard)? {
                if !kept.contains(&id) && self.remove_unless_spared(id)? {
                    removed.push(id);
                }
            }
        }
        Ok(removed)
    }

    /// Every block of every pinned graph. An error where a node is missing: nobody knows what is under it.
    fn pinned(&self) -> Result<HashSet<BlockId>, ContentError> {
        let mut walk: Option<Walk> = None;
        for root in self.folder.pins()?.into_iter().map(BlockId::cid) {
            let walk = match &mut walk {
                Some(walk) => {
                    walk.restart(&root)?;
                    walk
                }
                none => none.insert(Walk::new(&root, GraphLimits::STORE)?),
            };
            while let Some(id) = walk.next()? {
                if id.is_node {
                    self.descend(walk, id)?;
                }
            }
        }
        Ok(walk.map(Walk::into_seen).unwrap_or_default())
    }

    fn remove_unless_spared(&self, id: BlockId) -> Result<bool, ContentError> {
        let mut state = self.state();
        if state.spared.as_ref().is_some_and(|spared| spared.contains(&id)) {
            return Ok(false);
        }
        state.checked.remove(&id);
        self.folder.remove(id)?;
        state.forget(id);
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole at each step, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remember(&mut self, id: BlockId) {
        if self.checked.len() >= MAX_CHECKED {
            self.checked.clear();
        }
        self.checked.insert(id);
    }

    /// Drops what is kept about a file that was removed.
    fn forget(&mut self, id: BlockId) {
        self.unsynced.remove(&id);
        self.lost.remove(&id);
    }
}

/// A put, from before it looks for the block until it has told its caller.
struct UnderWay<'a> {
    shared: &'a Shared,
    id: BlockId,
}

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared, id: BlockId) -> Self {
        let mut state = shared.state();
        *state.under_way.entry(id).or_default() += 1;
        if let Some(spared) = &mut state.spared {
            spared.insert(id);
        }
        Self { shared, id }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if let Some(puts) = state.under_way.get_mut(&self.id) {
            *puts -= 1;
            if *puts == 0 {
                state.under_way.remove(&self.id);
            }
        }
    }
}

/// A collection while it runs.
struct Collection<'a> {
    shared: &'a Shared,
}

impl<'a> Collection<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let mut state = shared.state();
        state.spared = Some(state.under_way.keys().copied().collect());
        Self { shared }
    }
}

impl Drop for Collection<'_> {
    fn drop(&mut self) {
        self.shared.state().spared = None;
    }
}

#[cfg(test)]
mod tests;
