//! The chunks of a layer in their order, from its lists. Holds one list of each level.

use std::vec;

use roadstead_core::ports::{BlockSource, OpenError};
use roadstead_crypto::ChunkKind;
use roadstead_types::ChunkRef;

use super::{chunk, damaged};
use crate::format::{LIST_WIDTH, LayerRecord, REFERENCE, decode_list};

/// References of one list that were not followed yet.
struct Level {
    references: vec::IntoIter<ChunkRef>,
    /// Lists between these references and chunks.
    depth: u32,
    /// Chunks below these references.
    chunks: u64,
}

/// A position in a layer.
pub(crate) struct Cursor {
    levels: Vec<Level>,
    /// Bytes of the layer that are still to come.
    left: u64,
}

impl Cursor {
    /// The beginning of a layer. Its count of chunks was checked.
    pub(crate) fn new(record: &LayerRecord) -> Self {
        let level = record.content.as_ref().map(|content| Level {
            references: vec![content.top.clone()].into_iter(),
            depth: content.depth(),
            chunks: content.chunks,
        });
        Self { levels: level.into_iter().collect(), left: record.size }
    }

    /// The next chunk; `None` after the last, if all of them together are as long as the layer.
    pub(crate) async fn next(
        &mut self,
        blocks: &dyn BlockSource,
    ) -> Result<Option<ChunkRef>, OpenError> {
        while let Some(level) = self.levels.last_mut() {
            let Some(reference) = level.references.next() else {
                self.levels.pop();
                continue;
            };
            if level.depth == 0 {
                let left = self.left.checked_sub(reference.raw_length.into());
                self.left = left.ok_or_else(|| damaged("a layer is longer than stated"))?;
                return Ok(Some(reference));
            }
            let depth = level.depth - 1;
            let below = capacity(level.depth).min(level.chunks);
            level.chunks -= below;
            let references = open_list(blocks, &reference, below.div_ceil(capacity(depth))).await?;
            let references = references.into_iter();
            self.levels.push(Level { references, depth, chunks: below });
        }
        if self.left > 0 {
            return Err(damaged("a layer is shorter than stated"));
        }
        Ok(None)
    }
}

/// Chunks below a full list of this depth.
fn capacity(depth: u32) -> u64 {
    u64::try_from(LIST_WIDTH).expect("8192").saturating_pow(depth)
}

/// A list that must have `count` references. Lists are full but for the last of a level, so this follows from the
/// count of chunks.
async fn open_list(
    blocks: &dyn BlockSource,
    reference: &ChunkRef,
    count: u64,
) -> Result<Vec<ChunkRef>, OpenError> {
    let count = usize::try_from(count).expect("at most 8192");
    if u32::try_from(count * REFERENCE) != Ok(reference.raw_length) {
        return Err(damaged("a list has another length than it must have"));
    }
    let read = move |plain: &[u8]| decode_list(plain, count).map_err(damaged);
    chunk::open_index(blocks, ChunkKind::List, reference, read).await
}
