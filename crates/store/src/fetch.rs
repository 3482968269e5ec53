//! Fetching a graph from others into a store.
//!
//! Many blocks are asked for at a time; what the store has already is not asked for. So a fetch that was interrupted goes
//! on where it stopped. For each block the sources are asked in their order; a wrong or failing answer only means the
//! next one.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use roadstead_core::ports::{BlockSource, ContentError, ContentStore};
use roadstead_types::{
    Cid,
    content::{MAX_BLOCK, RAW},
};

use crate::{
    block::BlockId,
    graph::{read_node, senseless},
};

/// A source that failed so many times in a row is left alone for the rest of the fetch. What fails at the same time counts
/// once.
const GIVE_UP: u32 = 5;

/// How often the sources are gone through for a block that some of them failed to give.
const ROUNDS: usize = 2;

/// Between these rounds: what ails a source for a moment shall be over.
const PAUSE: Duration = Duration::from_secs(1);

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
/// that no source has it. It is one that asking again cannot mend only where no source leaves hope. What was fetched
/// stays, so that another call goes on.
pub async fn fetch(
    root: &Cid,
    sources: &[Arc<dyn BlockSource>],
    into: &dyn ContentStore,
    limits: &FetchLimits,
    progress: &(dyn Fn(FetchProgress) + Send + Sync),
) -> Result<FetchProgress, ContentError> {
    let sources = asked(sources);
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
    let sources = asked(sources);
    let block = obtain(cid, &sources, into).await?.0;
    into.pin(cid).await?;
    Ok(block)
}

/// A source, and how it did so far.
struct Asked<'a> {
    source: &'a dyn BlockSource,
    /// What it is called where it gave other bytes and did not notice.
    name: String,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    /// Failures in a row.
    failures: u32,
    /// Requests that were started.
    started: u64,
    /// How many had been started when the last failure was counted.
    counted: u64,
}

fn asked(sources: &[Arc<dyn BlockSource>]) -> Vec<Asked<'_>> {
    let named = sources.iter().enumerate().map(|(index, source)| Asked {
        source: source.as_ref(),
        name: format!("source number {}", index + 1),
        record: Mutex::default(),
    });
    named.collect()
}

impl Asked<'_> {
    /// The number of the request that begins now; `None` where the source is left alone.
    fn begin(&self) -> Option<u64> {
        let mut record = self.record();
        if record.failures >= GIVE_UP {
            return None;
        }
        record.started += 1;
        Some(record.started)
    }

    fn succeeded(&self) {
        self.record().failures = 0;
    }

    /// Counts a failure, unless its request was under way already when another was counted: one cause has many of them.
    fn failed(&self, request: u64) {
        let mut record = self.record();
        if request > record.counted {
            record.failures += 1;
            record.counted = record.started;
        }
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Each change is whole before anything can panic.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block, after it went into the store; `None` where the source does not have it.
    async fn give(&self, cid: &Cid, into: &dyn ContentStore) -> Result<Option<Bytes>, GiveError> {
        let Some(block) = self.source.get(cid).await.map_err(GiveError::Source)? else {
            return Ok(None);
        };
        let lie =
            || GiveError::Source(ContentError::Mismatch { place: self.name.clone(), cid: *cid });
        if block.len() > MAX_BLOCK {
            return Err(lie());
        }
        match into.put(cid, block.clone()).await {
            Ok(_) => Ok(Some(block)),
            Err(ContentError::Mismatch { .. }) => Err(lie()),
            Err(error) => Err(GiveError::Store(error)),
        }
    }
}

/// Whose failure it is.
enum GiveError {
    Source(ContentError),
    Store(ContentError),
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
    let mut failure: Option<ContentError> = None;
    // Somebody does not have it yet, or failed so often before that it was not asked.
    let mut may_come = false;
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        for asked in sources {
            let Some(request) = asked.begin() else {
                may_come = true;
                continue;
            };
            let error = match asked.give(cid, into).await {
                Ok(given) => {
                    asked.succeeded();
                    match given {
                        Some(block) => return Ok((block, true)),
                        None => may_come = true,
                    }
                    continue;
                }
                Err(GiveError::Source(error)) => error,
                Err(GiveError::Store(error)) => return Err(error),
            };
            tracing::debug!(block = %cid, %error, "a source failed");
            asked.failed(request);
            // What one source does wrong for good is no reason to believe that another cannot be asked again.
            if error.is_retryable() || !failure.as_ref().is_some_and(ContentError::is_retryable) {
                failure = Some(error);
            }
        }
        if failure.is_none() {
            break;
        }
    }
    match failure {
        Some(error) if error.is_retryable() || !may_come => Err(error),
        _ => Err(ContentError::Absent { cid: *cid }),
    }
}
