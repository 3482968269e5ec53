//! Containers made by Docker's daemon.
//!
//! The daemon keeps the images, containers and networks, under labels with the engine's name, which is made up once
//! for its folder: engines that share a daemon do not see each other. The folder holds what Docker does not keep of an
//! instance, a small file for each, and the files that tell its container its name. An engine that opens the folder later finds everything, and removes what half-done
//! work of its predecessor left. A crash loses what instances used after their last reading only if they end meanwhile.

mod answers;
mod archive;
mod client;
mod container;
mod images;
mod instances;
mod names;
mod record;
mod sizes;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bollard::models::SystemInfo;
use bytes::Bytes;
use roadstead_core::ports::{
    Capabilities, Engine, EngineError, FreezeReason, InstanceSpec, LayerSource, Observation, Usage,
};
use roadstead_types::{ImageKey, InstanceId};

use crate::{
    files::{FileError, failed, make_folder},
    name::own_name,
    work::{blocking, engine_failed},
};
use client::{Client, connect, usual_host};
use images::Images;
use instances::Instances;
use names::NameFiles;
use record::Records;

/// Runs each instance as a container of the Docker daemon of this machine. Needs a socket of the daemon, and no root.
///
/// - One container per instance, without capabilities, under Docker's own filter of system calls.
/// - Root of a container is root of the machine, without its capabilities, unless the daemon maps users.
/// - Each instance has a network of its own, whose ports are called at its address there. Only this machine reaches
///   that, so a service must listen on all addresses, not on `127.0.0.1` alone. The network ends at this machine, by
///   the rules that Docker gives to its firewall: a daemon that may set none (`iptables: false`) is not for strangers.
///   An instance reaches whatever listens on all of the machine's addresses, unless other rules forbid it. Docker has
///   room for some thirty networks until its `default-address-pools` are widened.
/// - What a container writes is bounded by Docker where its storage can be bounded: overlay2 on XFS with project
///   quotas, btrfs, ZFS. Elsewhere each [`Engine::observe`] has Docker look, beside everything else and at most every
///   ten seconds, and an instance that is seen to have written more is killed. Until then it may write more. It can hide
///   files that it has removed and still holds open. What is counted is what files hold: neither folders nor the files'
///   own entries in the disk's tables, of which there may be any number. An instance with so many that the look takes
///   more than a minute three times in a row is killed for that.
/// - The files that tell a container its name are mounted from the engine's folder, read-only; so it can tell where that
///   lies.
/// - A process may have as many files open as with the embedded engine, or as Docker itself where Docker may not raise
///   its own limit.
/// - The daemon lays out what the embedded engine leaves out of images, so images with named pipes, with devices outside
///   of `dev`, or with layers that look compressed are refused.
/// - Network usage is bytes of the container's interface, with all headers and answers to whoever looks for it.
/// - What an instance uses after the last [`Engine::usage`] is not known once it has ended.
/// - Equal layers of two tenants lie on Docker's disk once. No tenant gets at a layer without having all its bytes.
/// - The image says nothing about how Docker runs it: no volume, health check or label of it is taken.
/// - Everybody who may use the daemon's socket sees the environment of the containers.
#[derive(Debug)]
pub struct DockerEngine {
    images: Arc<Images>,
    instances: Arc<Instances>,
    limits_compute: bool,
}

impl DockerEngine {
    /// The address of the daemon that `DOCKER_HOST` names, or of the one at Docker's usual socket.
    pub fn usual_host() -> String {
        usual_host()
    }

