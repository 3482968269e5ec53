//! A store that another process writes.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError};
use roadstead_types::Cid;
use tokio::task::spawn_blocking;

use super::folder::read_block;
use crate::block::{BlockId, unavailable};

/// Reads the blocks in the folder of an embedded store, which may belong to another process and may not be there yet.
/// A block that is not whole counts as absent.
#[derive(Clone, Debug)]
pub struct StoreReader {
    path: PathBuf,
}

impl StoreReader {
    /// Of the store in the folder `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl BlockSource for StoreReader {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        let (id, path) = (BlockId::of(cid)?, self.path.clone());
        let place = path.display().to_string();
        let read = spawn_blocking(move || {
            let block = read_block(&path, id)?;
            Ok(block.filter(|block| id.matches(block)).map(Bytes::from))
        });
        read.await.map_err(|error| unavailable(&place, "reading a block", error))?
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use roadstead_core::ports::ContentStore;
    use roadstead_types::content::{RAW, content_id};

    use super::*;
    use crate::{EmbeddedStore, block::digest};

    #[tokio::test]
    async fn what_another_handle_puts_is_there_and_nothing_half() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("blocks");
        let reader = StoreReader::new(&path);
        let block = Bytes::from_static(b"a block");
        let cid = content_id(RAW, digest(&block));
        assert_eq!(reader.get(&cid).await.unwrap(), None);
        let store = EmbeddedStore::open(&path).unwrap();
        store.put(&cid, block.clone()).await.unwrap();
        assert_eq!(reader.get(&cid).await.unwrap(), Some(block));
        let name = cid.to_string();
        let shard = fs::read_dir(path.join("blocks")).unwrap();
        let file = shard.map(|entry| entry.unwrap().path().join(&name)).find(|file| file.exists());
        fs::write(file.unwrap(), b"a blo").unwrap();
        assert_eq!(reader.get(&cid).await.unwrap(), None);
    }
}
