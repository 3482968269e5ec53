//! Graphs that come from several places, none of which is whole or right.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::prelude::*;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore, Sources};
use roadstead_store::{
    FetchLimits, FetchProgress, GatewaySources, SourcePolicy, fetch, fetch_block,
};
use roadstead_types::Cid;

use crate::fixture::{Block, Fault, Graph, Memory, embedded, folder, gateway, node, raw};

const LIMITS: FetchLimits = FetchLimits { bytes: 1 << 20, blocks: 1000, depth: 8 };

fn quiet(_: FetchProgress) {}

fn shared(sources: impl IntoIterator<Item = Memory>) -> Vec<Arc<dyn BlockSource>> {
    sources.into_iter().map(|source| Arc::new(source) as Arc<dyn BlockSource>).collect()
}

#[tokio::test]
async fn a_graph_travels_from_store_to_store_by_http() {
    let graph = Graph::sample();
    let (from, _from_home) = embedded();
    graph.put(&from).await;
    let gateway = gateway(&from).await;
    let sources = GatewaySources::new(SourcePolicy::Development);
    let sources = [sources.open(&gateway.url()).unwrap()];

    let (into, _into_home) = embedded();
    let told = AtomicU64::new(0);
    let progress = |now: FetchProgress| {
        assert!(told.swap(now.done, Ordering::Relaxed) <= now.done);
    };
    let fetched = fetch(&graph.root(), &sources, &into, &LIMITS, &progress).await.unwrap();
    assert!(graph.is_in(&into).await);
    assert_eq!(into.pins().await.unwrap(), [graph.root()]);
    assert_eq!((fetched.done, fetched.fetched), (graph.bytes(), graph.bytes()));
    // The claim counts what two files share twice.
    assert_eq!(fetched.total, Some(graph.bytes() + 6));
    assert_eq!(told.into_inner(), graph.bytes());
    gateway.shutdown().await;

    let again = fetch(&graph.root(), &sources, &into, &LIMITS, &quiet).await.unwrap();
    assert_eq!((again.done, again.fetched), (graph.bytes(), 0));
}

#[tokio::test]
async fn a_fetch_that_failed_goes_on_where_it_stopped() {
    let graph = Graph::sample();
    let (into, _home) = embedded();
    let missing = graph.blocks[6].0;
    let first = Memory::of(&graph).with_fault(missing, Fault::Absent);
    let error = fetch(&graph.root(), &shared([first]), &into, &LIMITS, &quiet).await.unwrap_err();
    assert!(matches!(error, ContentError::Absent { cid } if cid == missing), "{error}");
    assert_eq!(into.pins().await.unwrap(), []);

    // What came before the failure need not be all the rest; the second source is asked for no more than is missing.
    let mut here = 0;
    for (cid, _) in &graph.blocks {
        here += usize::from(into.has(cid).await.unwrap());
    }
    assert!(here >= 1);
    let second = Arc::new(Memory::of(&graph));
    let sources = [Arc::clone(&second) as Arc<dyn BlockSource>];
    fetch(&graph.root(), &sources, &into, &LIMITS, &quiet).await.unwrap();
    assert_eq!(second.asked(), graph.blocks.len() - here);
    assert!(graph.is_in(&into).await);
}

#[tokio::test]
async fn the_failure_of_a_source_is_told_where_nobody_has_the_block() {
    let graph = Graph::sample();
    let (into, _home) = embedded();
    let bad = graph.blocks[0].0;
    for (fault, asked) in [(Fault::Failing, 2), (Fault::Damaged, 2), (Fault::Absent, 1)] {
        let source = Arc::new(Memory::of(&graph).with_fault(bad, fault));
        let sources = [Arc::clone(&source) as Arc<dyn BlockSource>];
        let error = fetch(&bad, &sources, &into, &LIMITS, &quiet).await.unwrap_err();
        let is_as_expected = match fault {
            Fault::Failing => matches!(error, ContentError::Unavailable { .. }),
            Fault::Damaged => matches!(error, ContentError::Mismatch { .. }),
            Fault::Absent => matches!(error, ContentError::Absent { .. }),
        };
        assert!(is_as_expected, "{fault:?}: {error}");
        assert_eq!(source.asked(), asked, "{fault:?}");
        assert!(!into.has(&bad).await.unwrap());
    }
    let nobody = fetch(&bad, &[], &into, &LIMITS, &quiet).await.unwrap_err();
    assert!(matches!(nobody, ContentError::Absent { .. }), "{nobody}");
}

#[tokio::test]
async fn a_source_that_keeps_failing_is_left_alone() {
    let leaves: Vec<Block> =
        (0..200_u32).map(|number| raw(number.to_be_bytes().to_vec())).collect();
    let claims: Vec<_> = leaves.iter().map(|(cid, _)| (*cid, 4)).collect();
    let graph = Graph { blocks: [node(&claims)].into_iter().chain(leaves).collect() };
    let mut dead = Memory::of(&graph);
    for (cid, _) in &graph.blocks {
        dead = dead.with_fault(*cid, Fault::Failing);
    }
    let dead = Arc::new(dead);
    let good = Arc::new(Memory::of(&graph));
    let sources: [Arc<dyn BlockSource>; 2] = [Arc::clone(&dead) as _, Arc::clone(&good) as _];
    let (into, _home) = embedded();
    fetch(&graph.root(), &sources, &into, &LIMITS, &quiet).await.unwrap();
    assert!(dead.asked() < 30, "{}", dead.asked());
    assert_eq!(good.asked(), graph.blocks.len());
}

