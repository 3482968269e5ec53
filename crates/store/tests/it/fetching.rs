//! Graphs that come from several places, none of which is whole or right.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore, Sources};
use roadstead_store::{
    EmbeddedStore, FetchLimits, FetchProgress, GatewaySources, SourcePolicy, fetch, fetch_block,
};
use roadstead_types::{Cid, content::MAX_BLOCK};
use tokio::time::Instant;

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

    // Of what was under way at the failure, some may still be written after it was counted here.
    let mut here = 0;
    for (cid, _) in &graph.blocks {
        here += usize::from(into.has(cid).await.unwrap());
    }
    assert!(here >= 1);
    let second = Arc::new(Memory::of(&graph));
    let sources = [Arc::clone(&second) as Arc<dyn BlockSource>];
    fetch(&graph.root(), &sources, &into, &LIMITS, &quiet).await.unwrap();
    assert!((1..=graph.blocks.len() - here).contains(&second.asked()), "{}", second.asked());
    assert!(graph.is_in(&into).await);
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_source_is_told_where_nobody_has_the_block() {
    let graph = Graph::sample();
    let (into, _home) = embedded();
    let bad = graph.blocks[0].0;
    for (fault, asked) in [(Fault::Failing, 2), (Fault::Damaged, 2), (Fault::Absent, 1)] {
        let source = Arc::new(Memory::of(&graph).with_fault(bad, fault));
        let sources = [Arc::clone(&source) as Arc<dyn BlockSource>];
        let begun = Instant::now();
        let error = fetch(&bad, &sources, &into, &LIMITS, &quiet).await.unwrap_err();
        assert_eq!(begun.elapsed().is_zero(), asked == 1, "a pause stands between two rounds");
        let is_as_expected = match fault {
            Fault::Failing => matches!(error, ContentError::Unavailable { .. }),
            Fault::Damaged => {
                matches!(&error, ContentError::Mismatch { place, .. } if place == "source number 1")
            }
            Fault::Absent => matches!(error, ContentError::Absent { .. }),
        };
        assert!(is_as_expected, "{fault:?}: {error}");
        assert_eq!(source.asked(), asked, "{fault:?}");
        assert!(!into.has(&bad).await.unwrap());
    }
    let nobody = fetch(&bad, &[], &into, &LIMITS, &quiet).await.unwrap_err();
    assert!(matches!(nobody, ContentError::Absent { .. }), "{nobody}");
}

/// A node over so many leaves.
fn wide(leaves: u32) -> Graph {
    let leaves: Vec<Block> = (0..leaves).map(|number| raw(number.to_be_bytes().to_vec())).collect();
    let claims: Vec<_> = leaves.iter().map(|(cid, _)| (*cid, 4)).collect();
    Graph { blocks: [node(&claims)].into_iter().chain(leaves).collect() }
}

/// What a source that takes a moment says, by the number of the question.
struct Says<F> {
    answer: F,
    asked: AtomicU64,
}

impl<F> Says<F>
where
    F: Fn(u64, &Cid) -> Result<Option<Bytes>, ContentError> + Send + Sync + 'static,
{
    fn source(answer: F) -> Arc<dyn BlockSource> {
        Arc::new(Self { answer, asked: AtomicU64::new(0) })
    }
}

#[async_trait]
impl<F> BlockSource for Says<F>
where
    F: Fn(u64, &Cid) -> Result<Option<Bytes>, ContentError> + Send + Sync,
{
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        let question = self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        (self.answer)(question, cid)
    }
}

fn down() -> ContentError {
    ContentError::Unavailable { place: "it".into(), operation: "a test", source: "down".into() }
}

fn banned() -> ContentError {
    ContentError::Refused { address: "it".into(), reason: "a test".into() }
}

