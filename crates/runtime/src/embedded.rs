//! The embedded engine: containers made by this program itself, without a daemon beside it.
//!
//! The engine lays images out, starts a shim for each instance, reads control groups and sends signals. The shim, a
//! process of its own, makes the container and watches it. Both work in the instance's folder; an engine that opens
//! the folder later finds everything there. No library that makes containers is called from the engine's process.

mod control_group;
mod images;
mod instances;
mod launch;
pub(crate) mod layer;
mod order;
mod process;
mod run;
pub mod shim;
pub(crate) mod sys;

use std::{collections::BTreeSet, error::Error, fs, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{
    Capabilities, Engine, EngineError, FreezeReason, InstanceSpec, LayerSource, Observation, Usage,
};
use roadstead_types::{ImageKey, InstanceId};
use rustix::process::geteuid;

use crate::{
    files::{failed, make_folder, remove_folder},
    work::{blocking, engine_failed},
};
use images::Images;
use instances::Instances;
use launch::launch;
use shim::Task;

/// Runs each instance as a container of this machine's kernel. Needs root.
///
/// - One container per instance, in namespaces of its own, without capabilities, under a filter of system calls.
/// - Root of a container is root of the machine, without its capabilities: there is no user namespace. What the kernel
///   counts per user, containers that run as the same user share with each other and with the machine; so each may have
///   little of it.
/// - The shim's own work, which is to copy output and to forward connections, is not held to the container's limits.
///   It is bounded instead: so much output in a second, so many connections, so many bytes that wait.
/// - What a container writes lies in memory, bounded by the storage limit. It counts as its memory, so the kernel holds
///   it to memory and storage together: storage that is not used can be used as memory.
/// - It reaches nothing but itself. Each of its ports is forwarded from a loopback address of this machine; the bytes
///   that pass there are what network usage counts.
/// - The time it takes to make a container is not counted as the container's CPU time.
/// - After the death of its shim an instance goes on. It is watched again at the next [`Engine::observe`],
///   [`Engine::apply`], [`Engine::usage`] or [`Engine::freeze`]: its ports are forwarded from the same addresses where
///   these are still free. How it ended is then known with Linux 6.15 or newer, and with older ones where whoever
///   waits for orphans is slow.
#[derive(Debug)]
pub struct EmbeddedEngine {
    images: Arc<Images>,
    instances: Arc<Instances>,
}

impl EmbeddedEngine {
    /// Opens the engine's own folder, which is made where it is missing and which nobody else works in. `executable`
    /// is started for each instance: a program that calls [`shim::answer`] first thing in `main`.
    ///
    /// Tries what containers need; what is missing is an [`EngineError::Unusable`] that names it. To be called, as all
    /// of the engine, within a tokio runtime with all its drivers.
    pub async fn open(
        folder: impl Into<PathBuf>,
        executable: impl Into<PathBuf>,
    ) -> Result<Self, EngineError> {
        if !geteuid().is_root() {
            return Err(EngineError::NeedsRoot);
        }
        let (folder, executable) = (folder.into(), executable.into());
        blocking(move || Self::open_blocking(folder, executable)).await?
    }

    fn open_blocking(folder: PathBuf, executable: PathBuf) -> Result<Self, EngineError> {
        let opening = || engine_failed("opening the engine's folder");
        make_folder(&folder).map_err(opening())?;
        let folder =
            fs::canonicalize(&folder).map_err(failed("find", &folder)).map_err(opening())?;
        let images = Arc::new(Images::open(&folder).map_err(opening())?);
        let probe = folder.join("new").join("probe");
        make_folder(&probe).map_err(opening())?;
        launch(&executable, Task::Probe, &probe, None).map_err(unusable)?;
        remove_folder(&probe).map_err(opening())?;
        let instances = Instances::open(&folder, executable, Arc::clone(&images))?;
        Ok(Self { images, instances: Arc::new(instances) })
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            containers: 1,
            freezes: true,
            limits_compute: true,
            limits_storage: true,
            meters_cpu: true,
            meters_network: true,
        }
    }

    async fn prepare(&self, key: &ImageKey, image: &dyn LayerSource) -> Result<(), EngineError> {
        self.images.prepare(key, image).await
    }

    async fn images(&self) -> Result<Vec<ImageKey>, EngineError> {
        let images = Arc::clone(&self.images);
        blocking(move || images.list()).await?.map_err(engine_failed("listing the images"))
    }

    async fn remove_image(&self, key: &ImageKey) -> Result<(), EngineError> {
        let (image, instances) = (*key, Arc::clone(&self.instances));
        self.images.remove(key, move |record| instances.forget_image(&image, record)).await
    }

    async fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError> {
        let spec = spec.clone();
        self.instances.with(spec.id, move |instances| instances.apply(&spec)).await
    }

    async fn instances(&self) -> Result<Vec<InstanceId>, EngineError> {
        let instances = Arc::clone(&self.instances);
        blocking(move || instances.list()).await?
    }

    async fn observe(&self, id: &InstanceId) -> Result<Option<Observation>, EngineError> {
        let id = *id;
        self.instances.with(id, move |instances| instances.observe(&id)).await
    }

    async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        let id = *id;
        self.instances.with(id, move |instances| instances.usage(&id)).await
    }

    async fn logs(&self, id: &InstanceId, max: usize) -> Result<Bytes, EngineError> {
        let id = *id;
        self.instances.with(id, move |instances| instances.logs(&id, max)).await
    }

    async fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError> {
        let (id, reasons) = (*id, reasons.clone());
        self.instances.with(id, move |instances| instances.freeze(&id, &reasons)).await
    }

    async fn remove(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError> {
        self.instances.remove(id).await
    }
}

fn unusable(error: EngineError) -> EngineError {
    let mut reason = match &error {
        EngineError::CannotStart { reason } => reason.clone(),
        error => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    EngineError::Unusable { reason }
}
