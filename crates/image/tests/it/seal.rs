//! What sealing gives, and that nothing comes out of it that should not.

use std::{
    collections::HashSet,
    fs::File,
    io::{Seek, SeekFrom, Write},
    sync::{Arc, mpsc},
    time::Duration,
};

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use ipld_dagpb::PbNode;
use proptest::prelude::*;
use roadstead_core::ports::{BlockSource, ContentError, ContentStore, LayerSource};
use roadstead_crypto::{DedupeSecret, sha256};
use roadstead_image::{
    Compression, OciImage, OpenLimits, ReadError, SealError, SealOptions, Sealed, open, seal,
};
use roadstead_types::{
    Cid,
    content::{DAG_PB, RAW, digest_of},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    format::Root,
    layout::{Layout, MANIFEST, Packing, noise},
    open::read_all,
    store::Memory,
};

pub(crate) const STORED: SealOptions =
    SealOptions { compression: Compression::Stored, max_layer: u64::MAX, max_image: u64::MAX };

pub(crate) fn secret(byte: u8) -> DedupeSecret {
    DedupeSecret::from_bytes(&[byte; 32]).unwrap()
}

pub(crate) async fn seal_with(
    layout: &Layout,
    store: &Memory,
    byte: u8,
    options: &SealOptions,
) -> Result<Sealed, SealError> {
    let image = Arc::new(layout.read().unwrap());
    seal(&image, &secret(byte), store, options, &mut |_| {}).await
}

pub(crate) async fn seal_into(layout: &Layout, store: &Memory, byte: u8) -> Sealed {
    seal_with(layout, store, byte, &SealOptions::default()).await.unwrap()
}

