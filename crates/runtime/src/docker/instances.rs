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
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::errors::Error;
use bytes::Bytes;
use roadstead_core::{
    ports::{EngineError, FreezeReason, InstanceSpec, Observation, Phase, Usage},
    with_causes,
};
use roadstead_types::{Container, ImageKey, InstanceId};
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::{
    answers::{docker_failed, refusal, refuses_bound, refuses_limit, status},
    client::{Client, PATIENCE, POLL, Standing, took_too_long},
    container::{Surroundings, body},
    images::{CONFIG_LABEL, Images},
    names::NameFiles,
    record::{Found, Record, Records},
    sizes::{Sizes, WALK_TIME, Walked},
};
use crate::{locks::Locks, spec::check};

/// The most bytes of output that are shown.
const MAX_OUTPUT: usize = 2 << 20;

/// All instances of an engine.
#[derive(Debug)]
pub(super) struct Instances {
    pub(super) client: Client,
    images: Arc<Images>,
    pub(super) records: Records,
    pub(super) names: NameFiles,
    /// One thing at a time happens to an instance.
    pub(super) locks: Locks<InstanceId>,
    sizes: Sizes,
    /// Whether Docker's storage is of a kind that can be bounded, as far as is known.
    bounds_storage: AtomicBool,
    /// Whether Docker may set how many files a container may open, as far as was tried.
    sets_files: AtomicBool,
}

/// An instance that is there.
struct Instance {
    record: Record,
    standing: Standing,
}

impl Instances {
    /// Those in the files of an engine whose daemon may be able to bound storage.
    pub(super) fn new(
        client: Client,
        images: Arc<Images>,
        (records, names): (Records, NameFiles),
        may_bound_storage: bool,
    ) -> Self {
        Self {
            client,
            images,
            records,
            names,
            locks: Locks::default(),
            sizes: Sizes::default(),
            bounds_storage: AtomicBool::new(may_bound_storage),
            sets_files: AtomicBool::new(true),
        }
    }

    pub(super) async fn list(&self) -> Result<Vec<InstanceId>, EngineError> {
        self.records.list().await
    }

    pub(super) async fn observe(
        self: &Arc<Self>,
        id: &InstanceId,
    ) -> Result<Option<Observation>, EngineError> {
        let Some(instance) = self.settle(id).await? else { return Ok(None) };
        if let (Standing::Live { paused: false, .. }, Some(most)) =
            (instance.standing, instance.record.storage)
        {
            self.measure(*id, &instance.record.container, most);
        }
        Ok(Some(instance.observation()))
    }

    /// Looks at what a container has written, where it is time for that, and ends it where that is too much; beside
    /// everything else, for the look takes as long as the container likes.
    fn measure(self: &Arc<Self>, id: InstanceId, container: &str, most: u64) {
        if !self.sizes.begin(id, container, Instant::now()) {
            return;
        }
        let (instances, container) = (Arc::clone(self), container.to_owned());
        tokio::spawn(async move {
            let written = timeout(WALK_TIME, instances.client.written(&container)).await;
            let walked = match written {
                Ok(Ok(Some(bytes))) => Walked::Bytes(bytes),
                Ok(Ok(None)) => Walked::Unknown,
                Ok(Err(error)) => {
                    warn!(%id, error = %with_causes(&error), "what an instance wrote is not known");
                    Walked::Unknown
                }
                Err(_) => Walked::Endless,
            };
            if instances.sizes.end(&id, &container, walked, most, Instant::now())
                && let Err(error) = instances.end_overfull(&id, &container).await
            {
                let error = with_causes(&error);
                warn!(%id, %error, "an instance that wrote too much could not be ended");
            }
        });
    }

