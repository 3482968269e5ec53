//! The instances of an engine: what became of each, starting and ending them.
//!
//! One thing at a time happens to an instance. Whatever is asked, first it is settled where the instance stands, which
//! repairs what a crash left:
//!
//! | folder | shim | found | so |
//! |---|---|---|---|
//! | none | | | there is no instance, but for the one below |
//! | `exit.json` | | | it has ended |
//! | `state.json` | lives | | it runs; frozen or thawed as the reasons say |
//! | `state.json` | dead | its first process | a new shim is started for it |
//! | `state.json` | dead | no first process | its end is written down, with the last readings |
//! | no state | lives | | it starts; waited for, and killed when it takes too long |
//! | no state | dead | | it never ran; everything of it goes |
//!
//! While an instance that has ended is started anew, its folder waits as `ended-ID`. Where the new start comes to
//! nothing, it takes its place again: how the instance ended, and what it used, stay known. What is being removed is
//! called `gone-ID` before anything in it is touched.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use roadstead_core::ports::{EngineError, FreezeReason, InstanceSpec, Observation, Phase, Usage};
use roadstead_types::{Container, ImageKey, InstanceId};
use rustix::process::Signal;
use tokio::time::timeout;

use super::{
    control_group::{ControlGroup, Hierarchies},
    images::Images,
    launch::launch,
    order::Order,
    process::ProcessId,
    run::{Exit, Record, RunFolder, State},
    shim::{Task, newest_output},
    sys::shell_status,
};
use crate::{
    files::{FileError, failed, make_folder, names, remove_folder},
    image::to_signal,
    locks::Locks,
    name::own_name,
    spec::check,
    work::{blocking, engine_failed},
};

/// How long a shim may take to say how its container ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a start goes on that an earlier engine ordered. It takes some tens of milliseconds.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// What comes before the id in the name of a folder: of an instance that is started anew, and of what is being removed.
const ENDED: &str = "ended-";
const GONE: &str = "gone-";

/// How often a new shim is started for an instance before that counts as an error, and how long after a failure.
const ADOPTIONS: u32 = 4;
const ADOPTION_PAUSE: Duration = Duration::from_millis(100);

/// How often that is looked at.
const POLL: Duration = Duration::from_millis(5);

/// All instances of an engine.
#[derive(Debug)]
pub(crate) struct Instances {
    folder: PathBuf,
    executable: PathBuf,
    images: Arc<Images>,
    /// Of all control groups; of no other engine on this machine.
    group: String,
    locks: Locks<InstanceId>,
    /// Held while an image is found unused and while one is taken into use.
    using: Mutex<()>,
    /// Shared by whatever starts, for it makes a control group below that of all.
    starting: RwLock<()>,
}

/// An instance that is there.
struct Instance {
    folder: RunFolder,
    record: Record,
    group: ControlGroup,
    standing: Standing,
}

enum Standing {
    Live(State),
    Ended(Exit),
}

/// What to do about a running instance whose shim is dead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orphans {
    Adopt,
    Leave,
}

impl Instances {
    /// Those in `folder`.
    pub(crate) fn open(
        folder: &Path,
        executable: PathBuf,
        images: Arc<Images>,
    ) -> Result<Self, EngineError> {
        let opening = || engine_failed("opening the engine's folder");
        let group = own_name(&folder.join("name.json")).map_err(opening())?;
        let folder = folder.join("instances");
        make_folder(&folder).map_err(opening())?;
        for name in names(&folder).map_err(opening())? {
            if name.starts_with(GONE) {
                remove_folder(&folder.join(name)).map_err(opening())?;
            }
        }
        Ok(Self {
            folder,
            executable,
            images,
            group,
            locks: Locks::default(),
            using: Mutex::default(),
            starting: RwLock::default(),
        })
    }