#[tokio::test]
async fn every_packing_gives_its_tar_back() {
    let text = b"the same line over and over\n".repeat(40_000);
    let noise = noise(1, 3 << 20);
    let layers: [&[u8]; 4] = [&text, &noise, b"", b"not a tar at all"];
    for packing in [Packing::Plain, Packing::Gzip, Packing::GzipTwice, Packing::Zstd] {
        for options in [SealOptions::default(), STORED] {
            let layout = Layout::of(&layers.map(|layer| (packing, layer)));
            let store = Arc::new(Memory::default());
            let sealed = seal_with(&layout, &store, 7, &options).await.unwrap();
            let limits = OpenLimits::for_bytes(8 << 20);
            let opened = open(&sealed.reference, store, &limits).await.unwrap();
            let image = layout.read().unwrap();
            assert_eq!((opened.image(), opened.config()), (image.image(), image.config()));
            assert_eq!(opened.manifest(), image.manifest());
            assert_eq!(opened.pinned(), sealed.pinned);
            assert_eq!(opened.platform().to_string(), "linux/amd64");
            assert_eq!((opened.layers().len(), sealed.layers), (4, 4));
            for (index, expected) in layers.iter().enumerate() {
                let layer = opened.layers()[index];
                assert_eq!(layer.diff_id, sha256(expected));
                assert_eq!(usize::try_from(layer.size).unwrap(), expected.len());
                assert!(
                    read_all(&opened, index).await.unwrap() == *expected,
                    "{packing:?} {index}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_second_publication_moves_nothing() {
    let base = noise(1, 5 << 20);
    let store = Memory::default();
    let layout = Layout::of(&[(Packing::Plain, &base), (Packing::Gzip, &[1; 4096])]);
    let first = seal_into(&layout, &store, 7).await;
    assert_eq!(first.counts.new_blocks, u64::try_from(store.blocks().len()).unwrap());
    assert_eq!(first.counts.raw_bytes, (5 << 20) + 4096);

    let elsewhere = Layout::of(&[(Packing::Plain, &base), (Packing::Gzip, &[1; 4096])]);
    let second = seal_into(&elsewhere, &store, 7).await;
    assert_eq!(second.reference, first.reference);
    assert_eq!((second.counts.new_blocks, second.counts.new_bytes), (0, 0));
    assert_eq!(second.counts.blocks, first.counts.blocks);

    // An image with one more layer on the same base brings that layer, and what names it.
    let larger = Layout::of(&[
        (Packing::Gzip, &base),
        (Packing::Gzip, &[1; 4096]),
        (Packing::Plain, b"new"),
    ]);
    let third = seal_into(&larger, &store, 7).await;
    assert_eq!(third.counts.new_blocks, 4, "chunk, root, index file and folder");
}

#[tokio::test]
async fn a_small_change_moves_a_small_part() {
    let before = noise(1, 8 << 20);
    let mut after = before.clone();
    after.splice(3 << 20..3 << 20, *b"inserted");
    let store = Memory::default();
    seal_into(&Layout::of(&[(Packing::Plain, &before)]), &store, 7).await;
    let counts = seal_into(&Layout::of(&[(Packing::Gzip, &after)]), &store, 7).await.counts;
    assert!(counts.new_bytes < 2 << 20, "{counts:?}");
}

#[tokio::test]
async fn two_publishers_and_two_domains_share_no_block() {
    let layer = noise(1, 2 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer), (Packing::Plain, b"x")]);
    let image = Arc::new(layout.read().unwrap());
    let mut seen = HashSet::new();
    for secret in [secret(7), secret(8), secret(7).domain("one"), secret(7).domain("two")] {
        let store = Memory::default();
        seal(&image, &secret, &store, &SealOptions::default(), &mut |_| {}).await.unwrap();
        for cid in store.blocks().keys() {
            assert!(seen.insert(*cid), "{cid} twice");
        }
    }
}

#[tokio::test]
async fn the_graph_holds_every_block_in_reading_order() {
    let layer = noise(1, 3 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer), (Packing::Plain, b"")]);
    let store = Memory::default();
    let sealed = seal_into(&layout, &store, 7).await;
    let folder = node(&store, &sealed.reference.root);
    let names: Vec<_> = folder.links.iter().map(|link| link.name.clone().unwrap()).collect();
    assert_eq!(names, ["index", "layer-0000", "layer-0001"]);

    let root = Root::of(&store, &sealed.reference);
    let (chunks, top) = root.layers[0].content.clone().unwrap();
    assert_eq!(
        leaves(&store, &folder.links[0].cid),
        [sealed.reference.index.digest, top.digest],
        "the root of the index, then its list"
    );
    let list = crate::format::list(&crate::format::unseal(
        &store,
        roadstead_crypto::ChunkKind::List,
        &top,
    ));
    let data: Vec<_> = list.iter().map(|reference| reference.digest).collect();
    assert_eq!(u64::try_from(data.len()).unwrap(), chunks);
    assert_eq!(leaves(&store, &folder.links[1].cid), data);
    assert!(leaves(&store, &folder.links[2].cid).is_empty());

    let mut reached = HashSet::from([sealed.reference.root]);
    for link in &folder.links {
        reach(&store, &link.cid, &mut reached);
    }
    assert_eq!(reached.len(), store.blocks().len());
}

fn node(store: &Memory, cid: &Cid) -> PbNode {
    PbNode::from_bytes(store.blocks()[cid].clone()).unwrap()
}

fn leaves(store: &Memory, cid: &Cid) -> Vec<B256> {
    match cid.codec() {
        RAW => vec![digest_of(cid).unwrap()],
        codec => {
            assert_eq!(codec, DAG_PB);
            node(store, cid).links.iter().flat_map(|link| leaves(store, &link.cid)).collect()
        }
    }
}

fn reach(store: &Memory, cid: &Cid, reached: &mut HashSet<Cid>) {
    assert!(store.blocks().contains_key(cid));
    reached.insert(*cid);
    if cid.codec() == DAG_PB {
        node(store, cid).links.iter().for_each(|link| reach(store, &link.cid, reached));
    }
}

