use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use ipld_dagpb::{PbLink, PbNode};
use roadstead_types::content::{DAG_PB, MAX_BLOCK, RAW, content_id};

use super::*;
use crate::block::digest;

fn raw(bytes: &[u8]) -> (Cid, Bytes) {
    (content_id(RAW, digest(bytes)), Bytes::copy_from_slice(bytes))
}

fn node(links: &[Cid]) -> (Cid, Bytes) {
    let links = links.iter().map(|cid| PbLink { cid: *cid, name: None, size: Some(1) }).collect();
    let block = Bytes::from(PbNode { links, data: Some(Bytes::from_static(&[8, 2])) }.into_bytes());
    (content_id(DAG_PB, digest(&block)), block)
}

/// What a store asked of its disk, and what it found there then.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Everything, with so many pins recorded before.
    All { pins: usize },
    /// The folder of pins, with so many in it.
    Pins { pins: usize },
    /// A new file.
    New,
}

/// What the disk does when it is told to write everything.
type OnSync = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A disk that fails when a test wants it to.
struct TestDisk {
    home: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
    on_sync: Mutex<OnSync>,
}

impl TestDisk {
    fn pins(&self) -> usize {
        fs::read_dir(self.home.join("pins")).unwrap().count()
    }
}

impl fmt::Debug for TestDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TestDisk").finish_non_exhaustive()
    }
}

impl Disk for TestDisk {
    fn sync_all(&self, _: &File) -> io::Result<()> {
        self.asked.lock().unwrap().push(Asked::All { pins: self.pins() });
        (self.on_sync.lock().unwrap())()
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let is_pins = path == self.home.join("pins");
        let asked = if is_pins { Asked::Pins { pins: self.pins() } } else { Asked::New };
        self.asked.lock().unwrap().push(asked);
        Ok(())
    }
}

/// A store on a disk that is told what to do, and what is asked of it.
fn on_test_disk(
    home: &Path,
    on_sync: impl FnMut() -> io::Result<()> + Send + 'static,
) -> (EmbeddedStore, Arc<Mutex<Vec<Asked>>>) {
    let asked = Arc::default();
    let disk = TestDisk {
        home: home.to_owned(),
        asked: Arc::clone(&asked),
        on_sync: Mutex::new(Box::new(on_sync)),
    };
    (EmbeddedStore::open_on(Box::new(disk), home.to_owned()).unwrap(), asked)
}

/// Fails the first time.
fn failing_once() -> impl FnMut() -> io::Result<()> {
    let mut is_first = true;
    move || {
        if std::mem::replace(&mut is_first, false) { Err(io::Error::other("lost")) } else { Ok(()) }
    }
}

fn file(store: &EmbeddedStore, cid: &Cid) -> PathBuf {
    let digest = BlockId::of(cid).unwrap().digest;
    let folder = store.shared.folder.path();
    folder.join("blocks").join(format!("{:02x}", digest[0])).join(cid.to_string())
}

/// A store with a graph of two leaves, all put and nothing pinned.
async fn with_graph(path: &Path) -> (EmbeddedStore, Cid, [Cid; 2]) {
    let store = EmbeddedStore::open(path).unwrap();
    let leaves = [raw(b"first"), raw(b"second")];
    let root = node(&[leaves[0].0, leaves[1].0]);
    let ids = [leaves[0].0, leaves[1].0];
    for (cid, block) in leaves.into_iter().chain([root.clone()]) {
        assert!(store.put(&cid, block).await.unwrap());
    }
    (store, root.0, ids)
}

#[tokio::test]
async fn everything_in_it_is_for_its_owner_alone() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, leaves) = with_graph(&home.path().join("store")).await;
    store.pin(&root).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = store.shared.folder.path();
    for folder in [folder, &folder.join("pins"), &folder.join("blocks/00")] {
        assert_eq!(mode(folder), 0o700, "{}", folder.display());
    }
    assert_eq!(mode(&file(&store, &leaves[0])), 0o600);
}