#[tokio::test]
async fn a_graph_that_is_too_large_in_any_way_is_given_up() {
    let graph = Graph::sample();
    let (into, _home) = embedded();
    let blocks = graph.blocks.len();
    for (limits, part) in [
        (FetchLimits { bytes: graph.bytes() - 1, ..LIMITS }, "bytes"),
        (FetchLimits { blocks: blocks - 1, ..LIMITS }, "blocks"),
        (FetchLimits { depth: 1, ..LIMITS }, "deeper"),
    ] {
        let sources = shared([Memory::of(&graph)]);
        let error = fetch(&graph.root(), &sources, &into, &limits, &quiet).await.unwrap_err();
        assert!(matches!(error, ContentError::BadGraph { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(into.pins().await.unwrap(), []);
    }
    let exact = FetchLimits { bytes: graph.bytes(), blocks, depth: 2 };
    fetch(&graph.root(), &shared([Memory::of(&graph)]), &into, &exact, &quiet).await.unwrap();
}

#[tokio::test]
async fn a_single_block_is_fetched_and_pinned() {
    let (cid, block) = raw("sealed bundle");
    let graph = Graph { blocks: vec![(cid, block.clone())] };
    let (into, _home) = embedded();
    let good = Arc::new(Memory::of(&graph));
    let liar = Memory::of(&graph).with_fault(cid, Fault::Damaged);
    let sources: [Arc<dyn BlockSource>; 2] = [Arc::new(liar), Arc::clone(&good) as _];
    for _ in 0..2 {
        assert_eq!(fetch_block(&cid, &sources, &into).await.unwrap(), block);
        assert_eq!(good.asked(), 1);
        assert_eq!(into.pins().await.unwrap(), [cid]);
    }
    let error = fetch_block(&Graph::sample().root(), &sources, &into).await.unwrap_err();
    assert!(matches!(error, ContentError::Unsupported { .. }), "{error}");
}

/// Layers of blocks over each other, each block over some of the layer below, with what they share.
fn graphs() -> impl Strategy<Value = Graph> {
    let leaves = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..12);
    let layers = prop::collection::vec(
        prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..6), 1..5),
        0..3,
    );
    (leaves, layers).prop_map(|(leaves, layers)| {
        let mut all: Vec<Block> = leaves.into_iter().map(raw).collect();
        let mut below: Vec<Cid> = all.iter().map(|(cid, _)| *cid).collect();
        for layer in layers {
            let nodes: Vec<Block> = layer
                .iter()
                .map(|picks| {
                    node(&picks.iter().map(|pick| (*pick.get(&below), 1)).collect::<Vec<_>>())
                })
                .collect();
            below = nodes.iter().map(|(cid, _)| *cid).collect();
            all.extend(nodes);
        }
        let all_below: Vec<_> = all.iter().map(|(cid, _)| (*cid, 1)).collect();
        all.push(folder(&all_below));
        all.reverse();
        let mut seen = std::collections::HashSet::new();
        all.retain(|(cid, _)| seen.insert(*cid));
        Graph { blocks: all }
    })
}

fn faults() -> impl Strategy<Value = Vec<(prop::sample::Index, Fault)>> {
    let fault = prop::sample::select(vec![Fault::Absent, Fault::Damaged, Fault::Failing]);
    prop::collection::vec((any::<prop::sample::Index>(), fault), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_fetched_graph_is_the_original_whatever_the_sources_lose(
        graph in graphs(),
        faults in prop::collection::vec(faults(), 1..4),
        held in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        is_complete: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut sources: Vec<Memory> = faults
                .iter()
                .map(|faults| {
                    let source = Memory::of(&graph);
                    faults.iter().fold(source, |source, (at, fault)| {
                        source.with_fault(at.get(&graph.blocks).0, *fault)
                    })
                })
                .collect();
            if is_complete {
                sources.push(Memory::of(&graph));
            }
            let (into, _home) = embedded();
            for index in &held {
                let (cid, block) = index.get(&graph.blocks).clone();
                into.put(&cid, block).await.unwrap();
            }
            match fetch(&graph.root(), &shared(sources), &into, &LIMITS, &quiet).await {
                Ok(progress) => {
                    assert_eq!(progress.done, graph.bytes());
                    assert!(graph.is_in(&into).await);
                    assert_eq!(into.pins().await.unwrap(), [graph.root()]);
                }
                Err(error) => {
                    assert!(!is_complete, "{error}");
                    assert!(error.is_retryable(), "{error}");
                    assert_eq!(into.pins().await.unwrap(), []);
                }
            }
            let whole = shared([Memory::of(&graph)]);
            fetch(&graph.root(), &whole, &into, &LIMITS, &quiet).await.unwrap();
            assert!(graph.is_in(&into).await);
            into.unpin(&graph.root()).await.unwrap();
            let blocks = u64::try_from(graph.blocks.len()).unwrap();
            assert_eq!(into.collect().await.unwrap(), blocks, "something else was kept");
        });
    }
}