/// The vector of `docs/format-image.md`: the same secret and the same image give these ids for ever. Chunks are stored,
/// so another version of the compressor changes nothing here.
#[tokio::test]
async fn the_format_never_changes() {
    let (lower, upper) = (noise(1, 3 << 20), b"roadstead");
    let layout = Layout::empty();
    for layer in [&*lower, upper] {
        layout.blob(Packing::Plain.media_type(), layer);
    }
    let (lower, upper) = (sha256(&lower), sha256(upper));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{lower:x}","sha256:{upper:x}"]}}}}"#
    );
    layout.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{:x}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{lower:x}","size":3145728}},{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{upper:x}","size":9}}]}}"#,
        sha256(config.as_bytes()),
        config.len(),
    );
    layout.index(&[layout.blob(MANIFEST, manifest.as_bytes())]);
    let store = Memory::default();
    let sealed = seal_with(&layout, &store, 7, &STORED).await.unwrap();
    let reference = sealed.reference;
    let text = |bytes: &[u8]| alloy_primitives::hex::encode(bytes);
    assert_eq!(
        reference.image.to_string(),
        "sha256:7945dec57d06336a6cfabc946dc7348b890f181e367204021bc8ea201847216d"
    );
    assert_eq!(
        reference.root.to_string(),
        "bafybeifs3xdnpgolby6rq4fumqhjm6upglry7cv3s2ywtfkmfrgxrqgegq"
    );
    assert_eq!(
        text(reference.index.digest.as_slice()),
        "b7d8af58308a4627c86bac1be943034a19880271dc26a8fc6363d9c835b14414"
    );
    assert_eq!(
        text(reference.index.key.as_bytes()),
        "ce7de8a0ac56bb6b5d7f0f8bcf1a695e884db836d81e38d51483075f0d39668e"
    );
    assert_eq!(
        text(reference.index_digest.as_slice()),
        "067fc5f67a1312f77f7066eb19ea82cd0534a5d19652f59cc421417987fd73c3"
    );
    assert_eq!((reference.index.length, reference.index.raw_length), (920, 903));
    assert_eq!(sealed.counts.blocks, 17);
}

#[tokio::test]
async fn progress_goes_up_to_the_whole() {
    let layer = noise(1, 3 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer), (Packing::Gzip, &layer)]);
    let image = Arc::new(layout.read().unwrap());
    let mut events = Vec::new();
    seal(&image, &secret(7), &Memory::default(), &SealOptions::default(), &mut |event| {
        events.push(event);
    })
    .await
    .unwrap();
    let size: u64 = image.layers().iter().map(|layer| layer.size).sum();
    assert!(events.is_sorted_by_key(|event| (event.layer, event.read)));
    assert!(events.iter().all(|event| event.layers == 2 && event.size == size));
    assert!(events.iter().any(|event| event.layer == 0 && event.read < size / 2));
    assert_eq!(events.last().unwrap().read, size);
    assert_eq!(events.last().unwrap().layer, 1);
}

#[tokio::test]
async fn a_bomb_and_a_large_image_stop_at_their_bounds() {
    // It compresses well, and no chunk of it is like another, so that everything that was sealed is in the store.
    let numbers: Vec<u8> =
        (0..8_u32 << 20).flat_map(|number| (number / 16).to_le_bytes()).collect();
    for packing in [Packing::Gzip, Packing::Zstd] {
        assert!(packing.pack(&numbers).len() < numbers.len() / 8);
        let layout = Layout::of(&[(packing, &numbers)]);
        let store = Memory::default();
        let options = SealOptions { max_layer: 8 << 20, ..STORED };
        let error = seal_with(&layout, &store, 7, &options).await.unwrap_err();
        assert!(
            matches!(error, SealError::Read(ReadError::TooLarge { max, .. }) if max == 8 << 20),
            "{error:?}"
        );
        let sealed: usize = store.blocks().values().map(Bytes::len).sum();
        assert!((1 << 20..(8 << 20) + 4096).contains(&sealed), "{sealed}");
    }
    let layer = noise(1, 1 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer), (Packing::Plain, &layer)]);
    let bound = |max_image| SealOptions { max_image, ..SealOptions::default() };
    let store = Memory::default();
    let error = seal_with(&layout, &store, 7, &bound((2 << 20) - 1)).await.unwrap_err();
    assert!(matches!(error, SealError::TooLarge { max } if max == (2 << 20) - 1), "{error:?}");
    seal_with(&layout, &store, 7, &bound(2 << 20)).await.unwrap();
}