    /// Kills an instance that has written too much, if it is still that container and runs.
    async fn end_overfull(&self, id: &InstanceId, container: &str) -> Result<(), EngineError> {
        let _lock = self.locks.lock(*id).await;
        match self.settle(id).await? {
            Some(Instance { record, standing: Standing::Live { paused: false, .. } })
                if record.container == container =>
            {
                self.kill(&record).await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        let Instance { mut record, standing } = self.present(id).await?;
        if let Standing::Live { .. } = standing {
            let usage = self.read_usage(id, &mut record).await?;
            let was_read = usage != Usage::default();
            if was_read
                || matches!(self.client.look(&record.container).await?, Standing::Live { .. })
            {
                return Ok(usage);
            }
        }
        Ok(record.usage())
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
        let before = self.settle(&spec.id).await?;
        if let Some(instance) = &before
            && let Standing::Live { .. } = instance.standing
        {
            self.clear_older(&spec.id, &instance.record.container).await;
            return Ok(instance.observation());
        }
        let before = before.map(|instance| instance.record);
        let kept = before.as_ref().map(|record| &*record.container);
        self.remove_containers(&spec.id, kept).await?;
        let started = self.start(spec, key, container, before.as_ref()).await;
        match &started {
            Ok(instance) => self.clear_older(&spec.id, &instance.record.container).await,
            Err(_) => {
                // Why it did not start is worth more than why this failed; the next start or removal does it again.
                if let Err(error) = self.clear_start(&spec.id, kept).await {
                    let (id, error) = (spec.id, with_causes(&error));
                    warn!(%id, %error, "what is left of a failed start could not be removed");
                }
            }
        }
        Ok(started?.observation())
    }

    /// Removes the containers of earlier runs. An instance runs no worse with them: the next start tries again.
    async fn clear_older(&self, id: &InstanceId, container: &str) {
        if let Err(error) = self.remove_containers(id, Some(container)).await {
            let error = with_causes(&error);
            warn!(%id, %error, "containers of earlier runs could not be removed");
        }
    }

    /// Removes what a failed start left beside the container of the run before.
    async fn clear_start(&self, id: &InstanceId, kept: Option<&str>) -> Result<(), EngineError> {
        self.remove_containers(id, kept).await?;
        if kept.is_none() {
            self.remove_networks(id).await?;
            self.names.remove(id).await?;
        }
        Ok(())
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
        let names = self.names.write(&spec.id, &container.name).await?;
        let (made, bounds_storage) = loop {
            let bounds_storage = self.bounds_storage.load(Ordering::Relaxed);
            let sets_files = self.sets_files.load(Ordering::Relaxed);
            let surroundings = Surroundings {
                image: self.images.tag(key),
                network: network.clone(),
                labels: labels.clone(),
                names: names.clone(),
                bounds_storage,
                sets_files,
            };
            let body = body(spec, container, &program, surroundings);
            let made = match self.client.create(name.clone(), body).await {
                Ok(made) => made,
                Err(error) if bounds_storage && refuses_bound(&error) => {
                    self.bounds_storage.store(false, Ordering::Relaxed);
                    continue;
                }
                // Removed since it was looked at.
                Err(error) if status(&error) == Some(404) => return Err(not_prepared()),
                Err(error) => return Err(not_started("making a container", error)),
            };
            match self.client.start(&made).await {
                Ok(()) => break (made, bounds_storage),
                Err(error) if sets_files && refuses_limit(&error) => {
                    self.sets_files.store(false, Ordering::Relaxed);
                    self.client.remove(&made).await?;
                }
                Err(error) => return Err(not_started("starting a container", error)),
            }
        };
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
            let standing = self.client.look(container).await?;
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
        let usage = match self.records.find(id).await? {
            Found::Nothing => None,
            Found::Record(record) => Some(self.stop(id, *record).await?),
            // Neither its container nor its readings are known, so all that is labelled goes at once.
            Found::Damaged(error) => {
                warn!(%id, error = %with_causes(&error), "an instance is removed without its file");
                Some(Usage::default())
            }
        };
        self.remove_containers(id, None).await?;
        self.remove_networks(id).await?;
        self.names.remove(id).await?;
        self.sizes.forget(id);
        // Last: until then, whoever asks again gets the last readings.
        self.records.remove(id).await?;
        Ok(usage)
    }

    /// Takes the last reading, asks the instance to stop and waits for it as long as it may take.
    async fn stop(&self, id: &InstanceId, mut record: Record) -> Result<Usage, EngineError> {
        let Standing::Live { paused, .. } = self.client.look(&record.container).await? else {
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
        while let Standing::Live { .. } = self.client.look(container).await? {
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Reads what an instance has used, and keeps it.
    async fn read_usage(&self, id: &InstanceId, record: &mut Record) -> Result<Usage, EngineError> {
        let before = record.usage();
        let usage = record.read(self.client.usage(&record.container).await?);
        if record.usage() != before {
            self.records.write(id, record).await?;
        }
        Ok(usage)
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
        self.settle(id).await?.ok_or(EngineError::Absent { id: *id })
    }

    /// Finds out where an instance stands, and freezes or thaws it where a crash came between the reasons and the deed.
    async fn settle(&self, id: &InstanceId) -> Result<Option<Instance>, EngineError> {
        let Some(record) = self.records.read(id).await? else { return Ok(None) };
        let mut standing = self.client.look(&record.container).await?;
        let wanted = !record.reasons().is_empty();
        if let Standing::Live { paused, .. } = standing
            && paused != wanted
        {
            self.client.pause(&record.container, wanted).await?;
            standing = self.client.look(&record.container).await?;
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

/// The error of a container that was not made or not started.
fn not_started(operation: &'static str, error: Error) -> EngineError {
    refusal(&error).unwrap_or_else(|| docker_failed(operation)(error))
}
