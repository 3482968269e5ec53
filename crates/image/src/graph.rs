//! The public shape of a sealed image: a UnixFS folder in dag-pb that links to every block, so that any IPFS node can
//! keep and serve it. It says how many blocks there are and how large they are, and nothing about what is in them.
//!
//! ```text
//! root ── index        the root of the sealed index, then its lists in the order in which they are read
//!      ├─ layer-0000   the blocks of the lowest layer in the order in which they are read
//!      └─ …
//! ```
//!
//! A file of one block is that block, of none an empty file node; others are balanced trees of at most 1024 links a
//! node, as common UnixFS tools build them.

use alloy_primitives::B256;
use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use roadstead_crypto::sha256;
use roadstead_types::{
    Cid,
    content::{DAG_PB, RAW, content_id},
};

use crate::levels::Levels;

/// Links of one node.
const WIDTH: usize = 1024;

/// Field numbers and kinds of the UnixFS message, already shifted into protocol buffer tags.
const TYPE: u8 = 1 << 3;
const FILE_SIZE: u8 = 3 << 3;
const BLOCK_SIZE: u8 = 4 << 3;
const DIRECTORY: u64 = 1;
const FILE: u64 = 2;

/// A block of the graph.
pub(crate) struct Node {
    pub(crate) cid: Cid,
    pub(crate) bytes: Bytes,
}

/// A file, or a part of one.
pub(crate) struct Entry {
    cid: Cid,
    /// Bytes of the file.
    content: u64,
    /// Bytes of all blocks below, as links state them.
    total: u64,
}

impl Entry {
    /// One sealed block.
    pub(crate) fn leaf(digest: B256, length: u32) -> Self {
        let length = length.into();
        Self { cid: content_id(RAW, digest), content: length, total: length }
    }

    fn link(&self, name: String) -> PbLink {
        PbLink { cid: self.cid, name: Some(name), size: Some(self.total) }
    }
}

/// A file that grows block by block.
pub(crate) struct File(Levels<Entry>);

impl File {
    pub(crate) const fn new() -> Self {
        Self(Levels::new(WIDTH))
    }

    /// Appends a block. Nodes that are complete are added to `nodes`.
    pub(crate) fn push(&mut self, leaf: Entry, nodes: &mut Vec<Node>) {
        self.0.push(leaf, &mut |children| file_node(&children, nodes));
    }

    /// The whole file. The nodes that are left are added to `nodes`.
    pub(crate) fn finish(self, nodes: &mut Vec<Node>) -> Entry {
        let root = self.0.finish(&mut |children| file_node(&children, nodes));
        root.unwrap_or_else(|| file_node(&[], nodes))
    }
}

/// The folder above the index and the layers, lowest first.
pub(crate) fn folder(index: &Entry, layers: &[Entry]) -> Node {
    let layers = layers.iter().enumerate();
    let layers = layers.map(|(number, layer)| layer.link(format!("layer-{number:04}")));
    let links = std::iter::once(index.link("index".into())).chain(layers).collect();
    let mut data = Vec::new();
    field(&mut data, TYPE, DIRECTORY);
    node(links, data)
}

fn file_node(children: &[Entry], nodes: &mut Vec<Node>) -> Entry {
    let content = children.iter().map(|child| child.content).sum();
    let below: u64 = children.iter().map(|child| child.total).sum();
    let mut data = Vec::new();
    field(&mut data, TYPE, FILE);
    field(&mut data, FILE_SIZE, content);
    for child in children {
        field(&mut data, BLOCK_SIZE, child.content);
    }
    let node = node(children.iter().map(|child| child.link(String::new())).collect(), data);
    let own = u64::try_from(node.bytes.len()).expect("a node has some kilobytes");
    let entry = Entry { cid: node.cid, content, total: below + own };
    nodes.push(node);
    entry
}

fn node(links: Vec<PbLink>, data: Vec<u8>) -> Node {
    let bytes = PbNode { links, data: Some(data.into()) }.into_bytes();
    Node { cid: content_id(DAG_PB, sha256(&bytes)), bytes: bytes.into() }
}

/// One number of a protocol buffer.
fn field(message: &mut Vec<u8>, tag: u8, mut value: u64) {
    message.push(tag);
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        if value == 0 {
            message.push(low);
            return;
        }
        message.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(count: u32) -> (Entry, Vec<Node>) {
        let mut nodes = Vec::new();
        let mut file = File::new();
        for number in 0..count {
            file.push(Entry::leaf(sha256(&number.to_le_bytes()), 1000), &mut nodes);
        }
        (file.finish(&mut nodes), nodes)
    }

    #[test]
    fn an_empty_file_is_called_as_everywhere() {
        let (empty, nodes) = file(0);
        // What `ipfs add --cid-version 0` makes of nothing, as a version 1 id.
        let expected: Cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH".parse().unwrap();
        assert_eq!(empty.cid, Cid::new_v1(DAG_PB, *expected.hash()));
        assert_eq!((nodes.len(), &*nodes[0].bytes), (1, &[0x0a, 4, 8, 2, 0x18, 0][..]));
        assert_eq!(nodes[0].cid, empty.cid);
    }

    #[test]
    fn one_block_is_a_file_and_more_are_a_tree() {
        let (one, nodes) = file(1);
        assert_eq!((one.cid, nodes.len()), (content_id(RAW, sha256(&[0; 4])), 0));
        for (count, expected) in [(2, 1), (1024, 1), (1025, 3), (2049, 4)] {
            let (root, nodes) = file(count);
            assert_eq!((root.content, nodes.len()), (u64::from(count) * 1000, expected));
            let bytes: usize = nodes.iter().map(|node| node.bytes.len()).sum();
            assert_eq!(root.total, root.content + u64::try_from(bytes).unwrap());
            assert_eq!(nodes.last().unwrap().cid, root.cid);
        }
    }

    #[test]
    fn nodes_have_the_common_form() {
        let (root, nodes) = file(2);
        let node = PbNode::from_bytes(nodes[0].bytes.clone()).unwrap();
        assert_eq!(node.data.unwrap(), [8, 2, 0x18, 0xd0, 0x0f, 0x20, 0xe8, 7, 0x20, 0xe8, 7][..]);
        let names: Vec<_> = node.links.iter().map(|link| link.name.as_deref()).collect();
        assert_eq!(names, [Some(""), Some("")]);

        let folder = folder(&root, &[file(0).0, file(1).0]);
        let node = PbNode::from_bytes(folder.bytes).unwrap();
        assert_eq!(node.data.unwrap(), [8, 1][..]);
        let links: Vec<_> = node.links.iter().map(|link| link.name.as_deref().unwrap()).collect();
        assert_eq!(links, ["index", "layer-0000", "layer-0001"]);
        assert_eq!(node.links[0].size, Some(root.total));
    }
}
