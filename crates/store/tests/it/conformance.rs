//! What every content store promises, asked of each one there is.

use std::{any::Any, sync::Arc};

use roadstead_core::ports::{ContentError, ContentStore};
use roadstead_store::{KuboStore, LoopbackRpc};
use roadstead_types::{
    Cid,
    content::{MAX_BLOCK, RAW, content_id},
};
use tokio_util::sync::CancellationToken;

use crate::{
    fixture::{ANY, Graph, embedded, raw},
    kubo::Daemon,
};

struct Subject {
    name: &'static str,
    store: Arc<dyn ContentStore>,
    _behind: Box<dyn Any>,
}

/// The embedded store, the same behind Kubo's RPC, and a Kubo daemon where there is one.
async fn subjects() -> Vec<Subject> {
    let (store, home) = embedded();
    let mut all =
        vec![Subject { name: "embedded", store: Arc::new(store), _behind: Box::new(home) }];
    let (store, home) = embedded();
    let rpc = LoopbackRpc::serve(store, None, ANY, &CancellationToken::new()).await.unwrap();
    let store = Arc::new(KuboStore::new(&rpc.url()).unwrap());
    all.push(Subject { name: "embedded by RPC", store, _behind: Box::new((rpc, home)) });
    if let Some(daemon) = Daemon::start() {
        let store = Arc::new(KuboStore::new(daemon.url()).unwrap());
        // What a new repository holds of its own would be counted later.
        store.collect().await.unwrap();
        all.push(Subject { name: "Kubo", store, _behind: Box::new(daemon) });
    }
    all
}

fn foreign() -> [Cid; 3] {
    [
        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
        "bafyreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq",
        "bafkqaaa",
    ]
    .map(|cid| cid.parse().unwrap())
}

#[tokio::test]
async fn a_block_comes_back_as_it_was_put() {
    for Subject { name, store, .. } in subjects().await {
        for (cid, block) in [raw("hello"), raw(""), raw(vec![7; MAX_BLOCK])] {
            assert_eq!(store.get(&cid).await.unwrap(), None, "{name}");
            assert!(!store.has(&cid).await.unwrap(), "{name}");
            assert!(store.put(&cid, block.clone()).await.unwrap(), "{name}");
            assert!(!store.put(&cid, block.clone()).await.unwrap(), "{name}");
            assert!(store.has(&cid).await.unwrap(), "{name}");
            assert_eq!(store.get(&cid).await.unwrap(), Some(block), "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_no_block_of_ours_is_refused() {
    for Subject { name, store, .. } in subjects().await {
        let (cid, _) = raw("hello");
        let error = store.put(&cid, "hellO".into()).await.unwrap_err();
        assert!(matches!(error, ContentError::Mismatch { .. }), "{name}: {error}");
        assert!(!store.has(&cid).await.unwrap(), "{name}");

        let (cid, block) = raw(vec![7; MAX_BLOCK + 1]);
        let error = store.put(&cid, block).await.unwrap_err();
        assert!(matches!(error, ContentError::TooLarge { .. }), "{name}: {error}");

        for cid in foreign() {
            let errors = [
                store.put(&cid, "".into()).await.unwrap_err(),
                store.get(&cid).await.unwrap_err(),
                store.has(&cid).await.unwrap_err(),
                store.pin(&cid).await.unwrap_err(),
                store.unpin(&cid).await.unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, ContentError::Unsupported { .. }), "{name}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_graph_is_pinned_when_all_of_it_is_there() {
    for Subject { name, store, .. } in subjects().await {
        let graph = Graph::sample();
        let missing = graph.blocks[4].0;
        for (cid, block) in graph.blocks.iter().filter(|(cid, _)| *cid != missing) {
            store.put(cid, block.clone()).await.unwrap();
        }
        store.pin(&graph.root()).await.unwrap_err();
        assert_eq!(store.pins().await.unwrap(), [], "{name}");
        graph.put(store.as_ref()).await;
        for _ in 0..2 {
            store.pin(&graph.root()).await.unwrap();
            assert_eq!(store.pins().await.unwrap(), [graph.root()], "{name}");
        }
        for _ in 0..2 {
            store.unpin(&graph.root()).await.unwrap();
            assert_eq!(store.pins().await.unwrap(), [], "{name}");
        }
    }
}

#[tokio::test]
async fn a_collection_takes_what_no_pin_holds() {
    for Subject { name, store, .. } in subjects().await {
        let graph = Graph::sample();
        let (garbage, block) = raw("garbage");
        let (single, single_block) = raw("single");
        graph.put(store.as_ref()).await;
        store.put(&garbage, block).await.unwrap();
        store.put(&single, single_block).await.unwrap();
        store.pin(&graph.root()).await.unwrap();
        store.pin(&single).await.unwrap();

        assert_eq!(store.collect().await.unwrap(), 1, "{name}");
        assert!(!store.has(&garbage).await.unwrap(), "{name}");
        assert!(graph.is_in(store.as_ref()).await && store.has(&single).await.unwrap(), "{name}");

        // A second pin holds what both have in common.
        let (child, _) = graph.blocks[1];
        store.pin(&child).await.unwrap();
        store.unpin(&graph.root()).await.unwrap();
        assert_eq!(store.collect().await.unwrap(), 3, "{name}");
        for (index, (cid, _)) in graph.blocks.iter().enumerate() {
            assert_eq!(store.has(cid).await.unwrap(), (1..=4).contains(&index), "{name}: {index}");
        }
    }
}

#[tokio::test]
async fn a_node_and_raw_bytes_with_one_digest_are_two_blocks() {
    for Subject { name, store, .. } in subjects().await {
        let (node, block) = Graph::sample().blocks[0].clone();
        let bytes = content_id(RAW, node.hash().digest().try_into().unwrap());
        store.put(&bytes, block.clone()).await.unwrap();
        store.pin(&bytes).await.unwrap();
        store.put(&node, block).await.unwrap();
        store.pin(&node).await.unwrap_err();
        assert_eq!(store.pins().await.unwrap(), [bytes], "{name}");
    }
}

#[tokio::test]
async fn what_is_pinned_is_there_after_a_restart() {
    let (store, home) = embedded();
    let graph = Graph::sample();
    graph.put(&store).await;
    store.pin(&graph.root()).await.unwrap();
    drop(store);
    let store = roadstead_store::EmbeddedStore::open(home.path()).unwrap();
    assert_eq!(store.pins().await.unwrap(), [graph.root()]);
    assert!(graph.is_in(&store).await);
    assert_eq!(store.collect().await.unwrap(), 0);
}