    /// Does `work` about an instance in a thread that may block, and nothing else about it meanwhile, even if nobody
    /// waits for it any more.
    pub(crate) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        id: InstanceId,
        work: impl FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let lock = self.locks.lock(id).await;
        let instances = Arc::clone(self);
        let work = move || {
            let _lock = lock;
            work(&instances)
        };
        blocking(work).await?
    }

    pub(crate) fn list(&self) -> Result<Vec<InstanceId>, EngineError> {
        let names = names(&self.folder).map_err(engine_failed("listing the instances"))?;
        let ids = names.iter().map(|name| name.strip_prefix(ENDED).unwrap_or(name));
        Ok(ids.filter_map(|id| id.parse().ok()).collect::<BTreeSet<_>>().into_iter().collect())
    }

    pub(crate) fn observe(&self, id: &InstanceId) -> Result<Option<Observation>, EngineError> {
        let instance = self.settle(id, Orphans::Adopt)?;
        Ok(instance.map(|instance| instance.observation()))
    }

    pub(crate) fn usage(&self, id: &InstanceId) -> Result<Usage, EngineError> {
        Ok(self.present(id)?.usage())
    }

    pub(crate) fn logs(&self, id: &InstanceId, max: usize) -> Result<Bytes, EngineError> {
        let instance = self.present(id)?;
        let newest = newest_output(instance.folder.path(), max);
        newest.map(Bytes::from).map_err(engine_failed("reading the output"))
    }

    pub(crate) fn freeze(
        &self,
        id: &InstanceId,
        reasons: &BTreeSet<FreezeReason>,
    ) -> Result<(), EngineError> {
        let instance = self.present(id)?;
        if let Standing::Live(_) = instance.standing {
            // Durable first: whoever comes after a crash does what it says.
            let written = instance.folder.write_reasons(reasons);
            written
                .and_then(|()| instance.group.set_frozen(!reasons.is_empty()))
                .map_err(engine_failed("freezing an instance"))?;
        }
        Ok(())
    }

    pub(crate) fn apply(&self, spec: &InstanceSpec) -> Result<Observation, EngineError> {
        let (key, container) = check(spec)?;
        if let Some(instance) = self.settle(&spec.id, Orphans::Adopt)? {
            if let Standing::Live(_) = instance.standing {
                return Ok(instance.observation());
            }
            wait_for_shim(&instance.folder)?;
            self.set_aside(&spec.id).map_err(engine_failed("starting an instance anew"))?;
        }
        let started = self.start(spec, key, container);
        if started.is_err() {
            // Killed where it did not answer, it may take a moment.
            if self.run_folder(&spec.id).path().is_dir() {
                wait_for_shim(&self.run_folder(&spec.id))?;
            }
            self.undo_start(&spec.id)?;
        }
        started?;
        let before = self.named(ENDED, &spec.id);
        remove_folder(before.path()).map_err(engine_failed("removing an earlier run"))?;
        let instance = self.present(&spec.id)?;
        Ok(instance.observation())
    }

    fn start(
        &self,
        spec: &InstanceSpec,
        key: &ImageKey,
        container: &Container,
    ) -> Result<(), EngineError> {
        let starting = || engine_failed("preparing the start of an instance");
        let folder = self.run_folder(&spec.id);
        let (config, layers) = {
            let _using = self.using.lock().unwrap_or_else(PoisonError::into_inner);
            let image = self.images.load(key)?;
            let image = image.ok_or(EngineError::NotPrepared { image: key.image })?;
            make_folder(&folder.private()).map_err(starting())?;
            let record = Record {
                image: *key,
                control_group: self.group_path(&spec.id),
                stop_signal: image.0.program(container)?.stop_signal,
                stop_grace: container.stop_grace_period.0,
            };
            folder.write_record(&record).map_err(starting())?;
            image
        };
        let program = config.program(container)?;
        let order = Order {
            id: spec.id.to_string(),
            hostname: container.name.clone(),
            control_group: self.group_path(&spec.id),
            layers,
            args: program.args,
            env: program.env,
            working_dir: program.working_dir,
            user: program.user,
            read_only: container.read_only,
            ports: container.ports.iter().copied().collect::<BTreeSet<_>>().into_iter().collect(),
            cpu: spec.limits.cpu,
            memory: spec.limits.memory << 20,
            storage: spec.limits.storage << 20,
            pids: spec.limits.pids,
        };
        let _starting = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        launch(&self.executable, Task::Start, folder.path(), Some(&order))
    }

    /// Ends an instance and removes everything of it.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        id: &InstanceId,
    ) -> Result<Option<Usage>, EngineError> {
        let id = *id;
        let lock = Arc::new(self.locks.lock(id).await);
        let ask = {
            let (instances, lock) = (Arc::clone(self), Arc::clone(&lock));
            move || {
                let _lock = lock;
                instances.ask_to_stop(&id)
            }
        };
        if let Some((init, grace)) = blocking(ask).await?? {
            let ended = async {
                while init.is_alive() {
                    tokio::time::sleep(POLL).await;
                }
            };
            // Either it ended, or it is killed now.
            let _ = timeout(grace, ended).await;
        }
        let instances = Arc::clone(self);
        let end = move || {
            let _lock = lock;
            instances.end(&id)
        };
        blocking(end).await?
    }

    /// Asks a running instance to stop. Returns its first process, and how long to wait for the end of it.
    fn ask_to_stop(&self, id: &InstanceId) -> Result<Option<(ProcessId, Duration)>, EngineError> {
        const STOPPING: &str = "stopping an instance";
        let Some(instance) = self.settle(id, Orphans::Leave)? else { return Ok(None) };
        let Standing::Live(state) = &instance.standing else { return Ok(None) };
        // A signal waits until the instance thaws.
        let thawed = instance.folder.write_reasons(&BTreeSet::new());
        let thawed = thawed.and_then(|()| instance.group.set_frozen(false));
        thawed.map_err(engine_failed(STOPPING))?;
        let signal = to_signal(instance.record.stop_signal).unwrap_or(Signal::TERM);
        state.init.signal(signal).map_err(engine_failed(STOPPING))?;
        let grace = Duration::from_secs(u64::from(instance.record.stop_grace));
        Ok(Some((state.init, grace)))
    }

    /// Kills what is left of an instance and removes everything of it.
    fn end(&self, id: &InstanceId) -> Result<Option<Usage>, EngineError> {
        let stopping = || engine_failed("stopping an instance");
        let usage = match self.settle(id, Orphans::Leave)? {
            None => None,
            Some(instance) => {
                if let Standing::Live(state) = &instance.standing {
                    state.init.signal(Signal::KILL).map_err(stopping())?;
                    wait_for("the end of an instance", || Ok(!state.init.is_alive()))?;
                }
                // By now it has ended, so this has its last readings.
                let ended = self.settle(id, Orphans::Leave)?;
                wait_for_shim(&instance.folder)?;
                ended.map(|ended| ended.usage())
            }
        };
        self.erase(id)?;
        Ok(usage)
    }

    /// Removes the record of an image that no instance uses.
    pub(crate) fn forget_image(&self, key: &ImageKey, record: &Path) -> Result<(), EngineError> {
        const REMOVING: &str = "removing an image";
        let _using = self.using.lock().unwrap_or_else(PoisonError::into_inner);
        for id in self.list()? {
            for folder in [self.run_folder(&id), self.named(ENDED, &id)] {
                let used = folder.record().map_err(engine_failed(REMOVING))?;
                if used.is_some_and(|used| used.image == *key) {
                    let error = format!("instance {id} uses it");
                    return Err(EngineError::Failed { operation: REMOVING, source: error.into() });
                }
            }
        }
        match fs::remove_file(record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(engine_failed(REMOVING)(FileError::new("remove", record, error)))
            }
            _ => Ok(()),
        }
    }

    fn present(&self, id: &InstanceId) -> Result<Instance, EngineError> {
        self.settle(id, Orphans::Adopt)?.ok_or(EngineError::Absent { id: *id })
    }

    /// Finds out where an instance stands, and repairs what a crash left.
    fn settle(&self, id: &InstanceId, orphans: Orphans) -> Result<Option<Instance>, EngineError> {
        let looking = || engine_failed("looking at an instance");
        let folder = self.run_folder(id);
        if !folder.path().is_dir() && !self.put_back(id)? {
            return Ok(None);
        }
        let group = self.control_group(id)?;
        let (start, mut failures) = (Instant::now(), 0);
        while start.elapsed() < PATIENCE {
            let record = folder.record().map_err(looking())?;
            // Asked before what the shim writes is read, so that nothing it wrote last is missed.
            let has_shim = folder.has_shim().map_err(looking())?;
            let (state, exit) =
                (folder.state().map_err(looking())?, folder.exit().map_err(looking())?);
            let instance = |record, standing| {
                let (folder, group) = (folder.clone(), group.clone());
                Ok(Some(Instance { folder, record, group, standing }))
            };
            match (record, state, exit) {
                (Some(record), _, Some(exit)) => return instance(record, Standing::Ended(exit)),
                (Some(record), Some(state), None) => {
                    let alive = state.init.is_alive();
                    if alive && !has_shim && orphans == Orphans::Adopt {
                        if let Err(error) =
                            launch(&self.executable, Task::Adopt, folder.path(), None)
                        {
                            failures += 1;
                            if failures == ADOPTIONS {
                                return Err(error);
                            }
                            // It may be ending, which takes a moment in which nobody can enter its network.
                            thread::sleep(ADOPTION_PAUSE);
                        }
                        // It may be reachable elsewhere now.
                        continue;
                    }
                    if alive {
                        let instance = instance(record, Standing::Live(state));
                        return if orphans == Orphans::Adopt { obey(instance) } else { instance };
                    }
                    if !has_shim {
                        let status = state.init.exit_code().map(shell_status);
                        let exit = folder.finish(&state, &group, status).map_err(looking())?;
                        return instance(record, Standing::Ended(exit));
                    }
                }
                _ if !has_shim => {
                    if !self.undo_start(id)? {
                        return Ok(None);
                    }
                    continue;
                }
                _ if start.elapsed() > START_PATIENCE => {
                    folder.kill_shim().map_err(looking())?;
                }
                _ => {}
            }
            thread::sleep(POLL);
        }
        Err(engine_failed("waiting for a shim")(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Puts the folder of an instance that has ended where it waits for what comes of the new start.
    fn set_aside(&self, id: &InstanceId) -> Result<(), FileError> {
        let (folder, aside) = (self.run_folder(id), self.named(ENDED, id));
        // Of a start that came to something, and to this end, when nobody was left to remove it.
        remove_folder(aside.path())?;
        fs::rename(folder.path(), aside.path()).map_err(failed("move", folder.path()))
    }

    /// Removes what a start left that came to nothing. Returns whether the instance is there as it was before.
    fn undo_start(&self, id: &InstanceId) -> Result<bool, EngineError> {
        self.clear(id)?;
        self.put_back(id)
    }

    /// Puts a folder back that waited. Returns whether there was one.
    fn put_back(&self, id: &InstanceId) -> Result<bool, EngineError> {
        let (folder, aside) = (self.run_folder(id), self.named(ENDED, id));
        match fs::rename(aside.path(), folder.path()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let error = FileError::new("move", aside.path(), error);
                Err(engine_failed("looking at an instance")(error))
            }
        }
    }

    /// Removes everything of an instance but its image. Nothing watches it any more.
    fn erase(&self, id: &InstanceId) -> Result<(), EngineError> {
        let removing = || engine_failed("removing an instance");
        remove_folder(self.named(ENDED, id).path()).map_err(removing())?;
        self.clear(id)
    }

    /// Removes the control group and the folder of an instance.
    fn clear(&self, id: &InstanceId) -> Result<(), EngineError> {
        let removing = || engine_failed("removing an instance");
        self.control_group(id)?.remove().map_err(removing())?;
        let (folder, gone) = (self.run_folder(id), self.named(GONE, id));
        remove_folder(gone.path()).map_err(removing())?;
        // Renamed first: an instance without half of its files has other readings, or none.
        match fs::rename(folder.path(), gone.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(removing()(FileError::new("move", folder.path(), error)));
            }
            _ => {}
        }
        // The instance is gone, and whoever ended it must get its last readings. What is left goes when the engine
        // opens, or with the next instance of that id.
        let _ = remove_folder(gone.path());
        // Whatever starts now needs it, and whatever ends last removes it.
        if let Ok(_nothing_starts) = self.starting.try_write() {
            let hierarchies = Hierarchies::read().map_err(removing())?;
            ControlGroup::new(hierarchies, &self.group).remove_if_empty();
        }
        Ok(())
    }

    fn run_folder(&self, id: &InstanceId) -> RunFolder {
        RunFolder::new(self.folder.join(id.to_string()))
    }

    fn named(&self, prefix: &str, id: &InstanceId) -> RunFolder {
        RunFolder::new(self.folder.join(format!("{prefix}{id}")))
    }

    fn group_path(&self, id: &InstanceId) -> String {
        format!("/{}/{id}", self.group)
    }

    fn control_group(&self, id: &InstanceId) -> Result<ControlGroup, EngineError> {
        let hierarchies = Hierarchies::read().map_err(engine_failed("finding control groups"))?;
        Ok(ControlGroup::new(hierarchies, &self.group_path(id)))
    }
}