#[tokio::test]
async fn what_was_being_written_in_a_crash_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, _) = with_graph(home.path()).await;
    drop(store);
    fs::write(home.path().join("new/0"), b"half of a blo").unwrap();
    fs::write(home.path().join("new/17"), b"").unwrap();
    let store = EmbeddedStore::open(home.path()).unwrap();
    assert_eq!(fs::read_dir(home.path().join("new")).unwrap().count(), 0);
    let (cid, block) = raw(b"next");
    assert!(store.put(&cid, block).await.unwrap());
    store.pin(&root).await.unwrap();
    assert_eq!(fs::read_dir(home.path().join("new")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_pin_is_recorded_and_forgotten_on_the_disk_and_after_its_blocks() {
    let home = tempfile::tempdir().unwrap();
    let (store, asked) = on_test_disk(home.path(), || Ok(()));
    let (cid, block) = raw(b"block");
    store.put(&cid, block).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), []);
    store.pin(&cid).await.unwrap();
    let pinned = [Asked::All { pins: 0 }, Asked::New, Asked::Pins { pins: 1 }];
    assert_eq!(mem::take(&mut *asked.lock().unwrap()), pinned);
    store.unpin(&cid).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [Asked::Pins { pins: 0 }]);
}

#[tokio::test]
async fn what_the_disk_may_have_lost_is_absent_and_put_again() {
    let home = tempfile::tempdir().unwrap();
    let (store, _) = on_test_disk(home.path(), failing_once());
    let leaves = [raw(b"first"), raw(b"second")];
    let root = node(&[leaves[0].0, leaves[1].0]);
    let blocks = [&leaves[0], &leaves[1], &root];
    for (cid, block) in blocks {
        store.put(cid, block.clone()).await.unwrap();
    }
    let error = store.pin(&root.0).await.unwrap_err();
    assert!(matches!(error, ContentError::Unavailable { operation: "sync", .. }), "{error}");

    // The system reports a loss once; that the next wait succeeds says nothing about what was put before.
    let error = store.pin(&root.0).await.unwrap_err();
    assert!(matches!(error, ContentError::Absent { cid } if cid == root.0), "{error}");
    assert_eq!(store.pins().await.unwrap(), []);
    for (cid, block) in blocks {
        assert!(!store.has(cid).await.unwrap());
        assert!(store.put(cid, block.clone()).await.unwrap());
    }
    store.pin(&root.0).await.unwrap();
}

#[tokio::test]
async fn what_was_on_the_disk_before_a_loss_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut syncs = 0;
    let (store, _) = on_test_disk(home.path(), move || {
        syncs += 1;
        if syncs == 2 { Err(io::Error::other("lost")) } else { Ok(()) }
    });
    let (safe, lost) = (raw(b"safe"), raw(b"lost"));
    store.put(&safe.0, safe.1.clone()).await.unwrap();
    store.pin(&safe.0).await.unwrap();
    store.put(&lost.0, lost.1).await.unwrap();
    store.pin(&lost.0).await.unwrap_err();
    assert_eq!(store.get(&safe.0).await.unwrap(), Some(safe.1));
    assert_eq!(store.get(&lost.0).await.unwrap(), None);
    store.pin(&safe.0).await.unwrap();
}

#[tokio::test]
async fn what_is_put_while_a_wait_for_the_disk_fails_counts_as_lost() {
    let home = tempfile::tempdir().unwrap();
    let slot: Arc<Mutex<Option<EmbeddedStore>>> = Arc::default();
    let put = Arc::clone(&slot);
    let (store, _) = on_test_disk(home.path(), move || match put.lock().unwrap().take() {
        Some(store) => {
            let (cid, block) = raw(b"meanwhile");
            assert!(store.shared.put(&cid, &block).unwrap());
            Err(io::Error::other("lost"))
        }
        None => Ok(()),
    });
    let (cid, block) = raw(b"block");
    store.put(&cid, block).await.unwrap();
    *slot.lock().unwrap() = Some(store.clone());
    store.pin(&cid).await.unwrap_err();
    assert!(!store.has(&raw(b"meanwhile").0).await.unwrap());
}

#[tokio::test]
async fn what_may_be_lost_and_cannot_be_removed_is_not_believed() {
    let home = tempfile::tempdir().unwrap();
    let slot: Arc<Mutex<Option<PathBuf>>> = Arc::default();
    let obstacle = Arc::clone(&slot);
    let (store, _) = on_test_disk(home.path(), move || match obstacle.lock().unwrap().take() {
        Some(path) => {
            // A folder is no file that can be removed.
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            Err(io::Error::other("lost"))
        }
        None => Ok(()),
    });
    let (cid, block) = raw(b"block");
    store.put(&cid, block.clone()).await.unwrap();
    let path = file(&store, &cid);
    *slot.lock().unwrap() = Some(path.clone());
    store.pin(&cid).await.unwrap_err();

    // Its bytes come back, but only from memory.
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &block).unwrap();
    assert!(!store.has(&cid).await.unwrap());
    assert!(store.put(&cid, block).await.unwrap(), "the file was believed");
    store.pin(&cid).await.unwrap();
}

