//! Images as common tools make them.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use flate2::read::GzDecoder;
use roadstead_core::ports::LayerSource;
use roadstead_crypto::DedupeSecret;
use roadstead_image::{
    LayerCompression, OciImage, OpenLimits, Platform, ReadError, SealOptions, open, seal,
};
use tempfile::TempDir;

use crate::{open::read_all, store::Memory};

fn run(program: &str, arguments: &[&str]) {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = match run {
        Ok(output) => output,
        Err(error) => panic!("{program} cannot be run ({error}); script/setup installs it"),
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
}

/// An image with busybox in one layer, and a change to it in the next.
fn busybox(folder: &Path) -> String {
    let layout = folder.join("layout");
    let image = format!("{}:latest", layout.display());
    run("umoci", &["init", "--layout", layout.to_str().unwrap()]);
    run("umoci", &["new", "--image", &image]);
    for layer in 0..2 {
        let bundle = folder.join(format!("bundle{layer}"));
        let unpacked = bundle.to_str().unwrap();
        run("umoci", &["unpack", "--rootless", "--image", &image, unpacked]);
        let root = bundle.join("rootfs");
        if layer == 0 {
            fs::create_dir_all(root.join("bin")).unwrap();
            let program = which("busybox");
            fs::copy(program, root.join("bin/busybox")).unwrap();
            std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
        } else {
            fs::remove_file(root.join("bin/sh")).unwrap();
            fs::write(root.join("greeting"), "hello\n").unwrap();
        }
        run("umoci", &["repack", "--image", &image, unpacked]);
    }
    run("umoci", &["config", "--image", &image, "--config.cmd", "/bin/busybox"]);
    image
}

fn which(program: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let path = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(!path.is_empty(), "{program} is missing; script/setup installs it");
    path.trim().to_owned()
}

struct Image {
    folder: TempDir,
    name: String,
}

fn image() -> Image {
    let folder = tempfile::tempdir().unwrap();
    let name = busybox(folder.path());
    Image { folder, name }
}

impl Image {
    /// Copies the image by skopeo and returns where it is then.
    fn copy(&self, transport: &str, name: &str, arguments: &[&str]) -> std::path::PathBuf {
        let target = self.folder.path().join(name);
        let destination = format!("{transport}:{}", target.display());
        let source = format!("oci:{}", self.name);
        run(
            "skopeo",
            &[&["--insecure-policy", "copy"], arguments, &[&source, &destination]].concat(),
        );
        target
    }

    fn layout(&self) -> std::path::PathBuf {
        self.folder.path().join("layout")
    }
}

#[tokio::test]
async fn what_umoci_and_skopeo_write_is_sealed_and_comes_back() {
    let image = image();
    let store = Arc::new(Memory::default());
    let secret = DedupeSecret::from_bytes(&[7; 32]).unwrap();
    let zstd = ["--dest-compress-format", "zstd", "--dest-compress"];
    let places = [
        (image.layout(), LayerCompression::Gzip),
        (image.copy("oci", "copy", &[]), LayerCompression::Gzip),
        (image.copy("oci-archive", "archive.tar", &[]), LayerCompression::Gzip),
        (image.copy("oci", "zstd", &zstd), LayerCompression::Zstd),
    ];
    let mut sealed = Vec::new();
    for (place, compression) in &places {
        let read = Arc::new(OciImage::read(place, &Platform::host()).unwrap());
        assert_eq!(read.platform(), &Platform::host());
        assert_eq!(read.layers().len(), 2);
        assert!(read.layers().iter().all(|layer| layer.compression == *compression), "{place:?}");
        let options = SealOptions::default();
        sealed.push(seal(&read, &secret, &*store, &options, &mut |_| {}).await.unwrap());
    }
    assert_eq!(sealed[1].reference.image, sealed[0].reference.image);
    assert_eq!(sealed[2].reference, sealed[1].reference, "a folder and its archive");
    assert_eq!(sealed[2].counts.new_blocks, 0);
    // Other compression is another manifest on the same layers: its root, its index file and its folder are new.
    assert_eq!(sealed[3].reference.image, sealed[0].reference.image);
    assert_ne!(sealed[3].pinned, sealed[0].pinned);
    assert!(sealed[3].counts.new_blocks <= 3, "{:?}", sealed[3].counts);

    let limits = OpenLimits::for_bytes(64 << 20);
    let opened = open(&sealed[3].reference, store, &limits).await.unwrap();
    let original = OciImage::read(&image.layout(), &Platform::host()).unwrap();
    assert_eq!(opened.config(), original.config());
    for (index, layer) in original.layers().iter().enumerate() {
        let blob = image.layout().join(format!("blobs/sha256/{:x}", layer.digest));
        let mut tar = Vec::new();
        GzDecoder::new(fs::File::open(blob).unwrap()).read_to_end(&mut tar).unwrap();
        assert!(read_all(&opened, index).await.unwrap() == tar);
    }
}

#[test]
fn other_forms_of_skopeo_are_called_by_their_names() {
    let image = image();
    for (transport, expected) in [("docker-archive", "docker save"), ("dir", "`dir` form")] {
        let place = image.copy(transport, transport, &[]);
        let error = OciImage::read(&place, &Platform::host()).unwrap_err();
        assert!(matches!(error, ReadError::NotAnImage { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let layout = image.layout();
    let packed = image.folder.path().join("layout.tar.gz");
    run("tar", &["-czf", packed.to_str().unwrap(), "-C", layout.to_str().unwrap(), "."]);
    let error = OciImage::read(&packed, &Platform::host()).unwrap_err();
    assert!(error.to_string().contains("compressed by gzip"), "{error}");
}
