//! One layer on its way from disk to the store.

use std::{collections::VecDeque, future::pending, mem, sync::Arc, thread::available_parallelism};

use bytes::Bytes;
use roadstead_types::ChunkRef;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{Put, SealError, Sealers, reference, seal_index};
use crate::{
    OciImage, ReadError,
    chunker::Chunker,
    format::{LIST_WIDTH, LayerRecord, Stream, encode_list},
    graph::{Entry, File, Node},
    levels::Levels,
};

/// Chunks that wait for a thread.
const QUEUE: usize = 2;

/// The most chunks that are sealed at once. One thread that reads does not keep more busy, and each has up to two
/// megabytes in memory.
const MAX_WINDOW: usize = 8;

/// Which layer.
pub(super) struct Source {
    pub(super) image: Arc<OciImage>,
    pub(super) index: usize,
    /// The most bytes of its tar.
    pub(super) limit: u64,
    pub(super) gear: Zeroizing<[u64; 256]>,
}

/// A layer whose blocks are in the store.
pub(super) struct SealedLayer {
    pub(super) record: LayerRecord,
    /// Its file in the graph.
    pub(super) entry: Entry,
    /// The blocks of its lists, in the order in which they are read.
    pub(super) lists: Vec<Entry>,
}

/// A piece of the tar, and how much of the blob was read by then.
struct Cut {
    raw: Vec<u8>,
    consumed: u64,
}

/// A chunk or a list, with all lists from it downwards in the order in which they are read.
struct Listed {
    reference: ChunkRef,
    lists: Vec<Entry>,
}

/// Seals the layer. An error of the source is returned only after everything before it was put.
pub(super) async fn seal(
    source: Source,
    sealers: &Arc<Sealers>,
    put: &mut Put<'_>,
    report: &mut (dyn FnMut(u64) + Send),
) -> Result<SealedLayer, SealError> {
    let stop = CancellationToken::new();
    let _stops_with_this_call = stop.clone().drop_guard();
    let (sender, mut cuts) = mpsc::channel(QUEUE);
    let reader = spawn_blocking(move || read(&source, &sender, stop));
    // One more than there are processors, so that none waits for this task.
    let window = (available_parallelism().map_or(2, usize::from) + 1).min(MAX_WINDOW);
    let mut under_way: VecDeque<JoinHandle<(ChunkRef, Bytes, u64)>> = VecDeque::new();
    let mut tree = Tree::new();
    let mut more = true;
    while more || !under_way.is_empty() {
        tokio::select! {
            cut = cuts.recv(), if more && under_way.len() < window => match cut {
                Some(Cut { raw, consumed }) => {
                    let sealers = Arc::clone(sealers);
                    under_way.push_back(spawn_blocking(move || {
                        let chunk = sealers.data.seal(sealers.encoder.encode(&raw));
                        let (reference, block) = reference(chunk, raw.len());
                        (reference, block, consumed)
                    }));
                }
                None => more = false,
            },
            sealed = oldest(&mut under_way) => {
                let (reference, block, consumed) = sealed.map_err(SealError::Interrupted)?;
                put.raw(&reference, block).await?;
                tree = tree.push(reference, sealers, put).await?;
                report(consumed);
            }
        }
    }
    let size = reader.await.map_err(SealError::Interrupted)??;
    tree.finish(size, sealers, put).await
}

/// Waits for the task that began first and takes it out. Waits for ever where there is none.
async fn oldest<T>(under_way: &mut VecDeque<JoinHandle<T>>) -> Result<T, JoinError> {
    let Some(task) = under_way.front_mut() else { return pending().await };
    let result = task.await;
    under_way.pop_front();
    result
}

/// What grows above the chunks.
struct Tree {
    lists: Levels<Listed>,
    file: File,
    chunks: u64,
}

/// Blocks of the tree that are complete.
#[derive(Default)]
struct Grown {
    nodes: Vec<Node>,
    lists: Vec<(ChunkRef, Bytes)>,
}

impl Tree {
    const fn new() -> Self {
        Self { lists: Levels::new(LIST_WIDTH), file: File::new(), chunks: 0 }
    }

    /// Adds a chunk.
    async fn push(
        mut self,
        reference: ChunkRef,
        sealers: &Arc<Sealers>,
        put: &mut Put<'_>,
    ) -> Result<Self, SealError> {
        grow(sealers, put, move |sealers, grown| {
            self.file.push(Entry::leaf(reference.digest, reference.length), &mut grown.nodes);
            self.chunks += 1;
            let listed = Listed { reference, lists: Vec::new() };
            self.lists.push(listed, &mut |children| list(children, sealers, &mut grown.lists));
            self
        })
        .await
    }

