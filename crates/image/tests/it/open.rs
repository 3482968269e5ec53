//! Everything that can be done to a sealed image, and that none of it passes for the image.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{BlockSource, ContentError, LayerSource, OpenError};
use roadstead_crypto::ChunkKind;
use roadstead_image::{OpenLimits, OpenedImage, open};
use roadstead_types::{
    ChunkKey, ChunkRef, Cid, ImageReference,
    content::{RAW, content_id},
};
use tokio::time::{sleep, timeout};

use crate::{
    format::{Layer, Root, list, list_bytes, reseal, reseal_stored, unseal},
    layout::{Layout, Packing, noise},
    seal::{STORED, seal_into, seal_with, secret},
    store::Memory,
};

const LIMITS: OpenLimits = OpenLimits { bytes: 16 << 20, layers: 127, chunks: 10_000 };

pub(crate) async fn read_all(image: &OpenedImage, index: usize) -> Result<Vec<u8>, OpenError> {
    let mut reader = image.read(index).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!((1..=1 << 20).contains(&piece.len()));
        bytes.extend_from_slice(&piece);
    }
    assert!(reader.next().await.unwrap().is_none(), "an end is an end");
    Ok(bytes)
}

/// Opens the image and reads all of it.
async fn whole(reference: &ImageReference, store: &Arc<Memory>) -> Result<Vec<Vec<u8>>, OpenError> {
    let opened = open(reference, Arc::clone(store) as _, &LIMITS).await?;
    let mut layers = Vec::new();
    for index in 0..opened.layers().len() {
        layers.push(read_all(&opened, index).await?);
    }
    Ok(layers)
}

/// A sealed image of one layer of several chunks and one of a single chunk.
struct Sealed {
    store: Arc<Memory>,
    reference: ImageReference,
    root: Root,
    /// Chunks of the first layer.
    list: Vec<ChunkRef>,
}

async fn sealed(seed: u8, publisher: u8) -> Sealed {
    let store = Arc::new(Memory::default());
    let layer = noise(seed, 2 << 20);
    let layout = Layout::of(&[(Packing::Plain, &layer), (Packing::Plain, &[seed; 999])]);
    let reference = seal_with(&layout, &store, publisher, &STORED).await.unwrap().reference;
    let root = Root::of(&store, &reference);
    let list = list(&unseal(&store, ChunkKind::List, &root.layers[0].content.as_ref().unwrap().1));
    assert!(list.len() > 4);
    assert_eq!(whole(&reference, &store).await.unwrap(), [layer, vec![seed; 999]]);
    Sealed { store, reference, root, list }
}

impl Sealed {
    /// The image with another root of its index, which the reference names.
    fn with_root(&self, change: impl FnOnce(&mut Root)) -> ImageReference {
        let mut root = self.root.clone();
        change(&mut root);
        root.seal(&self.store, &secret(7), &self.reference)
    }

    /// The image with another list in its first layer.
    fn with_list(&self, change: impl FnOnce(&mut Vec<ChunkRef>)) -> ImageReference {
        let mut list = self.list.clone();
        change(&mut list);
        let top = reseal_stored(&self.store, &secret(7), ChunkKind::List, &list_bytes(&list));
        let chunks = u64::try_from(list.len()).unwrap();
        let size = list.iter().map(|chunk| u64::from(chunk.raw_length)).sum();
        self.with_root(|root| {
            root.layers[0] = Layer { size, headers: None, content: Some((chunks, top)) };
        })
    }

