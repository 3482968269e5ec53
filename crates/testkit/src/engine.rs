//! An engine that runs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    future,
    net::SocketAddr,
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;
use roadstead_core::ports::{
    Capabilities, Engine, EngineError, FreezeReason, InstanceSpec, LayerSource, Observation, Phase,
    Usage,
};
use roadstead_types::{ImageKey, InstanceId};
use tokio::sync::Notify;

use crate::lock;

/// An engine whose instances are entries in a table. It outlives the daemon of a test, as a real one does.
#[derive(Debug, Default)]
pub struct FakeEngine {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeSet<ImageKey>,
    instances: BTreeMap<InstanceId, Instance>,
    starts: BTreeMap<InstanceId, u32>,
    removed_images: Vec<ImageKey>,
    refusal: Option<String>,
    is_held: bool,
    is_unreadable: bool,
    is_mute: bool,
}

#[derive(Debug)]
struct Instance {
    spec: InstanceSpec,
    phase: Phase,
    reasons: BTreeSet<FreezeReason>,
    usage: Usage,
}

/// What came of a start.
struct Started {
    observed: Observation,
    is_told: bool,
}

/// What every instance has used when it starts.
const NOTHING: Usage = Usage { cpu: Some(0), network_in: Some(0), network_out: Some(0) };

impl FakeEngine {
    /// How often an instance was started, over all its lives.
    pub fn starts(&self, id: &InstanceId) -> u32 {
        lock(&self.state).starts.get(id).copied().unwrap_or_default()
    }

    /// What an instance was asked to be.
    pub fn spec(&self, id: &InstanceId) -> Option<InstanceSpec> {
        lock(&self.state).instances.get(id).map(|instance| instance.spec.clone())
    }

    /// Lets an instance end by itself.
    pub fn exit(&self, id: &InstanceId, status: i32) {
        if let Some(instance) = lock(&self.state).instances.get_mut(id) {
            instance.phase = Phase::Exited { status: Some(status), out_of_memory: Some(false) };
        }
    }

    /// Lets an instance use more: CPU milliseconds, bytes in, bytes out.
    pub fn spend(&self, id: &InstanceId, cpu: u64, network_in: u64, network_out: u64) {
        if let Some(instance) = lock(&self.state).instances.get_mut(id) {
            let more = |used: Option<u64>, more| used.map(|used: u64| used.saturating_add(more));
            let Usage { cpu: before, network_in: came, network_out: went } = instance.usage;
            instance.usage = Usage {
                cpu: more(before, cpu),
                network_in: more(came, network_in),
                network_out: more(went, network_out),
            };
        }
    }

    /// Every image that it was asked to remove, whether it was there or not.
    pub fn removed_images(&self) -> Vec<ImageKey> {
        lock(&self.state).removed_images.clone()
    }

    /// Lets nothing be prepared from now on; whoever prepares waits.
    pub fn hold(&self) {
        lock(&self.state).is_held = true;
    }

    /// Lets things be prepared again.
    pub fn release(&self) {
        lock(&self.state).is_held = false;
        self.released.notify_waiters();
    }

    async fn wait_while_held(&self) {
        loop {
            let released = self.released.notified();
            if !lock(&self.state).is_held {
                return;
            }
            released.await;
        }
    }

    /// Refuses to start anything from now on.
    pub fn refuse(&self, reason: &str) {
        lock(&self.state).refusal = Some(reason.to_owned());
    }

    /// Fails whenever it is asked for readings, or does so no more.
    pub fn hide_usage(&self, is_hidden: bool) {
        lock(&self.state).is_unreadable = is_hidden;
    }

    /// Starts what it is asked to start, and never says so; or does so again.
    pub fn mute_starts(&self, is_mute: bool) {
        lock(&self.state).is_mute = is_mute;
    }

