//! Layouts and archives, and what only looks like one.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    process::Command,
    sync::Arc,
};

use roadstead_crypto::sha256;
use roadstead_image::{OciImage, Platform, ReadError, SealError, seal};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    layout::{INDEX, Layout, MANIFEST, Packing, amd64, index, noise},
    seal::{STORED, seal_into, secret},
    store::Memory,
};

fn simple() -> Layout {
    Layout::of(&[(Packing::Gzip, b"a layer")])
}

fn read(path: &Path) -> Result<OciImage, ReadError> {
    OciImage::read(path, &amd64())
}

fn not_an_image(path: &Path) -> String {
    match read(path) {
        Err(error @ ReadError::NotAnImage { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_folder_and_an_archive_are_the_same_image() {
    let layout = Layout::of(&[(Packing::Gzip, &noise(1, 300_000)), (Packing::Zstd, b"x")]);
    let archive = layout.archive();
    let (folder, archived) = (layout.read().unwrap(), read(archive.path()).unwrap());
    assert_eq!(archived.manifest_digest(), folder.manifest_digest());
    assert_eq!(archived.layers(), folder.layers());
    assert_eq!(archived.manifest_digest(), sha256(archived.manifest()));
    let store = Memory::default();
    let from_folder = seal_into(&layout, &store, 7).await;
    let archived = Arc::new(archived);
    let sealed = seal(&archived, &secret(7), &store, &Default::default(), &mut |_| {}).await;
    let sealed = sealed.unwrap();
    assert_eq!((sealed.reference, sealed.counts.new_blocks), (from_folder.reference, 0));
}

#[test]
fn what_is_no_image_is_called_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(not_an_image(&path("nowhere")).contains("no such file"));
    assert!(not_an_image(folder.path()).contains("without index.json"));
    for (name, content, expected) in [
        ("gzip", &[0x1f, 0x8b, 8, 0, 0, 0][..], "gzip"),
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd, 0, 0], "zstd"),
        ("xz", b"\xfd7zXZ\0", "xz"),
        ("bzip2", b"BZh91A", "bzip2"),
        ("text", b"FROM scratch\n", "neither"),
        ("empty", b"", "neither"),
        ("zeros", &[0; 4096], "neither"),
    ] {
        for padding in [0, 1000] {
            let content = [content, &vec![0; padding]].concat();
            if name != "empty" || padding == 0 {
                fs::write(path(name), content).unwrap();
                assert!(not_an_image(&path(name)).contains(expected), "{name}");
            }
        }
    }
    let socket = path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert!(not_an_image(&socket).contains("neither"));
    fs::write(path("manifest.json"), "[]").unwrap();
    assert!(not_an_image(folder.path()).contains("skopeo"));
    fs::remove_file(path("manifest.json")).unwrap();
    fs::create_dir(path("rootfs")).unwrap();
    assert!(not_an_image(folder.path()).contains("bundle"));

    let docker = archive(&[("manifest.json", b"[]")]);
    assert!(not_an_image(docker.path()).contains("docker save"));
    assert!(not_an_image(archive(&[("x", b"")]).path()).contains("tar without"));

    let layout = simple();
    layout.write("oci-layout", &json!({ "imageLayoutVersion": "2.0.0" }));
    assert!(not_an_image(layout.path()).contains("version"));
    fs::remove_file(layout.path().join("oci-layout")).unwrap();
    assert!(matches!(layout.read(), Err(ReadError::Missing { name }) if name == "oci-layout"));
}

fn archive(files: &[(&str, &[u8])]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(file.reopen().unwrap());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.finish().unwrap();
    file
}

/// A layout as a tar whose entries are made by hand.
fn by_hand(layout: &Layout, entry: impl Fn(&mut Vec<u8>, &str, &[u8])) -> NamedTempFile {
    let mut names = vec!["oci-layout".to_owned(), "index.json".to_owned()];
    for blob in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        names.push(format!("blobs/sha256/{}", blob.unwrap().file_name().to_str().unwrap()));
    }
    archive_of(|bytes| {
        for name in names {
            entry(bytes, &name, &fs::read(layout.path().join(&name)).unwrap());
        }
    })
}

