//! One block: fetched, checked and decrypted.

use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, OpenError};
use roadstead_crypto::{ChunkKind, open_chunk, sha256};
use roadstead_types::{
    ChunkRef,
    content::{RAW, content_id},
};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::damaged;
use crate::codec::{STORED, decode};

/// A chunk of a layer. The lengths of `reference` were checked.
pub(super) async fn open_data(
    blocks: &dyn BlockSource,
    reference: &ChunkRef,
) -> Result<Bytes, OpenError> {
    let block = fetch(blocks, reference).await?;
    let reference = reference.clone();
    blocking(move || {
        let plaintext = open(ChunkKind::Data, &reference, block)?;
        let length = length(reference.raw_length);
        decode(plaintext, length).ok_or_else(|| damaged("a chunk has another length than stated"))
    })
    .await
}

/// A part of the index, and what `read` makes of it: both on a thread of their own, since it may have 1 MiB.
pub(super) async fn open_index<T: Send + 'static>(
    blocks: &dyn BlockSource,
    kind: ChunkKind,
    reference: &ChunkRef,
    read: impl FnOnce(&[u8]) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let block = fetch(blocks, reference).await?;
    let reference = reference.clone();
    blocking(move || {
        let plaintext = Zeroizing::new(open(kind, &reference, block)?);
        match plaintext.split_first() {
            Some((&STORED, content)) if content.len() == length(reference.raw_length) => {
                read(content)
            }
            _ => Err(damaged("a part of its index has another form than stated")),
        }
    })
    .await
}

async fn fetch(blocks: &dyn BlockSource, reference: &ChunkRef) -> Result<Bytes, OpenError> {
    let cid = content_id(RAW, reference.digest);
    let block = blocks.get(&cid).await?.ok_or(ContentError::Absent { cid })?;
    if block.len() != length(reference.length) {
        return Err(damaged("a block has another length than stated"));
    }
    Ok(block)
}

/// Sources check what they give. It is checked again because the key alone does not tell two blocks apart: who made
/// one can make another that opens with it.
fn open(kind: ChunkKind, reference: &ChunkRef, block: Bytes) -> Result<Vec<u8>, OpenError> {
    if sha256(&block) != reference.digest {
        return Err(damaged("a block has another digest than stated"));
    }
    open_chunk(kind, &reference.key, block.into()).map_err(|error| damaged(&error.to_string()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    spawn_blocking(work).await.map_err(|error| OpenError::Failed(error.into()))?
}

fn length(length: u32) -> usize {
    usize::try_from(length).expect("lengths of chunks are below 1 MiB")
}