#[tokio::test]
async fn layers_that_are_not_what_the_image_names_are_refused() {
    let tar = noise(1, 300_000);
    let layout = Layout::empty();
    let right = format!("sha256:{:x}", sha256(&tar));
    let refused = async |blob: serde_json::Value, diff_id: &str| {
        let manifest = layout.image_of("amd64", &[blob], &[diff_id.into()]);
        layout.index(&[manifest]);
        let error = seal_with(&layout, &Memory::default(), 7, &STORED).await.unwrap_err();
        let SealError::Read(error) = error else { panic!("{error:?}") };
        error
    };
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let packed = packing.pack(&tar);
        let blob = layout.blob(packing.media_type(), &packed);
        let other = format!("sha256:{:x}", sha256(b"other"));
        let error = refused(blob.clone(), &other).await;
        assert!(matches!(error, ReadError::Mismatch { property: "diff id", .. }), "{error:?}");

        // A blob that unpacks to the right tar but is not the one that was pinned.
        let path = layout.blob_path(sha256(&packed));
        let mut changed = packed.clone();
        let last = if matches!(packing, Packing::Gzip) { 4 } else { changed.len() - 1 };
        changed[last] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        let error = refused(blob.clone(), &right).await;
        let digest = matches!(error, ReadError::Mismatch { property: "digest", .. });
        assert!(digest || matches!(error, ReadError::Corrupt { .. }), "{error:?}");
        assert!(digest || matches!(packing, Packing::Zstd), "{packing:?} {error:?}");

        std::fs::write(&path, [&*packed, b"x"].concat()).unwrap();
        let error = refused(blob.clone(), &right).await;
        assert!(matches!(error, ReadError::Mismatch { property: "size", .. }), "{error:?}");

        let mut wrong = blob;
        wrong["size"] = u64::MAX.into();
        let error = refused(wrong, &right).await;
        assert!(matches!(error, ReadError::Mismatch { property: "size", .. }), "{error:?}");
    }
    for packing in [Packing::Gzip, Packing::Zstd] {
        let longer = [&*packing.pack(&tar), b"something behind"].concat();
        let error = refused(layout.blob(packing.media_type(), &longer), &right).await;
        assert!(matches!(error, ReadError::Corrupt { .. }), "{packing:?} {error:?}");
    }
    let cut = &Packing::Gzip.pack(&tar)[..1000];
    let error = refused(layout.blob(Packing::Gzip.media_type(), cut), &right).await;
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error:?}");
    let error = refused(layout.blob(Packing::Gzip.media_type(), &tar), &right).await;
    assert!(matches!(error, ReadError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn documents_that_fill_a_block_are_refused() {
    let layers =
        [(Packing::Plain, &*noise(1, 300_000)), (Packing::Gzip, b""), (Packing::Gzip, b"x")];
    let layout = Layout::of(&layers);
    let image = layout.read().unwrap();
    // Two layers with a reference, and one that has none because it is empty.
    let around = 1 + 4 + 4 + 1 + 2 * (17 + 72) + 17;
    let with_root_of = |length: usize| {
        let mut config: serde_json::Value = serde_json::from_slice(image.config()).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(image.manifest()).unwrap();
        let mut comment = |comment: usize| {
            config["comment"] = "x".repeat(comment).into();
            let config = config.to_string();
            manifest["config"] =
                layout.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
            (around + config.len() + manifest.to_string().len(), manifest.clone())
        };
        // The first is as many digits long as the second, so only the comment makes the difference.
        let (shorter, _) = comment(length - 10_000);
        let (found, manifest) = comment(length - 10_000 + length - shorter);
        assert_eq!(found, length);
        layout.index(&[layout.blob(MANIFEST, manifest.to_string().as_bytes())]);
    };
    let most = (1 << 20) - 64;
    with_root_of(most);
    let sealed = seal_with(&layout, &Memory::default(), 7, &STORED).await.unwrap();
    assert_eq!(usize::try_from(sealed.reference.index.raw_length), Ok(most));
    with_root_of(most + 1);
    let store = Memory::default();
    let error = seal_with(&layout, &store, 7, &STORED).await.unwrap_err();
    assert!(
        matches!(error, SealError::TooMuchDescription { size } if size == most + 1),
        "{error:?}"
    );
    // It is known before the layers are sealed, which may take hours.
    assert!(store.blocks().is_empty());
}

/// A store that never finishes what it is asked, or says that it cannot.
struct Stuck {
    asked: Notify,
    fails: bool,
}

#[async_trait]
impl BlockSource for Stuck {
    async fn get(&self, _: &Cid) -> Result<Option<Bytes>, ContentError> {
        Ok(None)
    }
}

#[async_trait]
impl ContentStore for Stuck {
    async fn put(&self, cid: &Cid, _: Bytes) -> Result<bool, ContentError> {
        if self.fails {
            return Err(ContentError::TooLarge { cid: *cid });
        }
        self.asked.notify_one();
        std::future::pending().await
    }

    async fn has(&self, _: &Cid) -> Result<bool, ContentError> {
        Ok(false)
    }

    async fn pin(&self, _: &Cid) -> Result<(), ContentError> {
        Ok(())
    }

    async fn unpin(&self, _: &Cid) -> Result<(), ContentError> {
        Ok(())
    }

    async fn pins(&self) -> Result<Vec<Cid>, ContentError> {
        Ok(Vec::new())
    }

    async fn collect(&self) -> Result<u64, ContentError> {
        Ok(0)
    }
}

/// Runs until the store was asked once, drops everything, and waits for the threads. A thread that does not end keeps
/// the runtime from ending; the bound is only there so that this test fails instead of waiting for ever.
fn abandon(image: Arc<OciImage>) {
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let store = Stuck { asked: Notify::new(), fails: false };
            let (options, mut ignore) = (SealOptions::default(), |_| {});
            let secret = secret(7);
            tokio::select! {
                _ = seal(&image, &secret, &store, &options, &mut ignore) => unreachable!(),
                () = store.asked.notified() => {}
            }
        });
        drop(runtime);
        done.send(Arc::strong_count(&image)).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(1));
}

