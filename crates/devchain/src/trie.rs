//! A persistent Merkle-Patricia trie with 32-byte keys.
//!
//! Nodes are immutable and shared: an update copies the path from the root to one leaf and leaves
//! every older root readable, so a version of the trie costs a pointer to keep. Every node remembers
//! its own encoding once it was asked for, so the root after an update is computed from the changed
//! path alone.
//!
//! The caller hashes the keys; a trie never sees an address or a storage slot.

use std::fmt;
use std::sync::{Arc, OnceLock};

use alloy::consensus::EMPTY_ROOT_HASH;
use alloy::primitives::{B256, keccak256};
use alloy::trie::nodes::{BranchNodeRef, ExtensionNodeRef, LeafNodeRef, RlpNode};
use alloy::trie::{Nibbles, TrieMask};

/// What a leaf holds: anything with a canonical RLP encoding.
pub(crate) trait Leaf: Clone {
    /// The bytes that the leaf contributes to the root.
    fn encode(&self) -> Vec<u8>;
}

/// One version of a trie. Cloning shares every node.
pub(crate) struct Trie<V> {
    root: Option<Arc<Node<V>>>,
}

struct Node<V> {
    kind: Kind<V>,
    /// The reference by which a parent names this node; computed at the first request.
    encoded: OnceLock<RlpNode>,
}

enum Kind<V> {
    Leaf {
        path: Nibbles,
        value: V,
    },
    Extension {
        path: Nibbles,
        child: Arc<Node<V>>,
    },
    /// No branch holds a value, because all keys have one length.
    Branch {
        children: Children<V>,
    },
}

type Children<V> = [Option<Arc<Node<V>>>; 16];

impl<V> Clone for Trie<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: None }
    }
}

impl<V> fmt::Debug for Trie<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trie").field("is_empty", &self.root.is_none()).finish()
    }
}

impl<V: Leaf> Trie<V> {
    /// The value under `key`.
    pub(crate) fn get(&self, key: &B256) -> Option<&V> {
        let mut rest = Nibbles::unpack(key);
        let mut node = self.root.as_deref()?;
        loop {
            match &node.kind {
                Kind::Leaf { path, value } => return (*path == rest).then_some(value),
                Kind::Extension { path, child } => {
                    if !rest.starts_with(path) {
                        return None;
                    }
                    rest = rest.slice(path.len()..);
                    node = child;
                }
                Kind::Branch { children } => {
                    node = children[usize::from(rest.get(0)?)].as_deref()?;
                    rest = rest.slice(1..);
                }
            }
        }
    }

    /// Puts `value` under `key`.
    pub(crate) fn insert(&mut self, key: &B256, value: V) {
        self.root = Some(inserted(self.root.as_ref(), Nibbles::unpack(key), value));
    }

    /// Takes `key` away, if it is there.
    pub(crate) fn remove(&mut self, key: &B256) {
        let Some(root) = &self.root else { return };
        if let Removal::Now(root) = removed(root, Nibbles::unpack(key)) {
            self.root = root;
        }
    }

    /// The root hash.
    pub(crate) fn root(&self) -> B256 {
        match &self.root {
            None => EMPTY_ROOT_HASH,
            Some(node) => {
                let encoded = node.encoded();
                encoded.as_hash().unwrap_or_else(|| keccak256(encoded.as_slice()))
            }
        }
    }
}

impl<V: Leaf> Node<V> {
    fn encoded(&self) -> &RlpNode {
        self.encoded.get_or_init(|| {
            let mut buffer = Vec::new();
            match &self.kind {
                Kind::Leaf { path, value } => {
                    LeafNodeRef::new(path, &value.encode()).rlp(&mut buffer)
                }
                Kind::Extension { path, child } => {
                    ExtensionNodeRef::new(path, child.encoded().as_slice()).rlp(&mut buffer)
                }
                Kind::Branch { children } => {
                    let mut mask = TrieMask::default();
                    let mut stack = Vec::with_capacity(16);
                    for (nibble, child) in (0u8..).zip(children) {
                        if let Some(child) = child {
                            mask.set_bit(nibble);
                            stack.push(child.encoded().clone());
                        }
                    }
                    BranchNodeRef::new(&stack, mask).rlp(&mut buffer)
                }
            }
        })
    }
}

fn node<V>(kind: Kind<V>) -> Arc<Node<V>> {
    Arc::new(Node { kind, encoded: OnceLock::new() })
}

/// `child` reached over `path`; the path merges with whatever the child begins with.
fn prefixed<V: Leaf>(path: Nibbles, child: Arc<Node<V>>) -> Arc<Node<V>> {
    if path.is_empty() {
        return child;
    }
    match &child.kind {
        Kind::Leaf { path: rest, value } => {
            node(Kind::Leaf { path: path.join(rest), value: value.clone() })
        }
        Kind::Extension { path: rest, child } => {
            node(Kind::Extension { path: path.join(rest), child: Arc::clone(child) })
        }
        Kind::Branch { .. } => node(Kind::Extension { path, child }),
    }
}

/// A branch below the first `common` nibbles of `new`, between a leaf and what was there.
fn forked<V: Leaf>(
    common: usize,
    old: (u8, Arc<Node<V>>),
    new: &Nibbles,
    value: V,
) -> Arc<Node<V>> {
    let mut children = Children::default();
    children[usize::from(old.0)] = Some(old.1);
    let leaf = Kind::Leaf { path: new.slice(common + 1..), value };
    children[usize::from(new.get(common).unwrap_or_default())] = Some(node(leaf));
    prefixed(new.slice(..common), node(Kind::Branch { children }))
}