#[tokio::test]
async fn blocks_that_a_power_cut_emptied_are_put_again_and_not_pinned_before() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, leaves) = with_graph(home.path()).await;
    // The names are on the disk and the bytes are not.
    fs::write(file(&store, &leaves[0]), b"").unwrap();
    fs::write(file(&store, &leaves[1]), vec![0; 6]).unwrap();
    drop(store);

    let store = EmbeddedStore::open(home.path()).unwrap();
    let missing = store.pin(&root).await.unwrap_err();
    assert!(matches!(missing, ContentError::Absent { cid } if cid == leaves[0]), "{missing}");
    assert_eq!(store.pins().await.unwrap(), []);
    assert!(!store.has(&leaves[1]).await.unwrap());
    for (cid, block) in [raw(b"first"), raw(b"second")] {
        assert!(store.put(&cid, block.clone()).await.unwrap());
        assert_eq!(store.get(&cid).await.unwrap(), Some(block));
    }
    store.pin(&root).await.unwrap();
}

#[tokio::test]
async fn a_put_replaces_a_damaged_file_that_nobody_has_read() {
    let home = tempfile::tempdir().unwrap();
    let (store, _, leaves) = with_graph(home.path()).await;
    fs::write(file(&store, &leaves[0]), b"other").unwrap();
    drop(store);
    let store = EmbeddedStore::open(home.path()).unwrap();
    let (cid, block) = raw(b"first");
    assert!(store.put(&cid, block.clone()).await.unwrap());
    assert_eq!(fs::read(file(&store, &cid)).unwrap(), block);
}

#[tokio::test]
async fn a_block_that_rots_is_absent_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, leaves) = with_graph(home.path()).await;
    store.pin(&root).await.unwrap();
    let path = file(&store, &leaves[0]);
    for damaged in [b"First".to_vec(), b"first and more".to_vec(), vec![7; MAX_BLOCK + 2]] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(store.get(&leaves[0]).await.unwrap(), None);
        assert!(!path.exists());
        assert!(!store.has(&leaves[0]).await.unwrap());
        let (cid, block) = raw(b"first");
        assert!(store.put(&cid, block).await.unwrap());
    }
}

#[tokio::test]
async fn a_block_that_was_put_again_meanwhile_is_not_discarded() {
    let home = tempfile::tempdir().unwrap();
    let (store, _, leaves) = with_graph(home.path()).await;
    let id = BlockId::of(&leaves[0]).unwrap();
    assert_eq!(store.shared.discard(id).unwrap(), Some(Bytes::from_static(b"first")));
    assert!(store.has(&leaves[0]).await.unwrap());
}

#[tokio::test]
async fn a_failing_disk_is_not_an_absent_block() {
    let home = tempfile::tempdir().unwrap();
    let (store, _, leaves) = with_graph(home.path()).await;
    let path = file(&store, &leaves[0]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let store = EmbeddedStore::open(home.path()).unwrap();
    let (cid, block) = raw(b"first");
    for error in [store.get(&cid).await.unwrap_err(), store.put(&cid, block).await.unwrap_err()] {
        assert!(matches!(error, ContentError::Unavailable { .. }), "{error}");
    }

    let folder = &store.shared.folder;
    let new = folder.write(b"first").unwrap();
    folder.name(new, BlockId::of(&cid).unwrap()).unwrap_err();
    let left = fs::read_dir(home.path().join("new")).unwrap().count();
    assert_eq!(left, 0, "what could not be named stays");
}

#[tokio::test]
async fn nothing_is_collected_while_a_pinned_graph_cannot_be_read() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, leaves) = with_graph(home.path()).await;
    store.pin(&root).await.unwrap();
    let (cid, block) = raw(b"garbage");
    store.put(&cid, block).await.unwrap();
    let block = fs::read(file(&store, &root)).unwrap();
    fs::write(file(&store, &root), b"damaged").unwrap();
    let error = store.collect().await.unwrap_err();
    assert!(matches!(error, ContentError::Absent { cid } if cid == root), "{error}");
    for cid in leaves.iter().chain([&cid]) {
        assert!(store.has(cid).await.unwrap());
    }
    store.put(&root, block.into()).await.unwrap();
    assert_eq!(store.collect().await.unwrap(), 1);
}