#[test]
fn a_call_that_is_dropped_stops_its_threads() {
    let layer = noise(1, 24 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer)]);
    abandon(Arc::new(layout.read().unwrap()));
}

/// A quarter of a terabyte that unpacks to nothing: reading it takes minutes.
#[test]
fn a_call_that_is_dropped_does_not_read_on() {
    let layout = Layout::empty();
    let path = layout.blob_path(B256::ZERO);
    let mut file = File::create(&path).unwrap();
    // Few enough chunks that the reader never waits for the store.
    file.write_all(&Packing::Zstd.pack(&noise(1, 1 << 20))).unwrap();
    for _ in 0..64 {
        file.write_all(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0xff]).unwrap();
        file.seek(SeekFrom::Current(0xff00_0000)).unwrap();
    }
    let size = file.stream_position().unwrap();
    file.set_len(size).unwrap();
    let digest = format!("sha256:{:x}", B256::ZERO);
    let blob = json!({ "mediaType": Packing::Zstd.media_type(), "digest": digest, "size": size });
    layout.index(&[layout.image_of("amd64", &[blob], &[digest])]);
    abandon(Arc::new(layout.read().unwrap()));
}

#[tokio::test]
async fn a_store_that_fails_ends_the_call() {
    let layer = noise(1, 24 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer)]);
    let image = Arc::new(layout.read().unwrap());
    let store = Stuck { asked: Notify::new(), fails: true };
    // In a task of its own, as whoever publishes calls it.
    let call =
        tokio::spawn(async move { seal(&image, &secret(7), &store, &STORED, &mut |_| {}).await });
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, SealError::Store(ContentError::TooLarge { .. })), "{error:?}");
}

/// Layers with repetitions, runs and noise.
fn layer() -> impl Strategy<Value = Vec<u8>> {
    let part = (0_u8..4, 0_usize..600_000).prop_map(|(seed, length)| match seed {
        0 => vec![0; length],
        1 => b"a line of text\n".iter().copied().cycle().take(length).collect(),
        seed => noise(seed, length),
    });
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_image_comes_back(
        layers in proptest::collection::vec((0_usize..4, layer()), 0..4),
        stored in any::<bool>(),
    ) {
        let packings = [Packing::Plain, Packing::Gzip, Packing::GzipTwice, Packing::Zstd];
        let packed: Vec<_> =
            layers.iter().map(|(packing, tar)| (packings[*packing], &**tar)).collect();
        let layout = Layout::of(&packed);
        let options = if stored { STORED } else { SealOptions::default() };
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let store = Arc::new(Memory::default());
            let sealed = seal_with(&layout, &store, 7, &options).await.unwrap();
            let limits = OpenLimits::for_bytes(sealed.counts.raw_bytes);
            let opened = open(&sealed.reference, store, &limits).await.unwrap();
            for (index, (_, tar)) in layers.iter().enumerate() {
                assert!(read_all(&opened, index).await.unwrap() == *tar);
            }
        });
    }
}
