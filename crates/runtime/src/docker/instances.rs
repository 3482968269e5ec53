//! The instances of an engine on Docker: what became of each, starting and ending them.
//!
//! | file | container that it names | so |
//! |---|---|---|
//! | none | | there is no instance; its containers are half made: they go before a start and when the engine opens |
//! | there | runs or is paused | it runs; frozen or thawed as the reasons say |
//! | there | has ended, or is gone | it has ended, with the last readings |
//!
//! A new start makes another container and writes the file anew once that runs; only then the container of the run
//! before goes. So a start that comes to nothing leaves how the instance ended, what it used and what it said.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::errors::Error;
use bytes::Bytes;
use roadstead_core::ports::{EngineError, FreezeReason, InstanceSpec, Observation, Phase, Usage};
use roadstead_types::{Container, ImageKey, InstanceId};
use tokio::time::{Instant, sleep, timeout};

use super::{
    client::{Client, Standing, refusal, said, status},
    container::{Surroundings, body},
    images::{CONFIG_LABEL, Images},
    record::{Record, Records},
};
use crate::{spec::check, work::engine_failed};

/// The most bytes of output that are shown.
const MAX_OUTPUT: usize = 2 << 20;

/// How long Docker may take to give an address to a container that it started, or to end one that it killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often that is looked at.
const POLL: Duration = Duration::from_millis(20);

/// All instances of an engine.
#[derive(Debug)]
pub(super) struct Instances {
    client: Client,
    images: Arc<Images>,
    records: Records,
    /// Whether Docker's storage is of a kind that can be bounded, as far as was tried.
    bounds_storage: AtomicBool,
}

/// An instance that is there.
struct Instance {
    record: Record,
    standing: Standing,
}

impl Instances {
    pub(super) fn new(client: Client, images: Arc<Images>, records: Records) -> Self {
        Self { client, images, records, bounds_storage: AtomicBool::new(true) }
    }