impl Instance {
    fn observation(&self) -> Observation {
        match &self.standing {
            Standing::Live(state) => {
                let frozen = self.group.is_frozen();
                let phase = if frozen { Phase::Frozen } else { Phase::Running };
                Observation { phase, ports: state.ports.clone() }
            }
            Standing::Ended(Exit { status, out_of_memory, .. }) => {
                let phase = Phase::Exited { status: *status, out_of_memory: *out_of_memory };
                Observation { phase, ports: std::collections::BTreeMap::new() }
            }
        }
    }

    fn usage(&self) -> Usage {
        match &self.standing {
            Standing::Live(state) => self.folder.usage(state, &self.group),
            Standing::Ended(exit) => exit.usage(),
        }
    }
}

/// Freezes or thaws an instance where a crash came between the reasons and the deed.
fn obey(instance: Result<Option<Instance>, EngineError>) -> Result<Option<Instance>, EngineError> {
    let Some(instance) = instance? else { return Ok(None) };
    let obeying = || engine_failed("freezing an instance");
    let wanted = !instance.folder.reasons().map_err(obeying())?.is_empty();
    // Neither while it is on the way, where it may stay.
    let obeys = if wanted { instance.group.is_frozen() } else { instance.group.is_thawed() };
    if !obeys {
        instance.group.set_frozen(wanted).map_err(obeying())?;
    }
    Ok(Some(instance))
}

/// Waits until the shim is gone, which writes down the end before it goes.
fn wait_for_shim(folder: &RunFolder) -> Result<(), EngineError> {
    wait_for("the end of a shim", || {
        folder.has_shim().map(|has| !has).map_err(engine_failed("looking at an instance"))
    })
}

fn wait_for(
    what: &'static str,
    mut reached: impl FnMut() -> Result<bool, EngineError>,
) -> Result<(), EngineError> {
    let start = Instant::now();
    while !reached()? {
        if start.elapsed() > PATIENCE {
            let error = io::Error::new(io::ErrorKind::TimedOut, what);
            return Err(engine_failed("waiting")(error));
        }
        thread::sleep(POLL);
    }
    Ok(())
}