fn inserted<V: Leaf>(at: Option<&Arc<Node<V>>>, key: Nibbles, value: V) -> Arc<Node<V>> {
    let Some(at) = at else { return node(Kind::Leaf { path: key, value }) };
    match &at.kind {
        Kind::Leaf { path, value: old } => {
            let common = path.common_prefix_length(&key);
            if common == path.len() {
                return node(Kind::Leaf { path: key, value });
            }
            let rest = Kind::Leaf { path: path.slice(common + 1..), value: old.clone() };
            let nibble = path.get(common).unwrap_or_default();
            forked(common, (nibble, node(rest)), &key, value)
        }
        Kind::Extension { path, child } => {
            let common = path.common_prefix_length(&key);
            if common == path.len() {
                let child = inserted(Some(child), key.slice(common..), value);
                return node(Kind::Extension { path: *path, child });
            }
            let rest = prefixed(path.slice(common + 1..), Arc::clone(child));
            let nibble = path.get(common).unwrap_or_default();
            forked(common, (nibble, rest), &key, value)
        }
        Kind::Branch { children } => {
            let mut children = children.clone();
            let slot = &mut children[usize::from(key.get(0).unwrap_or_default())];
            *slot = Some(inserted(slot.as_ref(), key.slice(1..), value));
            node(Kind::Branch { children })
        }
    }
}

enum Removal<V> {
    /// The key was not there, so the subtrie stays as it is.
    Absent,
    /// What remains of the subtrie.
    Now(Option<Arc<Node<V>>>),
}

fn removed<V: Leaf>(at: &Arc<Node<V>>, key: Nibbles) -> Removal<V> {
    match &at.kind {
        Kind::Leaf { path, .. } if *path == key => Removal::Now(None),
        Kind::Leaf { .. } => Removal::Absent,
        Kind::Extension { path, child } => {
            if !key.starts_with(path) {
                return Removal::Absent;
            }
            match removed(child, key.slice(path.len()..)) {
                Removal::Absent => Removal::Absent,
                Removal::Now(rest) => Removal::Now(rest.map(|rest| prefixed(*path, rest))),
            }
        }
        Kind::Branch { children } => {
            let nibble = usize::from(key.get(0).unwrap_or_default());
            let Some(child) = &children[nibble] else { return Removal::Absent };
            let Removal::Now(rest) = removed(child, key.slice(1..)) else {
                return Removal::Absent;
            };
            let mut children = children.clone();
            children[nibble] = rest;
            Removal::Now(collapsed(children))
        }
    }
}

/// A branch with one child left is not a branch any more.
fn collapsed<V: Leaf>(mut children: Children<V>) -> Option<Arc<Node<V>>> {
    let mut occupied = (0u8..16).filter(|nibble| children[usize::from(*nibble)].is_some());
    let only = occupied.next()?;
    if occupied.next().is_some() {
        return Some(node(Kind::Branch { children }));
    }
    let child = children[usize::from(only)].take()?;
    Some(prefixed(Nibbles::from_nibbles([only]), child))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use alloy::primitives::U256;
    use alloy::trie::HashBuilder;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Word(U256);

    impl Leaf for Word {
        fn encode(&self) -> Vec<u8> {
            alloy::rlp::encode(self.0)
        }
    }

    /// The same root by the library's own builder, which needs all leaves in order.
    fn reference_root(model: &BTreeMap<B256, u64>) -> B256 {
        let mut builder = HashBuilder::default();
        for (key, value) in model {
            builder.add_leaf(Nibbles::unpack(key), &alloy::rlp::encode(U256::from(*value)));
        }
        builder.root()
    }

    /// Few distinct keys with long common prefixes, so that every shape of node appears.
    fn key() -> impl Strategy<Value = B256> {
        (0u8..4, 0u8..4, 0u8..3, any::<bool>()).prop_map(|(first, middle, last, high)| {
            let mut key = B256::ZERO;
            key[0] = first << if high { 4 } else { 0 };
            key[15] = middle;
            key[31] = last;
            key
        })
    }

    proptest! {
        #[test]
        fn any_order_of_changes_gives_the_reference_root(
            changes in prop::collection::vec((key(), prop::option::of(1u64..1_000)), 0..60)
        ) {
            let mut model = BTreeMap::new();
            let mut trie = Trie::default();
            let mut versions = Vec::new();
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        model.insert(key, value);
                        trie.insert(&key, Word(U256::from(value)));
                    }
                    None => {
                        model.remove(&key);
                        trie.remove(&key);
                    }
                }
                prop_assert_eq!(trie.root(), reference_root(&model));
                versions.push((trie.clone(), model.clone()));
            }
            for (trie, model) in versions {
                prop_assert_eq!(trie.root(), reference_root(&model));
                for (key, value) in &model {
                    prop_assert_eq!(trie.get(key), Some(&Word(U256::from(*value))));
                }
            }
        }
    }

    #[test]
    fn an_empty_trie_has_the_empty_root() {
        let mut trie = Trie::<Word>::default();
        assert_eq!(trie.root(), EMPTY_ROOT_HASH);
        trie.remove(&B256::ZERO);
        assert_eq!(trie.get(&B256::ZERO), None);
    }
}