    async fn refused(&self, reference: &ImageReference) -> String {
        match whole(reference, &self.store).await {
            Ok(_) => panic!("it was opened"),
            Err(OpenError::Damaged { reason } | OpenError::TooLarge { reason }) => reason,
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_block_that_was_changed_cut_or_lost_is_noticed() {
    let image = sealed(1, 7).await;
    let top = image.root.layers[0].content.clone().unwrap().1;
    let single = image.root.layers[1].content.clone().unwrap().1;
    for victim in
        [&image.reference.index, &top, &image.list[0], image.list.last().unwrap(), &single]
    {
        let cid = content_id(RAW, victim.digest);
        let good = image.store.blocks()[&cid].clone();
        let put = |block: Vec<u8>| image.store.blocks().insert(cid, Bytes::from(block));
        for place in [0, good.len() / 2, good.len() - 17, good.len() - 1] {
            let mut block = good.to_vec();
            block[place] ^= 0x80;
            put(block);
            assert!(image.refused(&image.reference).await.contains("digest"));
        }
        put(good[1..].to_vec());
        assert!(image.refused(&image.reference).await.contains("length"));
        put([&*good, &[0]].concat());
        assert!(image.refused(&image.reference).await.contains("length"));
        put(Vec::new());
        assert!(image.refused(&image.reference).await.contains("length"));
        image.store.blocks().remove(&cid);
        let error = whole(&image.reference, &image.store).await.unwrap_err();
        let absent =
            matches!(error, OpenError::Content(ContentError::Absent { cid: lost }) if lost == cid);
        assert!(absent, "{error:?}");
        put(good.to_vec());
    }
    whole(&image.reference, &image.store).await.unwrap();
}

#[tokio::test]
async fn a_reference_is_bound_to_one_content() {
    let image = sealed(1, 7).await;
    let other = sealed(2, 7).await;
    image.store.blocks().extend(other.store.blocks().drain());
    let (one, two) = (&image.reference, &other.reference);
    let mixed = ImageReference { index: two.index.clone(), ..one.clone() };
    assert!(image.refused(&mixed).await.contains("another one"));
    let mixed = ImageReference { index_digest: two.index_digest, ..one.clone() };
    assert!(image.refused(&mixed).await.contains("another one"));
    let mixed = ImageReference { image: two.image, ..one.clone() };
    assert!(image.refused(&mixed).await.contains("another image"));
    let mut mixed = one.clone();
    mixed.index.key = two.index.key.clone();
    assert!(image.refused(&mixed).await.contains("key"));
    for lengths in [(0, 0), (16, 1), (u32::MAX, u32::MAX), (1 << 20, 1 << 20)] {
        let mut mixed = one.clone();
        (mixed.index.length, mixed.index.raw_length) = lengths;
        assert!(image.refused(&mixed).await.contains("lengths"));
    }
    for change in [1, u32::MAX] {
        let mut mixed = one.clone();
        mixed.index.raw_length = mixed.index.raw_length.wrapping_add(change);
        image.refused(&mixed).await;
    }
}

#[tokio::test]
async fn chunks_in_another_order_number_or_image_are_noticed() {
    let image = sealed(1, 7).await;
    let other = sealed(2, 7).await;
    image.store.blocks().extend(other.store.blocks().drain());
    assert!(whole(&image.with_list(|_| {}), &image.store).await.is_ok());
    type Change<'a> = &'a dyn Fn(&mut Vec<ChunkRef>);
    let changes: [Change<'_>; 7] = [
        &|list| list.swap(0, 1),
        &|list| list[1] = list[0].clone(),
        &|list| list.push(list[0].clone()),
        &|list| drop(list.pop()),
        &|list| drop(list.remove(0)),
        &|list| list[0] = other.list[0].clone(),
        &|list| list.clone_from(&other.list),
    ];
    for change in changes {
        let reason = image.refused(&image.with_list(change)).await;
        assert!(reason.contains("another digest than the configuration"), "{reason}");
    }
    let spliced = image.with_root(|root| root.layers[0] = other.root.layers[0].clone());
    assert!(image.refused(&spliced).await.contains("configuration"));
    let swapped = image.with_root(|root| root.layers.swap(0, 1));
    assert!(image.refused(&swapped).await.contains("configuration"));
    let lost = image.with_root(|root| drop(root.layers.pop()));
    assert!(image.refused(&lost).await.contains("number of layers"));
    let twice = image.with_root(|root| root.layers.push(root.layers[0].clone()));
    assert!(image.refused(&twice).await.contains("number of layers"));
    let emptied = image.with_root(|root| {
        root.layers[1] = Layer { size: 0, headers: None, content: None };
    });
    assert!(image.refused(&emptied).await.contains("configuration"));
}

#[tokio::test]
async fn keys_and_kinds_of_others_open_nothing() {
    let image = sealed(1, 7).await;
    let stranger = sealed(1, 8).await;
    let with_key = |key: ChunkKey| image.with_list(|list| list[0].key = key);
    assert!(image.refused(&with_key(stranger.list[0].key.clone())).await.contains("key"));
    assert!(image.refused(&with_key(ChunkKey::new([0; 32]))).await.contains("key"));
    // The right bytes, sealed as something else.
    let content = unseal(&image.store, ChunkKind::Data, &image.list[0]);
    for kind in [ChunkKind::List, ChunkKind::Root] {
        let chunk = reseal_stored(&image.store, &secret(7), kind, &content);
        assert!(image.refused(&image.with_list(|list| list[0] = chunk)).await.contains("key"));
    }
    let bytes = list_bytes(&image.list);
    for kind in [ChunkKind::Data, ChunkKind::Root] {
        let top = reseal_stored(&image.store, &secret(7), kind, &bytes);
        let wrong = image.with_root(|root| root.layers[0].content.as_mut().unwrap().1 = top);
        assert!(image.refused(&wrong).await.contains("key"));
    }
    // A chunk where a list should be, and a list where a chunk should be.
    let chunk = image.list[0].clone();
    let wrong = image.with_root(|root| root.layers[0].content.as_mut().unwrap().1 = chunk);
    assert!(image.refused(&wrong).await.contains("list"));
    let top = image.root.layers[0].content.clone().unwrap().1;
    let wrong = image.with_root(|root| {
        let size = u64::from(top.raw_length);
        root.layers[0] = Layer { size, headers: None, content: Some((1, top)) };
    });
    assert!(image.refused(&wrong).await.contains("key"));
}

#[tokio::test]
async fn lengths_and_counts_that_lie_are_noticed() {
    let image = sealed(1, 7).await;
    for change in [1, u32::MAX] {
        let longer = |length: &mut u32| *length = length.wrapping_add(change);
        let both = |chunk: &mut ChunkRef| {
            longer(&mut chunk.length);
            longer(&mut chunk.raw_length);
        };
        let reason = image.refused(&image.with_list(|list| both(&mut list[0]))).await;
        assert!(reason.contains("length"), "{reason}");
        image.refused(&image.with_list(|list| longer(&mut list[0].raw_length))).await;
        image.refused(&image.with_list(|list| longer(&mut list[0].length))).await;
    }
    for size in [0, 1, 1 << 20, 3 << 20, 1 << 63, u64::MAX] {
        let wrong = image.with_root(|root| root.layers[0].size = size);
        let error = whole(&wrong, &image.store).await.unwrap_err();
        let expected = matches!(error, OpenError::Damaged { .. } | OpenError::TooLarge { .. });
        assert!(expected, "{size}: {error:?}");
    }
    let size = image.root.layers[0].size;
    for (size, expected) in [(size + 1, "shorter"), (size - 1, "longer")] {
        let wrong = image.with_root(|root| root.layers[0].size = size);
        // The lists are part of the index, so this shows before any layer is read.
        assert!(open(&wrong, Arc::clone(&image.store) as _, &LIMITS).await.is_err());
        assert!(image.refused(&wrong).await.contains(expected));
    }
    let count = image.root.layers[0].content.as_ref().unwrap().0;
    for (chunks, expected) in [
        (count + 1, "list"),
        (count - 1, "list"),
        (1, "cannot have"),
        (u64::MAX, "cannot have"),
        (size, "allowed"),
        (10_000, "allowed"),
    ] {
        let wrong = image.with_root(|root| root.layers[0].content.as_mut().unwrap().0 = chunks);
        let reason = image.refused(&wrong).await;
        assert!(reason.contains(expected), "{chunks}: {reason}");
    }
    // A list that says less or more than it must.
    for length in [0, 71, image.list.len() * 72 - 1, image.list.len() * 72 + 1] {
        let mut bytes = list_bytes(&image.list);
        bytes.resize(length, 0);
        let top = reseal_stored(&image.store, &secret(7), ChunkKind::List, &bytes);
        let wrong = image.with_root(|root| root.layers[0].content.as_mut().unwrap().1 = top);
        let reason = image.refused(&wrong).await;
        assert!(reason.contains("length"), "{reason}");
    }
}

#[tokio::test]
async fn a_bomb_in_a_chunk_does_not_go_off() {
    let image = sealed(1, 7).await;
    let bomb = zstd::encode_all(&*vec![0; 64 << 20], 1).unwrap();
    let plaintext = [&[1], &*bomb].concat();
    let stated = usize::try_from(image.list[0].raw_length).unwrap();
    let chunk = reseal(&image.store, &secret(7), ChunkKind::Data, &plaintext, stated);
    let reason = image.refused(&image.with_list(|list| list[0] = chunk)).await;
    assert!(reason.contains("length"), "{reason}");

    let chunk = reseal(&image.store, &secret(7), ChunkKind::Data, &[9, 1, 2, 3], 3);
    image.refused(&image.with_list(|list| list[0] = chunk)).await;

    // The index is never compressed.
    let bytes = list_bytes(&image.list);
    let packed = [&[1], &*zstd::encode_all(&*bytes, 1).unwrap()].concat();
    let mut top = reseal(&image.store, &secret(7), ChunkKind::List, &packed, bytes.len());
    top.length = top.length.min(top.raw_length + 17);
    let wrong = image.with_root(|root| root.layers[0].content.as_mut().unwrap().1 = top);
    image.refused(&wrong).await;
}

#[tokio::test]
async fn the_root_has_one_form_and_fitting_documents() {
    let image = sealed(1, 7).await;
    let other = sealed(2, 7).await;
    let top = image.list[0].clone();
    type Change<'a> = &'a dyn Fn(&mut Root);
    let changes: [(&str, Change<'_>); 8] = [
        ("version", &|root| root.version = 2),
        ("follows", &|root| root.rest = vec![0]),
        ("form", &|root| root.layers[0].headers = Some((1, top.clone()))),
        ("manifest cannot be read at line 1, column 2", &|root| root.manifest = b"{}".to_vec()),
        ("manifest cannot be read at line 2, column 14", &|root| {
            root.manifest = b"{\n\"mediaType\": 7}".to_vec();
        }),
        ("another digest", &|root| root.config.clone_from(&other.root.config)),
        ("another size", &|root| root.config.push(b' ')),
        ("another image", &|root| {
            root.manifest.clone_from(&other.root.manifest);
            root.config.clone_from(&other.root.config);
        }),
    ];
    for (expected, change) in changes {
        let reason = image.refused(&image.with_root(change)).await;
        assert!(reason.contains(expected), "{expected}: {reason}");
    }
}

#[tokio::test]
async fn bounds_hold_before_a_layer_is_read() {
    let image = sealed(1, 7).await;
    let bytes = (2 << 20) + 999;
    let chunks = u64::try_from(image.list.len()).unwrap() + 1;
    let exact = OpenLimits { bytes, layers: 2, chunks };
    let opened = async |limits: OpenLimits| {
        open(&image.reference, Arc::clone(&image.store) as _, &limits).await
    };
    assert!(opened(exact).await.is_ok());
    for (limits, expected) in [
        (OpenLimits { bytes: bytes - 1, ..exact }, "bytes"),
        (OpenLimits { layers: 1, ..exact }, "layers"),
        (OpenLimits { chunks: chunks - 1, ..exact }, "chunks"),
    ] {
        let error = opened(limits).await.unwrap_err();
        let OpenError::TooLarge { reason } = error else { panic!("{error:?}") };
        assert!(reason.contains(expected), "{reason}");
    }
    // Two sizes whose sum does not fit into 64 bits.
    let huge = image.with_root(|root| {
        for layer in &mut root.layers {
            layer.size = 1 << 63;
            layer.content.as_mut().unwrap().0 = 1 << 50;
        }
    });
    let limits = OpenLimits { bytes: u64::MAX - 1, layers: 2, chunks: u64::MAX };
    let error = open(&huge, Arc::clone(&image.store) as _, &limits).await.unwrap_err();
    assert!(matches!(error, OpenError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_layer_index_is_an_error() {
    let image = sealed(1, 7).await;
    let opened = open(&image.reference, Arc::clone(&image.store) as _, &LIMITS).await.unwrap();
    assert!(matches!(opened.read(2).await, Err(OpenError::Failed(_))));
}

/// One chunk of one byte, 8193 times: more than one list holds.
#[tokio::test]
async fn lists_of_lists_are_opened_and_counted() {
    let count = 8193;
    let layout = Layout::of(&[(Packing::Plain, &vec![5; count])]);
    let store = Arc::new(Memory::default());
    let reference = seal_into(&layout, &store, 7).await.reference;
    let chunk = reseal_stored(&store, &secret(7), ChunkKind::Data, &[5]);
    let lists = |lengths: &[usize]| {
        let lists: Vec<_> = lengths
            .iter()
            .map(|length| list_bytes(&vec![chunk.clone(); *length]))
            .map(|bytes| reseal_stored(&store, &secret(7), ChunkKind::List, &bytes))
            .collect();
        let top = reseal_stored(&store, &secret(7), ChunkKind::List, &list_bytes(&lists));
        let mut root = Root::of(&store, &reference);
        let chunks = u64::try_from(count).unwrap();
        root.layers[0] = Layer { size: chunks, headers: None, content: Some((chunks, top)) };
        root.seal(&store, &secret(7), &reference)
    };
    assert_eq!(whole(&lists(&[8192, 1]), &store).await.unwrap(), [vec![5; count]]);
    // The same chunks in the same order, in lists of other lengths.
    for lengths in [&[8191, 2][..], &[1, 8192], &[4096, 4097], &[8192, 1, 1], &[8192]] {
        let error = whole(&lists(lengths), &store).await.unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{lengths:?} {error:?}");
    }
}

#[tokio::test]
async fn an_error_is_never_followed_by_an_end() {
    let image = sealed(1, 7).await;
    let wrong = image.with_list(|list| list.swap(0, 1));
    let opened = open(&wrong, Arc::clone(&image.store) as _, &LIMITS).await.unwrap();
    let mut reader = opened.read(0).await.unwrap();
    let error = loop {
        match reader.next().await {
            Ok(piece) => assert!(piece.is_some(), "an end before the error"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, OpenError::Damaged { .. }));
    for _ in 0..3 {
        assert!(reader.next().await.is_err());
    }
}

/// What an image says about itself is quoted, but neither at length nor so that a terminal obeys it.
#[tokio::test]
async fn what_a_stranger_wrote_is_shown_in_parts() {
    let image = sealed(1, 7).await;
    let long = "\\u001b]0;\\u202e".repeat(1000);
    let manifest = String::from_utf8(image.root.manifest.clone()).unwrap();
    let layer = Packing::Plain.media_type();
    let digest = manifest.rsplit("sha256:").next().unwrap();
    let digest = &digest[..64];
    for (from, to) in [
        (layer.to_owned(), long.clone()),
        (crate::layout::MANIFEST.to_owned(), long.clone()),
        ("application/vnd.oci.image.config.v1+json".to_owned(), long.clone()),
        (format!("sha256:{digest}"), format!("other:{}", "a".repeat(50_000))),
    ] {
        let changed = manifest.replace(&from, &to);
        assert_ne!(changed, manifest);
        let wrong = image.with_root(|root| root.manifest = changed.into_bytes());
        let reason = image.refused(&wrong).await;
        assert!(reason.len() < 1500, "{}", reason.len());
        assert!(!reason.contains(['\u{1b}', '\u{202e}']), "{reason:?}");
    }
    // Whoever opens is not the one who publishes.
    let kept = layer.replace("layer", "layer.nondistributable");
    let changed = manifest.replace(layer, &kept);
    let wrong = image.with_root(|root| root.manifest = changed.into_bytes());
    let reason = image.refused(&wrong).await;
    assert!(reason.contains("not to be distributed") && !reason.contains("published"), "{reason}");
}

/// A source that answers until it is told to keep everybody waiting.
struct Stuck {
    store: Arc<Memory>,
    waits: AtomicBool,
    /// The one block that it still gives: what says which others follow.
    list: Cid,
    /// One holder more for each fetch that is under way.
    fetching: Arc<()>,
}

#[async_trait]
impl BlockSource for Stuck {
    async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, ContentError> {
        let _under_way = Arc::clone(&self.fetching);
        if self.waits.load(Ordering::SeqCst) && *cid != self.list {
            pending::<()>().await;
        }
        self.store.get(cid).await
    }
}

#[tokio::test]
async fn dropping_a_reader_ends_its_fetches() {
    let image = sealed(1, 7).await;
    let top = image.root.layers[0].content.clone().unwrap().1;
    let fetching = Arc::new(());
    let source = Arc::new(Stuck {
        store: Arc::clone(&image.store),
        waits: AtomicBool::new(false),
        list: content_id(RAW, top.digest),
        fetching: Arc::clone(&fetching),
    });
    let opened = open(&image.reference, Arc::clone(&source) as _, &LIMITS).await.unwrap();
    source.waits.store(true, Ordering::SeqCst);
    let reader = opened.read(0).await.unwrap();
    let until = async |most: std::ops::Range<usize>| {
        while !most.contains(&(Arc::strong_count(&fetching) - 2)) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(60);
    timeout(patience, until(2..9)).await.unwrap();
    drop(reader);
    timeout(patience, until(0..1)).await.unwrap();
}