    /// Removes what a crash left of starts and removals.
    pub(super) async fn sweep(&self) -> Result<(), EngineError> {
        let mut kept = BTreeSet::new();
        let mut instances = BTreeSet::new();
        for id in self.records.list().await? {
            kept.extend(self.records.read(&id).await?.map(|record| record.container));
            instances.insert(id);
        }
        for container in self.client.containers(None).await? {
            if !kept.contains(&container.id) {
                self.client.remove(&container.id).await?;
            }
        }
        for network in self.client.networks(None).await? {
            if network.instance.is_none_or(|id| !instances.contains(&id)) {
                self.client.remove_network(&network.id).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn list(&self) -> Result<Vec<InstanceId>, EngineError> {
        self.records.list().await
    }

    pub(super) async fn observe(
        &self,
        id: &InstanceId,
    ) -> Result<Option<Observation>, EngineError> {
        let Some(mut instance) = self.settle(id, true).await? else { return Ok(None) };
        if let (Standing::Live { paused: false, written: Some(written), .. }, Some(most)) =
            (instance.standing, instance.record.storage)
            && written > most
        {
            self.kill(&instance.record).await?;
            instance.standing = self.client.look(&instance.record.container, false).await?;
        }
        Ok(Some(instance.observation()))
    }

    pub(super) async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        let mut instance = self.present(id).await?;
        if let Standing::Live { .. } = instance.standing {
            self.read_usage(id, &mut instance.record).await?;
        }
        Ok(instance.record.usage())
    }

    pub(super) async fn logs(&self, id: &InstanceId, max: usize) -> Result<Bytes, EngineError> {
        let instance = self.present(id).await?;
        self.client.logs(&instance.record.container, max.min(MAX_OUTPUT)).await
    }

    pub(super) async fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError> {
        let mut instance = self.present(id).await?;
        if let Standing::Live { .. } = instance.standing {
            // Durable first: whoever comes after a crash does what it says.
            instance.record.set_reasons(reasons);
            self.records.write(id, &instance.record).await?;
            self.client.pause(&instance.record.container, !reasons.is_empty()).await?;
        }
        Ok(())
    }

    pub(super) async fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError> {
        let (key, container) = check(spec)?;
        let before = self.settle(&spec.id, false).await?;
        if let Some(instance) = &before
            && let Standing::Live { .. } = instance.standing
        {
            return Ok(instance.observation());
        }
        let before = before.map(|instance| instance.record);
        let kept = before.as_ref().map(|record| &*record.container);
        self.remove_containers(&spec.id, kept).await?;
        let started = self.start(spec, key, container, before.as_ref()).await;
        match &started {
            Ok(instance) => {
                self.remove_containers(&spec.id, Some(&instance.record.container)).await?;
            }
            Err(_) => {
                self.remove_containers(&spec.id, kept).await?;
                if before.is_none() {
                    self.remove_networks(&spec.id).await?;
                }
            }
        }
        Ok(started?.observation())
    }

    async fn start(
        &self,
        spec: &InstanceSpec,
        key: &ImageKey,
        container: &Container,
        before: Option<&Record>,
    ) -> Result<Instance, EngineError> {
        let not_prepared = || EngineError::NotPrepared { image: key.image };
        let program =
            self.images.config(key).await?.ok_or_else(not_prepared)?.program(container)?;
        let run = before.map_or(1, |record| record.run.wrapping_add(1));
        let name = format!("{}-{}-{run}", self.client.name, spec.id);
        let network = self.client.network(&spec.id).await?;
        let mut labels = self.client.labels(Some(&spec.id));
        // Else it would be the image's.
        labels.insert(CONFIG_LABEL.to_owned(), String::new());
        let (made, bounds_storage) = loop {
            let bounds_storage = self.bounds_storage.load(Ordering::Relaxed);
            let surroundings = Surroundings {
                image: self.images.tag(key),
                network: network.clone(),
                labels: labels.clone(),
                bounds_storage,
            };
            let body = body(spec, container, &program, surroundings);
            match self.client.create(name.clone(), body).await {
                Err(error) if bounds_storage && refuses_bound(&error) => {
                    self.bounds_storage.store(false, Ordering::Relaxed);
                }
                made => break (made, bounds_storage),
            }
        };
        let made = made.map_err(|error| match status(&error) {
            // Removed since it was looked at.
            Some(404) => not_prepared(),
            _ => refusal(&error).unwrap_or_else(|| engine_failed("making a container")(error)),
        })?;
        self.client.start(&made).await?;
        let standing = self.reachable(&made).await?;
        let mut record = Record::new(*key, made, run);
        record.ports = container.ports.iter().copied().collect();
        record.stop_signal = program.stop_signal;
        record.stop_grace = container.stop_grace_period.0;
        record.storage = (!bounds_storage).then_some(spec.limits.storage << 20);
        self.records.write(&spec.id, &record).await?;
        Ok(Instance { record, standing })
    }

    /// Where a container stands once it has an address, or has ended.
    async fn reachable(&self, container: &str) -> Result<Standing, EngineError> {
        let start = Instant::now();
        loop {
            let standing = self.client.look(container, false).await?;
            if !matches!(standing, Standing::Live { address: None, .. }) {
                return Ok(standing);
            }
            if start.elapsed() > PATIENCE {
                return Err(took_too_long("waiting for the address of a container"));
            }
            sleep(POLL).await;
        }
    }

    /// Ends an instance and removes everything of it.
    pub(super) async fn remove(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError> {
        let usage = match self.records.read(id).await? {
            None => None,
            Some(record) => Some(self.stop(id, record).await?),
        };
        self.remove_containers(id, None).await?;
        self.remove_networks(id).await?;
        // Last: until then, whoever asks again gets the last readings.
        self.records.remove(id).await?;
        Ok(usage)
    }

    /// Takes the last reading, asks the instance to stop and waits for it as long as it may take.
    async fn stop(&self, id: &InstanceId, mut record: Record) -> Result<Usage, EngineError> {
        let Standing::Live { paused, .. } = self.client.look(&record.container, false).await?
        else {
            return Ok(record.usage());
        };
        // An instance must be able to end without it.
        let _ = self.read_usage(id, &mut record).await;
        if paused {
            // A signal waits until the instance thaws.
            record.set_reasons(&BTreeSet::new());
            self.records.write(id, &record).await?;
            self.client.pause(&record.container, false).await?;
        }
        self.client.kill(&record.container, record.stop_signal).await?;
        let grace = Duration::from_secs(u64::from(record.stop_grace));
        // What has not ended by then is killed when it is removed.
        if let Ok(ended) = timeout(grace, self.ended(&record.container)).await {
            ended?;
        }
        Ok(record.usage())
    }

    /// Kills an instance and waits for its end.
    async fn kill(&self, record: &Record) -> Result<(), EngineError> {
        self.client.kill(&record.container, SIGKILL).await?;
        let ended = timeout(PATIENCE, self.ended(&record.container)).await;
        ended.unwrap_or_else(|_| Err(took_too_long("waiting for the end of a container")))
    }

    async fn ended(&self, container: &str) -> Result<(), EngineError> {
        while let Standing::Live { .. } = self.client.look(container, false).await? {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Reads what an instance has used, and keeps it.
    async fn read_usage(&self, id: &InstanceId, record: &mut Record) -> Result<(), EngineError> {
        if record.read(self.client.usage(&record.container).await?) {
            self.records.write(id, record).await?;
        }
        Ok(())
    }

    async fn remove_containers(
        &self,
        id: &InstanceId,
        kept: Option<&str>,
    ) -> Result<(), EngineError> {
        for container in self.client.containers(Some(id)).await? {
            if kept != Some(&container.id) {
                self.client.remove(&container.id).await?;
            }
        }
        Ok(())
    }

    async fn remove_networks(&self, id: &InstanceId) -> Result<(), EngineError> {
        for network in self.client.networks(Some(id)).await? {
            self.client.remove_network(&network.id).await?;
        }
        Ok(())
    }

    async fn present(&self, id: &InstanceId) -> Result<Instance, EngineError> {
        self.settle(id, false).await?.ok_or(EngineError::Absent { id: *id })
    }

    /// Finds out where an instance stands, with what it has written where `size` says so, and freezes or thaws it where
    /// a crash came between the reasons and the deed.
    async fn settle(&self, id: &InstanceId, size: bool) -> Result<Option<Instance>, EngineError> {
        let Some(record) = self.records.read(id).await? else { return Ok(None) };
        let size = size && record.storage.is_some();
        let mut standing = self.client.look(&record.container, size).await?;
        let wanted = !record.reasons().is_empty();
        if let Standing::Live { paused, .. } = standing
            && paused != wanted
        {
            self.client.pause(&record.container, wanted).await?;
            standing = self.client.look(&record.container, size).await?;
        }
        Ok(Some(Instance { record, standing }))
    }
}

impl Instance {
    fn observation(&self) -> Observation {
        match self.standing {
            Standing::Live { paused, address, .. } => {
                let phase = if paused { Phase::Frozen } else { Phase::Running };
                let at = |port: &u16| Some((*port, SocketAddr::new(address?, *port)));
                Observation { phase, ports: self.record.ports.iter().filter_map(at).collect() }
            }
            Standing::Ended { status, out_of_memory } => Observation {
                phase: Phase::Exited { status, out_of_memory },
                ports: std::collections::BTreeMap::new(),
            },
        }
    }
}

const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// Whether Docker says that its storage cannot be bounded.
fn refuses_bound(error: &Error) -> bool {
    said(error).is_some_and(|said| said.contains("storage-opt"))
}

fn took_too_long(operation: &'static str) -> EngineError {
    engine_failed(operation)(io::Error::from(io::ErrorKind::TimedOut))
}