    fn start(&self, spec: &InstanceSpec) -> Result<Started, EngineError> {
        let mut state = lock(&self.state);
        let found = state.instances.get(&spec.id);
        if let Some(live) = found.filter(|found| !matches!(found.phase, Phase::Exited { .. })) {
            return Ok(Started { observed: Self::observed(live), is_told: true });
        }
        // What has ended makes room for what is to start, whether or not that succeeds.
        state.instances.remove(&spec.id);
        if let Some(reason) = state.refusal.clone() {
            return Err(EngineError::CannotStart { reason });
        }
        for (key, _) in &spec.containers {
            if !state.images.contains(key) {
                return Err(EngineError::NotPrepared { image: key.image });
            }
        }
        *state.starts.entry(spec.id).or_default() += 1;
        let started = Instance {
            spec: spec.clone(),
            phase: Phase::Running,
            reasons: BTreeSet::new(),
            usage: NOTHING,
        };
        let observed = Self::observed(&started);
        state.instances.insert(spec.id, started);
        Ok(Started { observed, is_told: !state.is_mute })
    }

    fn observed(instance: &Instance) -> Observation {
        let containers = instance.spec.containers.iter();
        let ports = containers.flat_map(|(_, container)| container.ports.iter().copied());
        let target = |port| (port, SocketAddr::from(([127, 0, 0, 1], port)));
        Observation { phase: instance.phase, ports: ports.map(target).collect() }
    }
}

#[async_trait]
impl Engine for FakeEngine {
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
        self.wait_while_held().await;
        for index in 0..image.layers().len() {
            let mut layer = image.read(index).await?;
            while layer.next().await?.is_some() {}
        }
        lock(&self.state).images.insert(*key);
        Ok(())
    }

    async fn images(&self) -> Result<Vec<ImageKey>, EngineError> {
        Ok(lock(&self.state).images.iter().copied().collect())
    }

    async fn remove_image(&self, key: &ImageKey) -> Result<(), EngineError> {
        let mut state = lock(&self.state);
        let mut used = state.instances.values().flat_map(|instance| &instance.spec.containers);
        if used.any(|(image, _)| image == key) {
            let source = "an instance uses it".into();
            return Err(EngineError::Failed { operation: "removing an image", source });
        }
        state.removed_images.push(*key);
        state.images.remove(key);
        Ok(())
    }

    async fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError> {
        let Started { observed, is_told } = self.start(spec)?;
        if !is_told {
            future::pending::<()>().await;
        }
        Ok(observed)
    }

    async fn instances(&self) -> Result<Vec<InstanceId>, EngineError> {
        Ok(lock(&self.state).instances.keys().copied().collect())
    }

    async fn observe(&self, id: &InstanceId) -> Result<Option<Observation>, EngineError> {
        Ok(lock(&self.state).instances.get(id).map(Self::observed))
    }

    async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        let state = lock(&self.state);
        if state.is_unreadable {
            let source = "its counters are hidden".into();
            return Err(EngineError::Failed { operation: "reading the counters", source });
        }
        match state.instances.get(id) {
            Some(instance) => Ok(instance.usage),
            None => Err(EngineError::Absent { id: *id }),
        }
    }

    async fn logs(&self, id: &InstanceId, _max: usize) -> Result<Bytes, EngineError> {
        match lock(&self.state).instances.get(id) {
            Some(_) => Ok(Bytes::new()),
            None => Err(EngineError::Absent { id: *id }),
        }
    }

    async fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError> {
        let mut state = lock(&self.state);
        let instance = state.instances.get_mut(id).ok_or(EngineError::Absent { id: *id })?;
        instance.reasons.clone_from(reasons);
        if !matches!(instance.phase, Phase::Exited { .. }) {
            instance.phase = if reasons.is_empty() { Phase::Running } else { Phase::Frozen };
        }
        Ok(())
    }

    async fn remove(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError> {
        let removed = lock(&self.state).instances.remove(id);
        Ok(removed.map(|instance| instance.usage))
    }
}