fn put(bytes: &mut Vec<u8>, kind: u8, name: &str, stated: u64, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(stated);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn length(content: &[u8]) -> u64 {
    u64::try_from(content.len()).unwrap()
}

/// A tar of these entries, as `put` writes them.
fn archive_of(entries: impl FnOnce(&mut Vec<u8>)) -> NamedTempFile {
    let mut bytes = Vec::new();
    entries(&mut bytes);
    bytes.resize(bytes.len() + 1024, 0);
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    let body = format!(" {key}={value}\n");
    let mut length = body.len() + 1;
    while length != body.len() + length.to_string().len() {
        length += 1;
    }
    format!("{length}{body}").into_bytes()
}

#[test]
fn names_and_sizes_in_extensions_are_understood() {
    let layout = simple();
    let gnu = by_hand(&layout, |bytes, name, content| {
        let long = format!("./{name}\0");
        put(bytes, b'L', "././@LongLink", length(long.as_bytes()), long.as_bytes());
        put(bytes, b'0', "short", length(content), content);
    });
    assert!(read(gnu.path()).is_ok());
    let sizes = by_hand(&layout, |bytes, name, content| {
        let extension =
            [pax("path", name), pax("size", &content.len().to_string()), pax("mtime", "1.5")];
        let extension = extension.concat();
        put(bytes, b'g', "global", length(&extension), &extension);
        put(bytes, b'x', "pax", length(&extension), &extension);
        put(bytes, b'0', "short", 0, content);
        put(bytes, b'5', "folder", 0, b"");
    });
    assert!(read(sizes.path()).is_ok());
    // A value may hold anything, line breaks and what looks like another record as well.
    let anything = by_hand(&layout, |bytes, name, content| {
        let hidden = pax("path", "elsewhere");
        let hidden = format!("\n\n{}=", str::from_utf8(&hidden).unwrap());
        let extension = [pax("SCHILY.xattr.user.note", &hidden), pax("path", name)].concat();
        put(bytes, b'x', "pax", length(&extension), &extension);
        put(bytes, b'0', "short", length(content), content);
    });
    read(anything.path()).unwrap();
}

#[test]
fn the_last_of_several_files_with_one_name_counts() {
    let layout = simple();
    let twice = |first: &'static [u8], second: &'static [u8]| {
        by_hand(&layout, move |bytes, name, content| {
            for version in [first, second] {
                let content = if version.is_empty() { content } else { version };
                put(bytes, b'0', name, length(content), content);
            }
        })
    };
    read(twice(b"something else", b"").path()).unwrap();
    assert!(read(twice(b"", b"something else").path()).is_err());
}

#[test]
fn archives_that_break_the_rules_are_refused() {
    let layout = simple();
    type Entry<'a> = &'a dyn Fn(&mut Vec<u8>, &str, &[u8]);
    let damaged = |entry: Entry<'_>| {
        let file = by_hand(&layout, entry);
        match read(file.path()) {
            Err(ReadError::DamagedArchive { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    for stated in [1 << 30, 1 << 62, 1 << 63, u64::MAX] {
        let reason = damaged(&|bytes, name, content| put(bytes, b'0', name, stated, content));
        assert!(reason.contains("ends before") || reason.contains("number"), "{reason}");
        let size = pax("size", &stated.to_string());
        let reason = damaged(&|bytes, name, content| {
            put(bytes, b'x', "pax", length(&size), &size);
            put(bytes, b'0', name, 0, content);
        });
        assert!(reason.contains("ends before"), "{reason}");
    }
    let words = pax("size", "many");
    let reason = damaged(&|bytes, name, content| {
        put(bytes, b'x', "pax", length(&words), &words);
        put(bytes, b'0', name, length(content), content);
    });
    assert!(reason.contains("no number"), "{reason}");
    let long = vec![b'a'; 65_537];
    for (kind, expected) in [(b'L', "a name"), (b'x', "a header in the form of pax")] {
        let reason = damaged(&|bytes, _, _| put(bytes, kind, "long", length(&long), &long));
        assert!(reason.contains("too long") && reason.contains(expected), "{reason}");
    }
    for wrong in [
        "path=x\n",
        "7 path=x\n",
        "99 path=x\n",
        "9 path=x\n\n",
        "9 path=xy",
        "8 pathx\n",
        "0 path=x\n",
        "18446744073709551616 path=x\n",
    ] {
        let wrong = wrong.as_bytes();
        let reason = damaged(&|bytes, _, _| put(bytes, b'x', "pax", length(wrong), wrong));
        assert!(reason.contains("form of pax is wrong"), "{reason}");
    }
    let reason = damaged(&|bytes, name, content| put(bytes, b'S', name, length(content), content));
    assert!(reason.contains("holes"), "{reason}");
    let holes = pax("GNU.sparse.major", "1");
    let reason = damaged(&|bytes, _, _| put(bytes, b'x', "pax", length(&holes), &holes));
    assert!(reason.contains("holes"), "{reason}");

    let good =
        by_hand(&layout, |bytes, name, content| put(bytes, b'0', name, length(content), content));
    let bytes = fs::read(good.path()).unwrap();
    let second = 1024;
    let mut changed = bytes.clone();
    changed[second + 3] ^= 1;
    fs::write(good.path(), &changed).unwrap();
    assert!(
        matches!(read(good.path()), Err(ReadError::DamagedArchive { reason }) if reason.contains("sum"))
    );
    fs::write(good.path(), &bytes[..second + 100]).unwrap();
    assert!(
        matches!(read(good.path()), Err(ReadError::DamagedArchive { reason }) if reason.contains("middle"))
    );
}

#[test]
fn an_archive_of_endless_entries_is_given_up() {
    let file = archive(&[]);
    let mut header = tar::Header::new_gnu();
    header.set_path("x").unwrap();
    header.set_size(0);
    header.set_cksum();
    fs::write(file.path(), header.as_bytes().repeat(100_001)).unwrap();
    assert!(
        matches!(read(file.path()), Err(ReadError::DamagedArchive { reason }) if reason.contains("more entries"))
    );
}

#[tokio::test]
async fn links_may_not_lead_out_of_a_layout() {
    let outside = tempfile::tempdir().unwrap();
    let layout = simple();
    let layer = layout.blob_path(layout.read().unwrap().layers()[0].digest);
    let config = layout.blob_path(layout.read().unwrap().image().0);
    let index = layout.path().join("index.json");
    for victim in [&layer, &config, &index] {
        // Inside of the layout a link is as good as a file.
        let inside = layout.path().join("elsewhere");
        fs::rename(victim, &inside).unwrap();
        symlink(&inside, victim).unwrap();
        seal_into(&layout, &Memory::default(), 7).await;

        let hidden = outside.path().join("hidden");
        fs::rename(&inside, &hidden).unwrap();
        fs::remove_file(victim).unwrap();
        symlink(&hidden, victim).unwrap();
        let error = match layout.read() {
            Err(error) => error,
            Ok(image) => {
                let image = Arc::new(image);
                let store = Memory::default();
                let sealed = seal(&image, &secret(7), &store, &STORED, &mut |_| {}).await;
                let Err(SealError::Read(error)) = sealed else { panic!("{sealed:?}") };
                error
            }
        };
        assert!(matches!(error, ReadError::Outside { .. }), "{error:?}");
        fs::remove_file(victim).unwrap();
        fs::rename(&hidden, victim).unwrap();
    }
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    assert!(matches!(layout.read(), Err(ReadError::Outside { .. })));
    fs::remove_dir(&config).unwrap();
    // Reading a pipe would wait for ever.
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    assert!(matches!(layout.read(), Err(ReadError::Outside { .. })));
    fs::remove_file(&config).unwrap();
    // A socket has no room for the whole name of a blob.
    let short = layout.path().join("s");
    let _listener = UnixListener::bind(&short).unwrap();
    fs::rename(&short, &config).unwrap();
    assert!(matches!(layout.read(), Err(ReadError::Outside { .. })));
}

#[test]
fn documents_are_bounded_and_match_their_digests() {
    let layout = simple();
    let image = layout.read().unwrap();
    let manifest = layout.blob_path(image.manifest_digest());
    let config = layout.blob_path(image.image().0);
    for victim in [&manifest, &config] {
        let good = fs::read(victim).unwrap();
        let mut changed = good.clone();
        changed[5] ^= 1;
        fs::write(victim, &changed).unwrap();
        assert!(matches!(layout.read(), Err(ReadError::Mismatch { property: "digest", .. })));
        fs::write(victim, [&*good, b" "].concat()).unwrap();
        assert!(matches!(layout.read(), Err(ReadError::Mismatch { property: "size", .. })));
        fs::remove_file(victim).unwrap();
        assert!(matches!(layout.read(), Err(ReadError::Missing { .. })));
        File::create(victim).unwrap().set_len((4 << 20) + 1).unwrap();
        assert!(matches!(layout.read(), Err(ReadError::TooLarge { .. })));
        fs::write(victim, good).unwrap();
    }
    let index = layout.path().join("index.json");
    File::create(&index).unwrap().set_len((1 << 20) + 1).unwrap();
    assert!(matches!(layout.read(), Err(ReadError::TooLarge { max, .. }) if max == 1 << 20));
    let nested = layout.blob(INDEX, &vec![b' '; (1 << 20) + 1]);
    layout.index(&[nested]);
    assert!(matches!(layout.read(), Err(ReadError::TooLarge { max, .. }) if max == 1 << 20));
    fs::write(index, "{}").unwrap();
    assert!(matches!(layout.read(), Err(ReadError::Document(_))));
}

fn with_platform(mut manifest: Value, architecture: &str) -> Value {
    manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
    manifest
}

#[test]
fn an_image_is_chosen_by_its_platform() {
    let layout = Layout::empty();
    let amd = layout.image("amd64", &[(Packing::Plain, b"amd")]);
    let arm = layout.image("arm64", &[(Packing::Plain, b"arm")]);
    let nested = index(&[with_platform(arm.clone(), "arm64"), with_platform(amd.clone(), "amd64")]);
    let nested = layout.blob(INDEX, nested.to_string().as_bytes());
    // Through a list, side by side, and without being told by the index.
    for manifests in [vec![nested], vec![with_platform(arm.clone(), "arm64"), amd.clone()]] {
        layout.index(&manifests);
        for (architecture, content) in [("amd64", b"amd"), ("arm64", b"arm")] {
            let wanted = Platform::new("linux", architecture, None).unwrap();
            let image = OciImage::read(layout.path(), &wanted).unwrap();
            assert_eq!(image.platform(), &wanted);
            assert_eq!(image.layers()[0].diff_id, sha256(content));
        }
        let wanted = Platform::new("linux", "riscv64", None).unwrap();
        let error = OciImage::read(layout.path(), &wanted).unwrap_err();
        assert!(matches!(error, ReadError::NoneFits { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("linux/amd64") && text.contains("linux/arm64"), "{text}");
    }
    // Nor is one taken because there is no other, or because the index says that it fits.
    let other = layout.image("riscv64", &[]);
    for manifests in [
        vec![arm.clone()],
        vec![with_platform(arm.clone(), "amd64")],
        vec![with_platform(arm, "amd64"), other],
    ] {
        layout.index(&manifests);
        let error = layout.read().unwrap_err();
        assert!(matches!(error, ReadError::NoneFits { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("for linux/amd64, only for linux/arm64"), "{text}");
    }
    layout.index(&[]);
    assert!(matches!(layout.read(), Err(ReadError::Empty)));
}

#[test]
fn several_images_that_fit_are_named() {
    let layout = Layout::empty();
    let tagged = |content: &[u8], tag: &str| {
        let mut image = layout.image("amd64", &[(Packing::Plain, content)]);
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        image
    };
    let one = tagged(b"one", "first");
    layout.index(&[one.clone(), tagged(b"two", "second\u{1b}[2J")]);
    let error = layout.read().unwrap_err();
    assert!(matches!(error, ReadError::Ambiguous { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("first") && text.contains("second") && !text.contains('\u{1b}'),
        "{text}"
    );
    // However many there are, and whatever they are called, a message stays one.
    let many = (0..40_u8).map(|number| tagged(&[number], &"\u{1b}long".repeat(1000)));
    layout.index(&many.collect::<Vec<_>>());
    let text = layout.read().unwrap_err().to_string();
    assert_eq!(text.matches("linux/amd64 (").count(), 8, "{text}");
    assert!(text.contains("and 32 more") && !text.contains('\u{1b}'), "{text}");
    assert!(text.len() < 8000, "{}", text.len());
    // Two tags of one image are one image.
    layout.index(&[one, tagged(b"one", "again")]);
    layout.read().unwrap();
}

#[test]
fn what_stands_beside_an_image_is_not_one() {
    let layout = Layout::empty();
    let image = layout.image("amd64", &[(Packing::Plain, b"image")]);
    let mut attestation = layout.image("amd64", &[(Packing::Plain, b"about it")]);
    attestation["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let mut signature = layout.image("amd64", &[(Packing::Plain, b"signed")]);
    signature["artifactType"] = "application/vnd.example.signature".into();
    let other = layout.blob("text/plain", b"hello");
    layout.index(&[attestation, signature, other, image]);
    assert_eq!(layout.read().unwrap().layers()[0].diff_id, sha256(b"image"));
}

/// Some are for no platform, or their blobs were not copied along: that is no reason to refuse the image beside them.
#[test]
fn a_neighbour_that_cannot_be_read_is_of_an_unknown_platform() {
    let layout = Layout::empty();
    let image = layout.image("amd64", &[(Packing::Plain, b"image")]);
    let of_nothing = layout.image("", &[(Packing::Plain, b"signed")]);
    let mut lost = image.clone();
    lost["digest"] = format!("sha256:{}", "1".repeat(64)).into();
    let mut other_digest = image.clone();
    other_digest["digest"] = format!("sha512:{}", "1".repeat(128)).into();
    let mut no_digest = image.clone();
    no_digest["digest"] = "\u{1b}".repeat(100_000).into();
    let broken = layout.blob(MANIFEST, b"{");
    let neighbours = [of_nothing, lost, other_digest, no_digest, broken];
    layout.index(&[&neighbours[..], &[image]].concat());
    assert_eq!(layout.read().unwrap().layers()[0].diff_id, sha256(b"image"));

    layout.index(&neighbours);
    let error = layout.read().unwrap_err();
    assert!(matches!(error, ReadError::NoneFits { .. }), "{error:?}");
    let text = error.to_string();
    assert_eq!(text.matches("an unknown platform").count(), 5, "{text}");
    assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{text}");
    // What is wrong with the only one is said.
    for (neighbour, expected) in
        neighbours.iter().zip(["platform", "has no", "only SHA-256", "only SHA-256", "line 1"])
    {
        layout.index(std::slice::from_ref(neighbour));
        let text = layout.read().unwrap_err().to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(text.len() < 1500 && !text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn an_image_does_not_show_its_environment() {
    let layout = simple();
    let shown = format!("{:?}", layout.read().unwrap());
    let archived = format!("{:?}", read(layout.archive().path()).unwrap());
    for shown in [shown, archived] {
        assert!(shown.starts_with("OciImage {") && shown.len() < 300, "{shown}");
        assert!(shown.contains("image") && !shown.contains("config"), "{shown}");
    }
}

#[test]
fn an_index_that_is_named_often_is_read_once() {
    let layout = Layout::empty();
    let image = layout.image("amd64", &[(Packing::Plain, b"image")]);
    let mut nested = index(&[image]);
    nested["annotations"] = (0..40_000).map(|number| (number.to_string(), json!(""))).collect();
    let nested = layout.blob(INDEX, nested.to_string().as_bytes());
    layout.index(&vec![nested; 1000]);
    assert_eq!(layout.read().unwrap().layers()[0].diff_id, sha256(b"image"));
}

#[test]
fn too_many_indexes_are_given_up() {
    let layout = Layout::empty();
    let mut inner = layout.image("amd64", &[]);
    let deep = |count: usize, mut inner: Value| {
        for _ in 0..count {
            inner = layout.blob(INDEX, index(&[inner]).to_string().as_bytes());
        }
        layout.index(&[inner]);
        layout.read()
    };
    assert!(deep(32, inner.clone()).is_ok());
    assert!(matches!(deep(33, inner.clone()), Err(ReadError::Document(_))));
    let many = (0..1025_usize).map(|number| {
        inner["digest"] = format!("sha256:{number:064x}").into();
        inner.clone()
    });
    layout.index(&many.collect::<Vec<_>>());
    assert!(matches!(layout.read(), Err(ReadError::Document(_))));
}

#[test]
fn lists_of_docker_are_known() {
    let layout = Layout::empty();
    let mut image = layout.image("amd64", &[(Packing::Plain, b"image")]);
    let digest = image["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let manifest = fs::read(layout.path().join("blobs/sha256").join(digest)).unwrap();
    let text = String::from_utf8(manifest).unwrap();
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let text = text
        .replace(MANIFEST, docker)
        .replace(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        )
        .replace(
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
        );
    image = with_platform(layout.blob(docker, text.as_bytes()), "amd64");
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [image] });
    layout.index(&[layout.blob(kind, list.to_string().as_bytes())]);
    assert_eq!(layout.read().unwrap().layers()[0].diff_id, sha256(b"image"));

    let liar = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "manifests": [] });
    layout.write("index.json", &liar);
    assert!(matches!(layout.read(), Err(ReadError::Document(_))));
}
