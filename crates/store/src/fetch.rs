//! Fetching a graph from others into a store.
//!
//! Many blocks are asked for at a time; what the store has already is not asked for. So a fetch that was interrupted goes
//! on where it stopped. For each block the sources are asked in their order; a wrong or failing answer only means the
//! next one.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_types::{Cid, content::RAW};

use crate::{
    block::BlockId,
    graph::{read_node, senseless},
};

/// A source that failed so many times in a row is left alone for the rest of the fetch.
const GIVE_UP: u32 = 5;

/// How often the sources are gone through for a block that some of them failed to give.
const ROUNDS: usize = 2;

/// How often a graph is fetched again where somebody removed blocks of it before it was pinned.
const PINS: usize = 3;

/// The most blocks that are asked for at a time.
const WINDOW: usize = 8;

/// How much of a graph is fetched before it is given up as too large. Blocks under way come on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// Bytes of all blocks.
    pub bytes: u64,
    /// Blocks, each counted once.
    pub blocks: usize,
    /// Links from the root to a block.
    pub depth: usize,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// Bytes of the blocks that are in the store now, whoever put them there.
    pub done: u64,
    /// Bytes of those that had to be fetched.
    pub fetched: u64,
    /// Bytes of the whole graph as its root claims, once that was read. Nothing holds it to it.
    pub total: Option<u64>,
}

/// Fetches the graph under `root` and pins it. `progress` is told after every block.
///
/// Sources are asked in their order. The error is the last failure of a source for the block that could not be had, or
/// that no source has it; what was fetched stays, so that another call goes on.
pub async fn fetch(
    root: &Cid,
    sources: &[Arc<dyn BlockSource>],
    into: &dyn ContentStore,
    limits: &FetchLimits,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<FetchProgress, ContentError> {
    let sources: Vec<_> = sources.iter().map(Asked::new).collect();
    let mut fetched = 0;
    let mut rounds = PINS;
    loop {
        let done = fetch_blocks(root, &sources, into, limits, fetched, progress).await?;
        rounds -= 1;
        match into.pin(root).await {
            Err(ContentError::Absent { cid }) if rounds > 0 => {
                tracing::debug!(%root, block = %cid, "a block was removed before the pin");
                fetched = done.fetched;
            }
            pinned => return pinned.map(|()| done),
        }
    }
}

/// Fetches one raw block and pins it. Returns its bytes.
pub async fn fetch_block(
    cid: &Cid,
    sources: &[Arc<dyn BlockSource>],
    into: &dyn ContentStore,
) -> Result<Bytes, ContentError> {
    if cid.codec() != RAW {
        return Err(ContentError::Unsupported { cid: *cid });
    }
    let sources: Vec<_> = sources.iter().map(Asked::new).collect();
    let block = obtain(cid, &sources, into).await?.0;
    into.pin(cid).await?;
    Ok(block)
}

/// A source, and how often it failed since it last answered.
struct Asked<'a> {
    source: &'a dyn BlockSource,
    failures: AtomicU32,
}

impl<'a> Asked<'a> {
    fn new(source: &'a Arc<dyn BlockSource>) -> Self {
        Self { source: source.as_ref(), failures: AtomicU32::new(0) }
    }
}

async fn fetch_blocks(
    root: &Cid,
    sources: &[Asked<'_>],
    into: &dyn ContentStore,
    limits: &FetchLimits,
    fetched: u64,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<FetchProgress, ContentError> {
    let root_id = BlockId::of(root)?;
    let mut seen = HashSet::from([root_id]);
    // The last goes first, so children are handed in backwards: the order is nearly that of reading.
    let mut waiting = vec![(root_id, 0)];
    let mut under_way = FuturesUnordered::new();
    let mut now = FetchProgress { fetched, ..FetchProgress::default() };
    loop {
        while under_way.len() < WINDOW
            && let Some((id, depth)) = waiting.pop()
        {
            under_way.push(async move { (id, depth, obtain(&id.cid(), sources, into).await) });
        }
        let Some((id, depth, obtained)) = under_way.next().await else { return Ok(now) };
        let (block, is_new) = obtained?;
        let length = u64::try_from(block.len()).unwrap_or(u64::MAX);
        now.done = now.done.saturating_add(length);
        if is_new {
            now.fetched = now.fetched.saturating_add(length);
        }
        if now.done > limits.bytes {
            return Err(senseless(root, format!("it has more than {} bytes", limits.bytes)));
        }
        let mut links = Vec::new();
        let mut claimed = Some(0);
        if id.is_node {
            let node = read_node(root, block)?;
            (links, claimed) = (node.links, node.claimed);
        }
        if id == root_id {
            now.total = claimed.map(|claimed| claimed.saturating_add(length));
        }
        if depth >= limits.depth && !links.is_empty() {
            return Err(senseless(root, format!("it is deeper than {} links", limits.depth)));
        }
        links.retain(|link| seen.insert(*link));
        if seen.len() > limits.blocks {
            return Err(senseless(root, format!("it has more than {} blocks", limits.blocks)));
        }
        waiting.extend(links.into_iter().rev().map(|link| (link, depth + 1)));
        progress(now);
    }
}

/// The block, and whether it had to be fetched. It is in the store then.
async fn obtain(
    cid: &Cid,
    sources: &[Asked<'_>],
    into: &dyn ContentStore,
) -> Result<(Bytes, bool), ContentError> {
    if let Some(block) = into.get(cid).await? {
        return Ok((block, false));
    }
    let mut failure = None;
    for _ in 0..ROUNDS {
        for asked in sources {
            if asked.failures.load(Ordering::Relaxed) >= GIVE_UP {
                continue;
            }
            let error = match asked.source.get(cid).await {
                Ok(Some(block)) => match into.put(cid, block.clone()).await {
                    Ok(_) => {
                        asked.failures.store(0, Ordering::Relaxed);
                        return Ok((block, true));
                    }
                    Err(
                        error @ (ContentError::Mismatch { .. } | ContentError::TooLarge { .. }),
                    ) => error,
                    Err(error) => return Err(error),
                },
                Ok(None) => {
                    asked.failures.store(0, Ordering::Relaxed);
                    continue;
                }
                Err(error) => error,
            };
            tracing::debug!(block = %cid, %error, "a source failed");
            asked.failures.fetch_add(1, Ordering::Relaxed);
            failure = Some(error);
        }
        if failure.is_none() {
            break;
        }
    }
    Err(failure.unwrap_or(ContentError::Absent { cid: *cid }))
}
