//! Graphs of blocks: the links of a node, and the order in which a graph is walked.
//!
//! Nodes are dag-pb with UnixFS inside; whoever made one may mean harm. So everything is bounded before it is believed:
//! the bytes and links of a node here, the depth and the blocks of a graph in [`Walk`]. Nothing recurses.

use std::{collections::HashSet, vec};

use bytes::Bytes;
use ipld_dagpb::PbNode;
use roadstead_core::ports::ContentError;
use roadstead_types::Cid;

use crate::block::BlockId;

/// The most bytes of a node. Nodes of 1024 links, as UnixFS has them, take a tenth.
const MAX_NODE: usize = 512 << 10;

/// The most links of a node.
const MAX_LINKS: usize = 8192;

/// How large a graph may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GraphLimits {
    /// Links from the root to a block.
    pub(crate) depth: usize,
    /// Blocks, each counted once.
    pub(crate) blocks: usize,
}

impl GraphLimits {
    /// 4 TiB in blocks of 1 MiB, and deeper than balanced UnixFS gets with them.
    pub(crate) const STORE: Self = Self { depth: 16, blocks: 1 << 22 };
}

/// A node that was read.
#[derive(Debug)]
pub(crate) struct Node {
    /// Where it points, in order.
    pub(crate) links: Vec<BlockId>,
    /// Bytes of the graph under it as its links claim, itself left out; `None` where a link claims nothing.
    pub(crate) claimed: Option<u64>,
    /// What it is in the file system.
    pub(crate) kind: NodeKind,
}

/// The type of a UnixFS node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    /// The bytes of a file are under it.
    File,
    /// A folder that is spread over several nodes.
    ShardedFolder,
    /// Any other: it stands for itself.
    Single,
}

/// Reads the node whose checked bytes are `block`; `root` is the graph that it belongs to.
pub(crate) fn read_node(root: &Cid, block: Bytes) -> Result<Node, ContentError> {
    if block.len() > MAX_NODE {
        return Err(senseless(root, format!("a node has more than {MAX_NODE} bytes")));
    }
    let node = PbNode::from_bytes(block).map_err(|error| senseless(root, error.to_string()))?;
    if node.links.len() > MAX_LINKS {
        return Err(senseless(root, format!("a node has more than {MAX_LINKS} links")));
    }
    let mut links = Vec::with_capacity(node.links.len());
    let mut claimed = Some(0_u64);
    for link in &node.links {
        let id = BlockId::of(&link.cid);
        links.push(id.map_err(|error| senseless(root, format!("it links to more: {error}")))?);
        claimed = claimed.zip(link.size).map(|(sum, size)| sum.saturating_add(size));
    }
    Ok(Node { links, claimed, kind: kind(node.data.as_deref().unwrap_or_default()) })
}

/// The type stands in field 1 of the UnixFS message (a varint), and every encoder writes it first.
fn kind(unixfs: &[u8]) -> NodeKind {
    match unixfs {
        [0x08, 0 | 2, ..] => NodeKind::File,
        [0x08, 5, ..] => NodeKind::ShardedFolder,
        _ => NodeKind::Single,
    }
}

/// The error for a graph that no sealed image has.
pub(crate) fn senseless(root: &Cid, reason: String) -> ContentError {
    ContentError::BadGraph { root: *root, reason }
}

/// The blocks of one graph after the other, depth first, parents before children, each block once. Whoever walks reads
/// the nodes and hands their links in.
#[derive(Debug)]
pub(crate) struct Walk {
    limits: GraphLimits,
    root: Cid,
    /// What is still to come on each level, from the root down.
    levels: Vec<vec::IntoIter<BlockId>>,
    seen: HashSet<BlockId>,
    blocks: usize,
}

impl Walk {
    /// A walk that begins at `root`.
    pub(crate) fn new(root: &Cid, limits: GraphLimits) -> Result<Self, ContentError> {
        let mut walk =
            Self { limits, root: *root, levels: Vec::new(), seen: HashSet::new(), blocks: 0 };
        walk.restart(root)?;
        Ok(walk)
    }

    /// Goes on with another graph; what both have in common does not come again.
    pub(crate) fn restart(&mut self, root: &Cid) -> Result<(), ContentError> {
        self.root = *root;
        self.blocks = 0;
        self.levels = vec![vec![BlockId::of(root)?].into_iter()];
        Ok(())
    }

    /// The root of the graph that is walked.
    pub(crate) const fn root(&self) -> &Cid {
        &self.root
    }

    /// The next block, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<BlockId>, ContentError> {
        while let Some(level) = self.levels.last_mut() {
            match level.next() {
                Some(id) if self.seen.insert(id) => {
                    self.blocks += 1;
                    if self.blocks > self.limits.blocks {
                        let reason = format!("it has more than {} blocks", self.limits.blocks);
                        return Err(senseless(&self.root, reason));
                    }
                    return Ok(Some(id));
                }
                Some(_) => {}
                None => {
                    self.levels.pop();
                }
            }
        }
        Ok(None)
    }

    /// Goes down: `links` are those of the block that came last.
    pub(crate) fn descend(&mut self, links: Vec<BlockId>) -> Result<(), ContentError> {
        if links.is_empty() {
            return Ok(());
        }
        if self.levels.len() > self.limits.depth {
            let reason = format!("it is deeper than {} links", self.limits.depth);
            return Err(senseless(&self.root, reason));
        }
        self.levels.push(links.into_iter());
        Ok(())
    }

    /// Everything that came so far.
    pub(crate) fn into_seen(self) -> HashSet<BlockId> {
        self.seen
    }
}

#[cfg(test)]
mod tests;
