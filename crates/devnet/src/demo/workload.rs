//! What the demonstration runs: its own little service, an image, or whatever a manifest says.

use std::{io, path::PathBuf};

use roadstead_image::{OciImage, Platform, ReadError};
use roadstead_publisher::{ManifestFileError, read_manifest};
use roadstead_types::{Container, ManifestContainer, Resources, Seconds, Workload};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::service;

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadChoice {
    /// The demonstration's own HTTP service.
    BuiltIn,
    /// An OCI image layout, a folder or an archive. The smallest TCP port that it exposes is called.
    Image(PathBuf),
    /// A workload manifest. The smallest port of its container is called.
    Manifest(PathBuf),
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The demonstration's own service could not be packed.
    #[error("the demonstration's own image cannot be written")]
    BuiltIn(#[source] io::Error),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestFileError),
    /// The image cannot be read.
    #[error("the image {} cannot be used", path.display())]
    Image {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ReadError,
    },
    /// There is nothing to call.
    #[error("the image {} exposes no TCP port that could be called", path.display())]
    NoPort {
        /// Where it is.
        path: PathBuf,
    },
}

/// A workload, and the folder that the paths in it are relative to.
pub(super) struct Chosen {
    pub(super) workload: Workload<ManifestContainer>,
    pub(super) folder: PathBuf,
}

impl WorkloadChoice {
    /// Reads what was chosen; an image that has to be made is made in `scratch`.
    pub(super) async fn read(&self, scratch: PathBuf) -> Result<Chosen, WorkloadError> {
        let choice = self.clone();
        let read = spawn_blocking(move || match choice {
            Self::BuiltIn => built_in(scratch),
            Self::Image(path) => image(path),
            Self::Manifest(path) => manifest(path),
        });
        read.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
    }
}

fn built_in(scratch: PathBuf) -> Result<Chosen, WorkloadError> {
    service::pack(&scratch).map_err(WorkloadError::BuiltIn)?;
    Ok(Chosen { workload: service::workload(&scratch), folder: PathBuf::new() })
}

fn manifest(path: PathBuf) -> Result<Chosen, WorkloadError> {
    let (workload, folder) = read_manifest(&path)?;
    Ok(Chosen { workload, folder })
}

/// What most services of the kind that one tries out can do with.
fn image(path: PathBuf) -> Result<Chosen, WorkloadError> {
    let read = OciImage::read(&path, &Platform::host());
    let read = read.map_err(|source| WorkloadError::Image { path: path.clone(), source })?;
    let port = exposed_port(read.config());
    let port = port.ok_or_else(|| WorkloadError::NoPort { path: path.clone() })?;
    let container = Container {
        name: "image".into(),
        command: None,
        args: None,
        env: Default::default(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: vec![port],
        stop_grace_period: Seconds(10),
    };
    let image = path.to_string_lossy().into_owned();
    let workload = Workload {
        name: "image".into(),
        containers: vec![ManifestContainer { image, container }],
        reservation: Resources {
            cpu: 500,
            memory: 256,
            storage: 256,
            network_in: 1 << 20,
            network_out: 1 << 20,
            accelerator: 0,
        },
        pids_limit: 128,
    };
    Ok(Chosen { workload, folder: PathBuf::new() })
}

#[derive(Deserialize)]
struct Config {
    config: Option<Settings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    exposed_ports: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

/// The smallest TCP port that an image's configuration exposes: `8080`, `8080/tcp`, but not `53/udp`.
fn exposed_port(config: &[u8]) -> Option<u16> {
    let config: Config = serde_json::from_slice(config).ok()?;
    let exposed = config.config?.exposed_ports?;
    let ports = exposed.keys().filter_map(|port| match port.split_once('/') {
        Some((port, "tcp")) => port.parse().ok(),
        Some(_) => None,
        None => port.parse().ok(),
    });
    ports.filter(|port| *port > 0).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_tcp_port_is_called() {
        let port = |exposed: &str| {
            exposed_port(format!(r#"{{"config":{{"ExposedPorts":{exposed}}}}}"#).as_bytes())
        };
        assert_eq!(port(r#"{"9000/tcp":{},"443":{},"53/udp":{},"0/tcp":{}}"#), Some(443));
        assert_eq!(port(r#"{"53/udp":{}}"#), None);
        assert_eq!(port("null"), None);
        assert_eq!(exposed_port(b"{}"), None);
        assert_eq!(exposed_port(b"not JSON"), None);
    }
}
