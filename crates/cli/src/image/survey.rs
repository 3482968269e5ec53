//! What lies of a sealed image in a store: every block under its root, each read and checked once.
//!
//! The root may be anybody's: nodes are bounded in bytes and links, graphs in blocks, and nothing recurses.

use std::collections::HashSet;

use bytes::Bytes;
use ipld_dagpb::PbNode;
use roadstead_core::ports::{ContentError, ContentStore};
use roadstead_types::{
    Cid,
    content::{self, DAG_PB},
};
use serde::Serialize;

/// The most bytes of a node. Nodes of 1024 links, as sealed images have them, take a tenth.
const MAX_NODE: usize = 512 << 10;

/// The most links of a node.
const MAX_LINKS: usize = 8_192;

/// The most blocks of a graph: 1 TiB of sealed image.
const MAX_BLOCKS: usize = 1 << 20;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurveyError {
    #[error("nothing of {root} lies in the publisher's content store")]
    Absent { root: Cid },
    #[error("the content store cannot be read")]
    Store(#[from] ContentError),
    #[error("the graph under {root} is no sealed image: {reason}")]
    Senseless { root: Cid, reason: String },
}

/// What lies there.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Survey {
    #[serde(with = "content::text")]
    pub(super) root: Cid,
    /// Blocks that are named, each counted once. What a missing node names is not known.
    pub(super) blocks: u64,
    /// How many of them are not there, or not whole.
    pub(super) missing: u64,
    /// Bytes of those that are there.
    pub(super) bytes: u64,
    pub(super) pinned: bool,
    pub(super) parts: Vec<Part>,
}

/// A file in the root.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    pub(super) name: String,
    /// As the root claims.
    pub(super) bytes: Option<u64>,
}

/// Reads the graph under `root`.
pub(super) async fn survey(root: Cid, store: &dyn ContentStore) -> Result<Survey, SurveyError> {
    let pinned = store.pins().await?.contains(&root);
    let mut found = Survey { root, blocks: 0, missing: 0, bytes: 0, pinned, parts: Vec::new() };
    let (mut seen, mut waiting) = (HashSet::from([root]), vec![root]);
    while let Some(id) = waiting.pop() {
        found.blocks += 1;
        let Some(block) = store.get(&id).await? else {
            if id == root {
                return Err(SurveyError::Absent { root });
            }
            found.missing += 1;
            continue;
        };
        found.bytes += u64::try_from(block.len()).unwrap_or(u64::MAX);
        if id.codec() != DAG_PB {
            continue;
        }
        let node = node(root, block)?;
        if id == root {
            let part = |link: &ipld_dagpb::PbLink| Part {
                name: link.name.clone().unwrap_or_default(),
                bytes: link.size,
            };
            found.parts = node.links.iter().map(part).collect();
        }
        for link in node.links {
            if seen.insert(link.cid) {
                if seen.len() > MAX_BLOCKS {
                    let reason = format!("it has more than {MAX_BLOCKS} blocks");
                    return Err(SurveyError::Senseless { root, reason });
                }
                waiting.push(link.cid);
            }
        }
    }
    Ok(found)
}

fn node(root: Cid, block: Bytes) -> Result<PbNode, SurveyError> {
    let senseless = |reason| SurveyError::Senseless { root, reason };
    if block.len() > MAX_NODE {
        return Err(senseless(format!("a node has more than {MAX_NODE} bytes")));
    }
    let node = PbNode::from_bytes(block).map_err(|error| senseless(error.to_string()))?;
    if node.links.len() > MAX_LINKS {
        return Err(senseless(format!("a node has more than {MAX_LINKS} links")));
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use roadstead_crypto::DedupeSecret;
    use roadstead_devnet::service;
    use roadstead_image::{OciImage, Platform, SealOptions, Sealed, seal};
    use roadstead_store::EmbeddedStore;
    use roadstead_types::content::{RAW, content_id};
    use tempfile::TempDir;

    use super::*;

    async fn sealed() -> (TempDir, EmbeddedStore, Sealed) {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        service::pack(&image).unwrap();
        let image = Arc::new(OciImage::read(&image, &Platform::host()).unwrap());
        let store = EmbeddedStore::open(folder.path().join("blocks")).unwrap();
        let (secret, options) = (DedupeSecret::generate(), SealOptions::default());
        let sealed = seal(&image, &secret, &store, &options, &mut |_| {}).await.unwrap();
        (folder, store, sealed)
    }

    #[tokio::test]
    async fn a_sealed_image_is_all_there_and_pinned_when_it_is() {
        let (_folder, store, sealed) = sealed().await;
        let root = sealed.reference.root;
        let found = survey(root, &store).await.unwrap();
        assert_eq!((found.missing, found.pinned), (0, false));
        assert_eq!(found.blocks, sealed.counts.new_blocks, "each counted once");
        assert_eq!(found.bytes, sealed.counts.new_bytes);
        let names: Vec<_> = found.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["index", "layer-0000"]);
        store.pin(&root).await.unwrap();
        assert!(survey(root, &store).await.unwrap().pinned);
    }

    #[tokio::test]
    async fn what_was_lost_is_counted_and_an_unknown_root_is_an_error() {
        let (folder, store, sealed) = sealed().await;
        let root = sealed.reference.root;
        let index = content_id(RAW, sealed.reference.index.digest).to_string();
        let shards = folder.path().join("blocks/blocks").read_dir().unwrap();
        let file =
            shards.map(|shard| shard.unwrap().path().join(&index)).find(|path| path.exists());
        std::fs::write(file.unwrap(), b"damaged").unwrap();
        let found = survey(root, &store).await.unwrap();
        assert_eq!((found.missing, found.blocks), (1, sealed.counts.new_blocks));

        let unknown = content_id(RAW, roadstead_crypto::sha256(b"nobody has this"));
        let refused = survey(unknown, &store).await;
        assert!(matches!(refused, Err(SurveyError::Absent { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_node_that_is_none_is_an_error() {
        let (_folder, store, _) = sealed().await;
        let block = Bytes::from_static(b"no node at all");
        let root = content_id(DAG_PB, roadstead_crypto::sha256(&block));
        store.put(&root, block).await.unwrap();
        let refused = survey(root, &store).await;
        assert!(matches!(refused, Err(SurveyError::Senseless { .. })), "{refused:?}");
    }
}