#[tokio::test(start_paused = true)]
async fn a_moment_in_which_everything_under_way_fails_does_not_cost_the_only_source() {
    let graph = wide(40);
    let blocks: std::collections::HashMap<_, _> = graph.blocks.iter().cloned().collect();
    let source = Says::source(move |question, cid| match question {
        // All eight that are asked for at a time, after the root.
        1..=8 => Err(down()),
        _ => Ok(blocks.get(cid).cloned()),
    });
    let (into, _home) = embedded();
    fetch(&graph.root(), &[source], &into, &LIMITS, &quiet).await.unwrap();
    assert!(graph.is_in(&into).await);
}

#[tokio::test(start_paused = true)]
async fn what_one_source_does_wrong_for_good_is_no_reason_to_give_up_on_the_others() {
    let (cid, _) = raw("block");
    let (into, _home) = embedded();
    let failing = || Says::source(|_, _| Err(down()));
    let lacking = || Says::source(|_, _| Ok(None));
    let refused = || Says::source(|_, _| Err(banned()));
    let huge = || Says::source(|_, _| Ok(Some(vec![0; MAX_BLOCK + 1].into())));
    let tells_so = || Says::source(|_, cid| Err(ContentError::TooLarge { cid: *cid }));
    for sources in [
        vec![failing(), refused()],
        vec![refused(), failing()],
        vec![failing(), tells_so()],
        vec![lacking(), refused()],
        vec![refused(), lacking(), tells_so()],
        vec![huge()],
    ] {
        let error = fetch_block(&cid, &sources, &into).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    let error = fetch_block(&cid, &[refused(), refused()], &into).await.unwrap_err();
    assert!(matches!(error, ContentError::Refused { .. }), "{error}");
}

/// A store that loses a block just before the first pins.
struct Forgetful {
    store: EmbeddedStore,
    file: std::path::PathBuf,
    block: Cid,
    losses: AtomicU64,
}

#[async_trait]
impl BlockSource for Forgetful {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        self.store.get(cid).await
    }
}

#[async_trait]
impl ContentStore for Forgetful {
    async fn put(&self, cid: &Cid, block: Bytes) -> Result<bool, ContentError> {
        self.store.put(cid, block).await
    }

    async fn has(&self, cid: &Cid) -> Result<bool, ContentError> {
        self.store.has(cid).await
    }

    async fn pin(&self, root: &Cid) -> Result<(), ContentError> {
        if self.losses.load(Ordering::Relaxed) > 0 {
            self.losses.fetch_sub(1, Ordering::Relaxed);
            std::fs::remove_file(&self.file).unwrap();
        }
        self.store.pin(root).await
    }

    async fn unpin(&self, root: &Cid) -> Result<(), ContentError> {
        self.store.unpin(root).await
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        self.store.pins().await
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        self.store.collect().await
    }
}

#[tokio::test]
async fn what_was_removed_before_the_pin_is_fetched_again_but_not_for_ever() {
    let graph = Graph::sample();
    let block = graph.blocks[2].0;
    for (losses, is_pinned) in [(2, true), (3, false)] {
        let (store, home) = embedded();
        let shard = format!("{:02x}", block.hash().digest()[0]);
        let file = home.path().join("blocks").join(shard).join(block.to_string());
        let into = Forgetful { store, file, block, losses: AtomicU64::new(losses) };
        let source = Arc::new(Memory::of(&graph));
        let sources = [Arc::clone(&source) as Arc<dyn BlockSource>];
        let fetched = fetch(&graph.root(), &sources, &into, &LIMITS, &quiet).await;
        assert_eq!(source.asked(), graph.blocks.len() + 2);
        if is_pinned {
            let again = 2 * u64::try_from(graph.blocks[2].1.len()).unwrap();
            let fetched = fetched.unwrap();
            assert_eq!((fetched.done, fetched.fetched), (graph.bytes(), graph.bytes() + again));
            assert!(graph.is_in(&into).await);
        } else {
            let error = fetched.unwrap_err();
            assert!(matches!(error, ContentError::Absent { cid } if cid == into.block), "{error}");
        }
        assert_eq!(into.pins().await.unwrap().len(), usize::from(is_pinned));
    }
}

#[tokio::test]
async fn a_source_that_keeps_failing_is_left_alone() {
    let graph = wide(200);
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
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
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
