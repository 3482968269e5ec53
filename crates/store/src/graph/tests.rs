use ipld_dagpb::PbLink;
use roadstead_types::content::content_id;

use super::*;
use crate::block::digest;

fn leaf(text: &str) -> BlockId {
    BlockId { is_node: false, digest: digest(text.as_bytes()) }
}

fn inner(text: &str) -> BlockId {
    BlockId { is_node: true, digest: digest(text.as_bytes()) }
}

fn encoded(links: impl IntoIterator<Item = (Cid, Option<u64>)>, data: &'static [u8]) -> Bytes {
    let links = links.into_iter().map(|(cid, size)| PbLink { cid, name: None, size });
    let node = PbNode { links: links.collect(), data: Some(Bytes::from_static(data)) };
    node.into_bytes().into()
}

fn root() -> Cid {
    inner("root").cid()
}

fn reason(error: ContentError) -> String {
    match error {
        ContentError::BadGraph { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn a_node_gives_its_links_in_order_with_what_they_claim() {
    let links = [leaf("b"), inner("a"), leaf("b")];
    let node = encoded(links.map(|id| (id.cid(), Some(7))), &[8, 2]);
    let node = read_node(&root(), node).unwrap();
    assert_eq!((node.links.as_slice(), node.claimed), (links.as_slice(), Some(21)));
    assert_eq!(node.kind, NodeKind::File);
}

#[test]
fn claims_neither_overflow_nor_are_made_up() {
    let huge = [(leaf("a").cid(), Some(u64::MAX)), (leaf("b").cid(), Some(2))];
    assert_eq!(read_node(&root(), encoded(huge, &[])).unwrap().claimed, Some(u64::MAX));
    let silent = [(leaf("a").cid(), Some(1)), (leaf("b").cid(), None)];
    assert_eq!(read_node(&root(), encoded(silent, &[])).unwrap().claimed, None);
}

#[test]
fn the_kind_is_that_of_unixfs() {
    let kind = |data| read_node(&root(), encoded([], data)).unwrap().kind;
    assert_eq!(kind(&[8, 0]), NodeKind::File);
    assert_eq!(kind(&[8, 1]), NodeKind::Single);
    assert_eq!(kind(&[8, 4]), NodeKind::Single);
    assert_eq!(kind(&[8, 5, 18, 1, 7]), NodeKind::ShardedFolder);
    assert_eq!(kind(&[]), NodeKind::Single);
}

#[test]
fn a_node_is_refused_for_its_size_its_links_and_its_kinds_of_links() {
    let many = vec![(leaf("a").cid(), None); MAX_LINKS];
    assert_eq!(read_node(&root(), encoded(many.clone(), &[])).unwrap().links.len(), MAX_LINKS);
    let more = many.into_iter().chain([(leaf("a").cid(), None)]);
    assert!(reason(read_node(&root(), encoded(more, &[])).unwrap_err()).contains("links"));

    let large: &'static [u8] = vec![0; MAX_NODE].leak();
    assert!(reason(read_node(&root(), encoded([], large)).unwrap_err()).contains("bytes"));

    let foreign = content_id(0x71, digest(b"dag-cbor"));
    let error = read_node(&root(), encoded([(foreign, None)], &[])).unwrap_err();
    assert!(reason(error).contains("links to more"));
}

#[test]
fn bytes_that_are_no_node_are_an_error() {
    for bytes in [&[0x12][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x12, 0x7f, 0x0a], &[0xff]]
    {
        reason(read_node(&root(), Bytes::copy_from_slice(bytes)).unwrap_err());
    }
}

#[test]
fn a_walk_is_depth_first_and_meets_every_block_once() {
    let mut walk = Walk::new(&root(), GraphLimits { depth: 3, blocks: 10 }).unwrap();
    let mut order = Vec::new();
    while let Some(id) = walk.next().unwrap() {
        order.push(id);
        if id == inner("root") {
            walk.descend(vec![inner("left"), leaf("shared"), leaf("last")]).unwrap();
        } else if id == inner("left") {
            walk.descend(vec![leaf("shared"), inner("root"), leaf("deep")]).unwrap();
        }
    }
    let expected = [inner("root"), inner("left"), leaf("shared"), leaf("deep"), leaf("last")];
    assert_eq!(order, expected);

    walk.restart(&inner("other").cid()).unwrap();
    assert_eq!(walk.next().unwrap(), Some(inner("other")));
    walk.descend(vec![leaf("shared"), leaf("new")]).unwrap();
    assert_eq!(walk.next().unwrap(), Some(leaf("new")));
    assert_eq!(walk.next().unwrap(), None);
    assert_eq!(walk.into_seen().len(), expected.len() + 2);
}

#[test]
fn a_walk_ends_at_its_bounds() {
    let mut deep = Walk::new(&root(), GraphLimits { depth: 2, blocks: 10 }).unwrap();
    for level in ["a", "b"] {
        deep.next().unwrap().unwrap();
        deep.descend(vec![inner(level)]).unwrap();
    }
    deep.next().unwrap().unwrap();
    deep.descend(Vec::new()).unwrap();
    assert!(reason(deep.descend(vec![leaf("c")]).unwrap_err()).contains("deeper than 2"));

    let mut wide = Walk::new(&root(), GraphLimits { depth: 2, blocks: 2 }).unwrap();
    wide.next().unwrap().unwrap();
    wide.descend(vec![leaf("a"), leaf("a"), leaf("b")]).unwrap();
    wide.next().unwrap().unwrap();
    assert!(reason(wide.next().unwrap_err()).contains("more than 2 blocks"));
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = read_node(&root(), bytes.into());
    }

    #[test]
    fn a_damaged_node_is_read_or_refused(at in 0_usize..90, byte: u8) {
        let mut node = encoded([(leaf("a").cid(), Some(9)), (inner("b").cid(), None)], &[8, 1]).to_vec();
        let at = at % node.len();
        node[at] = byte;
        let _ = read_node(&root(), node.into());
    }
}