    async fn finish(
        self,
        size: u64,
        sealers: &Arc<Sealers>,
        put: &mut Put<'_>,
    ) -> Result<SealedLayer, SealError> {
        grow(sealers, put, move |sealers, grown| {
            let entry = self.file.finish(&mut grown.nodes);
            let top = self.lists.finish(&mut |children| list(children, sealers, &mut grown.lists));
            let (content, lists) = match top {
                None => (None, Vec::new()),
                Some(Listed { reference, lists }) => {
                    (Some(Stream { chunks: self.chunks, top: reference }), lists)
                }
            };
            SealedLayer { record: LayerRecord { size, content }, entry, lists }
        })
        .await
    }
}

/// Lets the tree grow on a thread for chunks, since a list that becomes full is as large as one, and puts what grew.
async fn grow<T: Send + 'static>(
    sealers: &Arc<Sealers>,
    put: &mut Put<'_>,
    work: impl FnOnce(&Sealers, &mut Grown) -> T + Send + 'static,
) -> Result<T, SealError> {
    let sealers = Arc::clone(sealers);
    let growing = spawn_blocking(move || {
        let mut grown = Grown::default();
        (work(&sealers, &mut grown), grown)
    });
    let (result, mut grown) = growing.await.map_err(SealError::Interrupted)?;
    put.nodes(&mut grown.nodes).await?;
    for (reference, block) in grown.lists {
        put.raw(&reference, block).await?;
    }
    Ok(result)
}

/// Makes a list of its children; its block is added to `blocks`.
fn list(
    mut children: Vec<Listed>,
    sealers: &Sealers,
    blocks: &mut Vec<(ChunkRef, Bytes)>,
) -> Listed {
    let below: Vec<_> = children.iter_mut().flat_map(|child| mem::take(&mut child.lists)).collect();
    let references: Vec<_> = children.into_iter().map(|child| child.reference).collect();
    let (reference, block) = seal_index(&sealers.list, &encode_list(&references));
    let own = Entry::leaf(reference.digest, reference.length);
    blocks.push((reference.clone(), block));
    Listed { reference, lists: std::iter::once(own).chain(below).collect() }
}

/// Reads the layer, checks it and cuts it; on a thread of its own. Returns the bytes of the tar.
fn read(
    source: &Source,
    sender: &mpsc::Sender<Cut>,
    stop: CancellationToken,
) -> Result<u64, ReadError> {
    let layer = &source.image.layers()[source.index];
    let mut stream = source.image.layer(layer, source.limit, stop)?;
    let mut chunker = Chunker::new(source.gear.clone());
    loop {
        let length = stream.read(chunker.space())?;
        chunker.filled(length);
        let last = length == 0;
        while let Some(raw) = chunker.cut(last) {
            let cut = Cut { raw, consumed: stream.consumed() };
            sender.blocking_send(cut).map_err(|_| ReadError::Stopped)?;
        }
        if last {
            let size = stream.size();
            return stream.finish().map(|()| size);
        }
    }
}

#[cfg(test)]
mod tests {
    use roadstead_crypto::{ChunkKind, ChunkSealer, DedupeSecret, sha256};
    use roadstead_types::ChunkKey;

    use super::*;
    use crate::{Compression, codec::Encoder, open::Cursor, seal::SealCounts, store::Memory};

    /// References as a layer of this many one-byte chunks would have them, and what became of them.
    async fn listed(count: u32) -> (Vec<ChunkRef>, Vec<ChunkRef>, usize) {
        let secret = DedupeSecret::from_bytes(&[7; 32]).unwrap();
        let sealers = Arc::new(Sealers {
            encoder: Encoder::new(Compression::Stored),
            data: ChunkSealer::new(&secret, ChunkKind::Data),
            list: ChunkSealer::new(&secret, ChunkKind::List),
        });
        let store = Memory::default();
        let mut put = Put { store: &store, counts: SealCounts::default() };
        let mut tree = Tree::new();
        let mut references = Vec::new();
        for number in 0..count {
            let digest = sha256(&number.to_le_bytes());
            let key = ChunkKey::new(digest.0);
            let reference = ChunkRef { digest, key, length: 18, raw_length: 1 };
            references.push(reference.clone());
            tree = tree.push(reference, &sealers, &mut put).await.unwrap();
        }
        let sealed = tree.finish(count.into(), &sealers, &mut put).await.unwrap();
        let mut cursor = Cursor::new(&sealed.record);
        let mut found = Vec::new();
        while let Some(reference) = cursor.next(&store).await.unwrap() {
            found.push(reference);
        }
        (references, found, sealed.lists.len())
    }

    #[tokio::test]
    async fn lists_of_any_depth_give_the_chunks_back_in_their_order() {
        for (count, lists) in [(0, 0), (1, 0), (2, 1), (8192, 1), (8193, 3), (20_000, 4)] {
            let (references, found, made) = listed(count).await;
            assert!(references == found, "{count}");
            assert_eq!(made, lists, "{count}");
        }
    }
}
