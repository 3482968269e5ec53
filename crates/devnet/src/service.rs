//! The service that the demonstration rents a container for, and its image.
//!
//! The program is `service/main.rs` of this package: its own `rustc` run, a few kilobytes, linked to nothing. The
//! image is made from it anew whenever it is needed, and is the same to the last byte each time.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use roadstead_crypto::sha256;
use roadstead_types::{Container, ManifestContainer, Resources, Seconds, Workload};
use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// The TCP port on which the service listens, where its variable `PORT` does not say otherwise.
pub const PORT: u16 = 8080;

/// Empty where there is no such program for this machine.
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/service"));

/// This machine in the words of the image specification, which are those of Go.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

const USER: &str = "service";
const ACCOUNTS: &[u8] = b"service:x:65532:65532::/:/service\n";

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";

/// Whether there is a program for this machine: it is written for x86_64 and aarch64. Elsewhere the demonstration
/// needs an image from the user.
pub fn is_available() -> bool {
    !PROGRAM.is_empty()
}

/// Writes the service's image into a folder, which is made where it is missing, as an OCI image layout (image
/// specification 1.1) with one image, `latest`. The index is written last: without it there is no image.
///
/// Blocks on the file system. [`ErrorKind::Unsupported`] where the service [is not available](is_available).
pub fn pack(folder: &Path) -> io::Result<()> {
    if !is_available() {
        let why = "the service is written for Linux on x86_64 and aarch64 alone";
        return Err(io::Error::new(ErrorKind::Unsupported, why));
    }
    fs::create_dir_all(folder.join(BLOBS))?;
    let layer = layer()?;
    let diff_id = digest(&layer);
    let layer = blob(folder, "application/vnd.oci.image.layer.v1.tar", &layer)?;
    let config = document(&config(&diff_id));
    let config = blob(folder, "application/vnd.oci.image.config.v1+json", &config)?;
    let manifest = document(&manifest(&config, &layer));
    let manifest = blob(folder, "application/vnd.oci.image.manifest.v1+json", &manifest)?;
    fs::write(folder.join(LAYOUT), document(&json!({ "imageLayoutVersion": "1.0.0" })))?;
    fs::write(folder.join(INDEX), document(&index(&manifest)))
}

/// The manifest beside the example's image.
const MANIFEST: &str = "\
# docs/workload.md says what else can stand here.
version: 1
name: hello
containers:
  - image: ./image
    ports: [8080]
";

/// Writes an example into a folder, which is made where it is missing: the image, and a workload manifest for it.
/// Returns where the manifest is. Fails as [`pack`] does.
pub fn write_example(folder: &Path) -> io::Result<PathBuf> {
    pack(&folder.join("image"))?;
    let path = folder.join("workload.yaml");
    fs::write(&path, MANIFEST)?;
    Ok(path)
}

/// What the demonstration runs: the image that was packed at `image`, on little of everything.
pub fn workload(image: &Path) -> Workload<ManifestContainer> {
    let image = image.to_string_lossy().into_owned();
    let container = Container {
        name: "service".into(),
        command: None,
        args: None,
        env: BTreeMap::new(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: vec![PORT],
        stop_grace_period: Seconds(10),
    };
    Workload {
        name: "hello".into(),
        containers: vec![ManifestContainer { image, container }],
        reservation: Resources {
            cpu: 100,
            memory: 16,
            storage: 4,
            network_in: 1 << 20,
            network_out: 1 << 20,
            accelerator: 0,
        },
        pids_limit: 16,
    }
}

/// The only layer: the program, and a name for its user.
fn layer() -> io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind, mode, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, path, content)
    };
    add("etc/", tar::EntryType::Directory, 0o755, &[])?;
    add("etc/passwd", tar::EntryType::Regular, 0o644, ACCOUNTS)?;
    add("service", tar::EntryType::Regular, 0o755, PROGRAM)?;
    layer.into_inner()
}

// The fields of all documents are in alphabetical order: then they stay in it, whether or not serde_json was built to
// keep the order of insertion for somebody else.

fn config(diff_id: &str) -> Value {
    json!({
        "architecture": ARCHITECTURE,
        "config": {
            "Entrypoint": ["/service"],
            "ExposedPorts": { (format!("{PORT}/tcp")): {} },
            "User": USER,
            "WorkingDir": "/",
        },
        "created": "1970-01-01T00:00:00Z",
        "os": "linux",
        "rootfs": { "diff_ids": [diff_id], "type": "layers" },
    })
}

fn manifest(config: &Value, layer: &Value) -> Value {
    json!({
        "config": config,
        "layers": [layer],
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "schemaVersion": 2,
    })
}

fn index(manifest: &Value) -> Value {
    json!({
        "manifests": [{
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
            "digest": manifest["digest"],
            "mediaType": manifest["mediaType"],
            "size": manifest["size"],
        }],
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "schemaVersion": 2,
    })
}

fn document(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", sha256(bytes))
}

/// Writes a blob and returns its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
    fs::write(folder.join(BLOBS).join(format!("{:x}", sha256(bytes))), bytes)?;
    Ok(json!({ "digest": digest(bytes), "mediaType": media_type, "size": bytes.len() }))
}