    /// Opens the engine's own folder, which is made where it is missing and which nobody else works in, with the daemon
    /// at [`DockerEngine::usual_host`].
    ///
    /// A daemon that is not there, or that cannot do what is needed, is an [`EngineError::Unusable`] that says what to
    /// do. To be called, as all of the engine, within a tokio runtime with all its drivers.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self, EngineError> {
        Self::open_at(folder, &usual_host()).await
    }

    /// Likewise with the daemon at `host`, which is written as in `DOCKER_HOST`.
    pub async fn open_at(folder: impl Into<PathBuf>, host: &str) -> Result<Self, EngineError> {
        let folder = folder.into();
        let (docker, info) = connect(host).await?;
        let opened = blocking(move || open_folder(&folder)).await?;
        let (name, files) = opened.map_err(engine_failed("opening the engine's folder"))?;
        let client = Client { docker, name };
        let images = Arc::new(Images::new(client.clone()));
        let may_bound = may_bound_storage(&info);
        let instances = Arc::new(Instances::new(client, Arc::clone(&images), files, may_bound));
        instances.sweep().await?;
        let limits = [info.memory_limit, info.cpu_cfs_quota, info.pids_limit];
        let limits_compute = limits.iter().all(|limit| *limit == Some(true));
        Ok(Self { images, instances, limits_compute })
    }

    /// Does `work` about an instance to its end, and nothing else about it meanwhile, even if nobody waits for it any
    /// more.
    async fn with<
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    >(
        &self,
        id: InstanceId,
        work: impl FnOnce(Arc<Instances>) -> F,
    ) -> Result<T, EngineError> {
        let lock = self.instances.locks.lock(id).await;
        let work = work(Arc::clone(&self.instances));
        let work = async move {
            let _lock = lock;
            work.await
        };
        tokio::spawn(work).await.map_err(engine_failed("working in the background"))?
    }
}

fn open_folder(folder: &Path) -> Result<(String, (Records, NameFiles)), FileError> {
    make_folder(folder)?;
    let folder = fs::canonicalize(folder).map_err(failed("find", folder))?;
    let name = own_name(&folder.join("name.json"))?;
    Ok((name, (Records::open(&folder)?, NameFiles::open(&folder)?)))
}

/// Whether it is worth asking the daemon to bound what a container writes.
fn may_bound_storage(info: &SystemInfo) -> bool {
    let status = info.driver_status.iter().flatten();
    let mut below =
        status.filter(|pair| pair.first().is_some_and(|key| key == "Backing Filesystem"));
    let is_on_xfs = below.any(|pair| pair.get(1).is_some_and(|value| value == "xfs"));
    info.driver.as_deref() != Some("overlay2") || is_on_xfs
}

#[async_trait]
impl Engine for DockerEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            containers: 1,
            freezes: true,
            limits_compute: self.limits_compute,
            limits_storage: true,
            meters_cpu: true,
            meters_network: true,
        }
    }

    async fn prepare(&self, key: &ImageKey, image: &dyn LayerSource) -> Result<(), EngineError> {
        self.images.prepare(key, image).await
    }

    async fn images(&self) -> Result<Vec<ImageKey>, EngineError> {
        self.images.list().await
    }

    async fn remove_image(&self, key: &ImageKey) -> Result<(), EngineError> {
        self.images.remove(key).await
    }

    async fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError> {
        let spec = spec.clone();
        self.with(spec.id, |instances| async move { instances.apply(&spec).await }).await
    }

    async fn instances(&self) -> Result<Vec<InstanceId>, EngineError> {
        self.instances.list().await
    }

    async fn observe(&self, id: &InstanceId) -> Result<Option<Observation>, EngineError> {
        let id = *id;
        self.with(id, |instances| async move { instances.observe(&id).await }).await
    }

    async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        let id = *id;
        self.with(id, |instances| async move { instances.usage(&id).await }).await
    }

    async fn logs(&self, id: &InstanceId, max: usize) -> Result<Bytes, EngineError> {
        let id = *id;
        self.with(id, move |instances| async move { instances.logs(&id, max).await }).await
    }

    async fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError> {
        let (id, reasons) = (*id, reasons.clone());
        self.with(id, |instances| async move { instances.freeze(&id, &reasons).await }).await
    }

    async fn remove(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError> {
        let id = *id;
        self.with(id, |instances| async move { instances.remove(&id).await }).await
    }
}
