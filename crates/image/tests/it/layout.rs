//! Small images in layouts, right and wrong.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use alloy_primitives::B256;
use flate2::{Compression, write::GzEncoder};
use roadstead_crypto::sha256;
use roadstead_image::{OciImage, Platform, ReadError};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Bytes without a pattern, the same for the same seed (SplitMix64).
pub(crate) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = u64::from(seed);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// How a layer lies in the layout.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    /// Two members, as parallel compressors write them.
    GzipTwice,
    Zstd,
}

impl Packing {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip | Self::GzipTwice => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    pub(crate) fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => tar.to_vec(),
            Self::Gzip => gzip(tar),
            Self::GzipTwice => {
                let (first, second) = tar.split_at(tar.len() / 2);
                [gzip(first), gzip(second)].concat()
            }
            Self::Zstd => zstd::encode_all(tar, 1).unwrap(),
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layout in a folder of its own.
pub(crate) struct Layout {
    folder: TempDir,
}

impl Layout {
    /// A layout without images.
    pub(crate) fn empty() -> Self {
        let layout = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        layout.write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }));
        layout.index(&[]);
        layout
    }

    /// A layout with one image of these layers.
    pub(crate) fn of(layers: &[(Packing, &[u8])]) -> Self {
        let layout = Self::empty();
        let manifest = layout.image("amd64", layers);
        layout.index(&[manifest]);
        layout
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, document: &Value) {
        fs::write(self.path().join(name), document.to_string()).unwrap();
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        self.write("index.json", &index(manifests));
    }

    /// Adds a blob and describes it.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        fs::write(self.blob_path(sha256(bytes)), bytes).unwrap();
        let digest = format!("sha256:{:x}", sha256(bytes));
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    pub(crate) fn blob_path(&self, digest: B256) -> PathBuf {
        self.path().join(format!("blobs/sha256/{digest:x}"))
    }

    /// Adds an image and describes its manifest.
    pub(crate) fn image(&self, architecture: &str, layers: &[(Packing, &[u8])]) -> Value {
        let blobs = layers
            .iter()
            .map(|(packing, tar)| self.blob(packing.media_type(), &packing.pack(tar)))
            .collect::<Vec<_>>();
        let diff_ids =
            layers.iter().map(|(_, tar)| format!("sha256:{:x}", sha256(tar))).collect::<Vec<_>>();
        self.image_of(architecture, &blobs, &diff_ids)
    }

    /// Adds an image whose layers are described elsewhere.
    pub(crate) fn image_of(
        &self,
        architecture: &str,
        blobs: &[Value],
        diff_ids: &[String],
    ) -> Value {
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config =
            self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": blobs,
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    pub(crate) fn read(&self) -> Result<OciImage, ReadError> {
        OciImage::read(self.path(), &amd64())
    }

    /// The same layout as a tar.
    pub(crate) fn archive(&self) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        builder.append_dir_all(".", self.path()).unwrap();
        builder.finish().unwrap();
        file
    }
}

pub(crate) fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

pub(crate) fn amd64() -> Platform {
    Platform::new("linux", "amd64", None).unwrap()
}
