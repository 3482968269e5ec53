//! Images in memory.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{Layer, LayerReader, LayerSource, OpenError};
use roadstead_types::{ImageId, ImageKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::sync::Notify;

/// A tar that is written entry by entry, owned by root, without the checks of the library that writes it.
pub(super) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(super) fn entry(
        mut self,
        name: impl AsRef<[u8]>,
        kind: EntryType,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let (mut header, name) = (Header::new_gnu(), name.as_ref());
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(content.len().try_into().unwrap());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(super) fn file(self, name: &str, mode: u32, content: impl AsRef<[u8]>) -> Self {
        self.entry(name, EntryType::Regular, "", mode, content.as_ref())
    }

    pub(super) fn folder(self, name: &str, mode: u32) -> Self {
        self.entry(name, EntryType::Directory, "", mode, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(name, EntryType::Symlink, target, 0o777, b"")
    }

    /// Gives the next entry an extended attribute.
    pub(super) fn attribute(mut self, name: &str, value: &str) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(&*key, value.as_bytes())]).unwrap();
        self
    }

    /// A device, or a pipe.
    pub(super) fn node(mut self, name: &str, kind: EntryType, (major, minor): (u32, u32)) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o666);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(super) fn bytes(self) -> Bytes {
        self.0.into_inner().unwrap().into()
    }
}

/// A root file system with the machine's static busybox, a user, and folders that everybody may write to.
pub(super) fn busybox() -> Bytes {
    static LAYER: OnceLock<Bytes> = OnceLock::new();
    let make = || {
        let program = std::fs::read("/bin/busybox").expect("install busybox-static");
        let mut tar = Tar::new()
            .folder("bin", 0o755)
            .file("bin/busybox", 0o755, program)
            .folder("etc", 0o755)
            .file("etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n")
            .file("etc/group", 0o644, "root:x:0:\nweb:x:34:\nlog:x:60:web\n")
            .folder("root", 0o700)
            .folder("srv", 0o777)
            .folder("tmp", 0o1777);
        for name in [
            "cat", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ls", "mkdir",
            "mknod", "mount", "nc", "ping", "pwd", "sh", "sleep", "stat", "sync", "tail", "tcpsvd",
            "touch", "true", "umount", "unshare", "wc", "wget", "yes", "kill", "test", "rm",
            "chmod", "ip",
        ] {
            tar = tar.symlink(&format!("bin/{name}"), "busybox");
        }
        tar.bytes()
    };
    LAYER.get_or_init(make).clone()
}

/// An image with these layers, the lowest first.
#[derive(Clone)]
pub(super) struct TestImage {
    config: Vec<u8>,
    layers: Vec<Layer>,
    contents: Vec<Bytes>,
    /// Whether the last layer ends in an error.
    pub(super) damaged: bool,
    /// Where its last layer stops to come, in bytes, for good.
    pub(super) stuck: Option<usize>,
    /// Told when the last layer came to its end, or to where it stops.
    pub(super) last: Arc<Notify>,
}

impl TestImage {
    pub(super) fn new(layers: Vec<Bytes>, config: &Value) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self::for_machine(layers, config, architecture)
    }

    pub(super) fn for_machine(contents: Vec<Bytes>, config: &Value, architecture: &str) -> Self {
        let layer =
            |bytes: &Bytes| Layer { diff_id: sha256(bytes), size: bytes.len().try_into().unwrap() };
        let layers: Vec<_> = contents.iter().map(layer).collect();
        let ids: Vec<_> =
            layers.iter().map(|layer| format!("sha256:{:x}", layer.diff_id)).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        Self {
            config: config.to_string().into_bytes(),
            layers,
            contents,
            damaged: false,
            stuck: None,
            last: Arc::default(),
        }
    }

    /// Busybox alone.
    pub(super) fn busybox() -> Self {
        Self::new(vec![busybox()], &json!({"Cmd": ["sh"]}))
    }

    /// Busybox with another layer on top.
    pub(super) fn with(layer: Tar) -> Self {
        Self::new(vec![busybox(), layer.bytes()], &json!({"Cmd": ["sh"]}))
    }

    /// An image that names the layers of this one without having their bytes.
    pub(super) fn forged(&self) -> Self {
        let contents = self.contents.iter().map(|bytes| vec![0; bytes.len()].into()).collect();
        Self { contents, ..self.clone() }
    }

    pub(super) fn key(&self, tenant: Address) -> ImageKey {
        ImageKey { tenant, image: self.image() }
    }
}

fn sha256(bytes: &[u8]) -> B256 {
    B256::new(Sha256::digest(bytes).into())
}

struct TestReader {
    left: Bytes,
    damaged: bool,
    stuck: bool,
    last: Option<Arc<Notify>>,
}

#[async_trait]
impl LayerSource for TestImage {
    fn image(&self) -> ImageId {
        ImageId(sha256(&self.config))
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn layers(&self) -> &[Layer] {
        &self.layers
    }

    async fn read(&self, index: usize) -> Result<Box<dyn LayerReader>, OpenError> {
        let is_last = index + 1 == self.contents.len();
        let mut left = self.contents[index].clone();
        let is_other = sha256(&left) != self.layers[index].diff_id;
        let stuck = self.stuck.filter(|_| is_last);
        left.truncate(stuck.unwrap_or(left.len()));
        Ok(Box::new(TestReader {
            left,
            damaged: is_other || self.damaged && is_last,
            stuck: stuck.is_some(),
            last: is_last.then(|| Arc::clone(&self.last)),
        }))
    }
}

#[async_trait]
impl LayerReader for TestReader {
    async fn next(&mut self) -> Result<Option<Bytes>, OpenError> {
        if self.left.is_empty() {
            if let Some(last) = &self.last {
                last.notify_one();
            }
            if self.stuck {
                std::future::pending::<()>().await;
            }
            let reason = "the digest is another".to_owned();
            return if self.damaged { Err(OpenError::Damaged { reason }) } else { Ok(None) };
        }
        Ok(Some(self.left.split_to(self.left.len().min(100_000))))
    }
}