#[tokio::test]
async fn files_of_others_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, _) = with_graph(home.path()).await;
    store.pin(&root).await.unwrap();
    let foreign = "pins/QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n";
    for stranger in ["pins/README", foreign, "blocks/00/README"] {
        fs::write(home.path().join(stranger), b"x").unwrap();
    }
    assert_eq!(store.pins().await.unwrap(), [root]);
    assert_eq!(store.collect().await.unwrap(), 0);
    assert!(home.path().join("blocks/00/README").exists());
}

#[tokio::test]
async fn forgetting_what_was_checked_costs_nothing_but_reading() {
    let home = tempfile::tempdir().unwrap();
    let (store, root, leaves) = with_graph(home.path()).await;
    for number in 0..u32::try_from(MAX_CHECKED).unwrap() {
        store
            .shared
            .state()
            .remember(BlockId { is_node: false, digest: digest(&number.to_be_bytes()) });
    }
    assert!(store.shared.state().checked.len() <= MAX_CHECKED);
    assert!(store.has(&leaves[0]).await.unwrap());
    store.pin(&root).await.unwrap();
}

#[test]
fn a_put_under_way_when_a_collection_begins_is_spared() {
    let home = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(home.path()).unwrap();
    let shared = &store.shared;
    let ids = [b"a", b"b", b"c"].map(|bytes| {
        let (cid, block) = raw(bytes);
        shared.put(&cid, &block).unwrap();
        BlockId::of(&cid).unwrap()
    });
    let put = UnderWay::begin(shared, ids[0]);
    let again = UnderWay::begin(shared, ids[0]);
    drop(again);
    let collection = Collection::begin(shared);
    drop(put);
    assert!(!shared.remove_unless_spared(ids[0]).unwrap(), "it was being put");
    drop(UnderWay::begin(shared, ids[1]));
    assert!(!shared.remove_unless_spared(ids[1]).unwrap(), "it was put since");
    assert!(shared.remove_unless_spared(ids[2]).unwrap());
    drop(collection);
    let _collection = Collection::begin(shared);
    assert!(shared.remove_unless_spared(ids[0]).unwrap(), "that was another collection");
}

#[test]
fn of_many_puts_of_one_block_one_says_that_it_was_new() {
    let home = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(home.path()).unwrap();
    for number in 0..100_u64 {
        let (cid, block) = raw(&number.to_be_bytes());
        let (begin, new) = (Barrier::new(4), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    begin.wait();
                    let is_new = store.shared.put(&cid, &block).unwrap();
                    new.fetch_add(usize::from(is_new), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(new.into_inner(), 1);
    }
}

/// Threads put blocks that a collection is about to remove. What was put while it runs is there afterwards.
#[test]
fn no_put_is_lost_to_a_collection() {
    const BLOCKS: u64 = 300;
    let home = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(home.path()).unwrap();
    let shared = &store.shared;
    let blocks: Vec<_> = (0..BLOCKS).map(|number| raw(&number.to_be_bytes())).collect();
    for seed in 1..=12_u64 {
        for (cid, block) in &blocks {
            shared.put(cid, block).unwrap();
        }
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let collected = shared.collect();
                is_over.store(true, Ordering::Release);
                collected.unwrap();
            });
            for thread in 0..2 {
                let (blocks, is_over) = (&blocks, &is_over);
                scope.spawn(move || {
                    let mut random = seed * 2 + thread;
                    while shared.state().spared.is_none() && !is_over.load(Ordering::Acquire) {
                        std::thread::yield_now();
                    }
                    while !is_over.load(Ordering::Acquire) {
                        // SplitMix64's step.
                        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let mixed = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                        let (cid, block) = &blocks[usize::try_from(mixed % BLOCKS).unwrap()];
                        let has_begun = shared.state().spared.is_some();
                        shared.put(cid, block).unwrap();
                        let is_there = shared.get(BlockId::of(cid).unwrap()).unwrap().is_some();
                        assert!(is_there || !has_begun, "seed {seed}: {cid} was lost");
                    }
                });
            }
        });
    }
}
