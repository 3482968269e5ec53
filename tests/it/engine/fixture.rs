//! An engine of its own for each test, and the look for what it left.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy_primitives::{Address, B256};
use roadstead_core::ports::{
    Engine, EngineError, InstanceSpec, Limits, Network, Observation, Phase,
};
use roadstead_runtime::EmbeddedEngine;
use roadstead_types::{Container, InstanceId, JobId, Seconds};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::image::TestImage;
use crate::command::binary;

/// More than anything takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The publisher of the tests' images.
pub(super) const TENANT: Address = Address::repeat_byte(0xaa);

/// An engine in a folder of its own.
pub(super) struct Fixture {
    home: TempDir,
    engine: Box<dyn Engine>,
}

/// Runs a test with an engine, removes everything through the engine, and looks for what is left.
pub(super) fn with_engine(test: impl AsyncFnOnce(&mut Fixture)) {
    assert!(rustix::process::geteuid().is_root(), "the embedded engine needs root: run as root");
    let runtime = Runtime::new().unwrap();
    let home = tempfile::Builder::new().prefix("roadstead-engine-").tempdir().unwrap();
    let engine = runtime.block_on(open(home.path(), binary()));
    let mut fixture = Fixture { home, engine };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut fixture))));
    let left = catch_unwind(AssertUnwindSafe(|| runtime.block_on(fixture.clean())));
    // Waits for what goes on in the background, which may still write into the folder.
    drop(runtime);
    drop(fixture);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    left.unwrap_or_else(|panic| resume_unwind(panic));
}

async fn open(home: &Path, executable: &Path) -> Box<dyn Engine> {
    Box::new(EmbeddedEngine::open(home.join("engine"), executable).await.unwrap())
}

impl Fixture {
    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.home.path().join("engine")
    }

    /// As after a crash of the engine: a new one in the same folder.
    pub(super) async fn reopen(&mut self) {
        self.engine = open(self.home.path(), binary()).await;
    }

    /// Likewise, and a shell does `first` before it becomes what the engine starts.
    pub(super) async fn reopen_after(&mut self, first: &str) {
        let path = self.home.path().join("executable");
        let script = format!("#!/bin/sh\n{first} {} \"$@\"\n", binary().display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        self.engine = open(self.home.path(), &path).await;
    }

    /// An instance of `image`, which is prepared, that runs a shell script.
    pub(super) async fn script(&self, image: &TestImage, script: &str) -> InstanceSpec {
        let key = image.key(TENANT);
        self.engine().prepare(&key, image).await.unwrap();
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        let container = Container { command: Some(command), ..container() };
        InstanceSpec { containers: vec![(key, container)], ..spec() }
    }

    /// Starts what [`Self::script`] describes.
    pub(super) async fn start(&self, script: &str) -> InstanceId {
        let spec = self.script(&TestImage::busybox(), script).await;
        self.engine().apply(&spec).await.unwrap();
        spec.id
    }

    /// Runs a script to its end. Returns its exit status and what it said.
    pub(super) async fn run(&self, script: &str) -> (Option<i32>, String) {
        let spec = self.script(&TestImage::busybox(), script).await;
        self.run_spec(&spec).await
    }

    pub(super) async fn run_spec(&self, spec: &InstanceSpec) -> (Option<i32>, String) {
        self.engine().apply(spec).await.unwrap();
        let Phase::Exited { status, .. } = self.ended(&spec.id).await else { unreachable!() };
        let said = self.said(&spec.id).await;
        self.engine().remove(&spec.id).await.unwrap();
        (status, said)
    }

    pub(super) async fn observe(&self, id: &InstanceId) -> Observation {
        self.engine().observe(id).await.unwrap().expect("the instance is there")
    }

    /// Waits for the end of an instance.
    pub(super) async fn ended(&self, id: &InstanceId) -> Phase {
        self.until(async || {
            let phase = self.observe(id).await.phase;
            matches!(phase, Phase::Exited { .. }).then_some(phase)
        })
        .await
    }

    /// All that an instance said, at most 1 MiB.
    pub(super) async fn said(&self, id: &InstanceId) -> String {
        let bytes = self.engine().logs(id, 1 << 20).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until an instance has said `text`.
    pub(super) async fn says(&self, id: &InstanceId, text: &str) {
        self.until(async || self.said(id).await.contains(text).then_some(())).await;
    }

    /// Waits until `reached` finds something.
    pub(super) async fn until<T>(&self, mut reached: impl AsyncFnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = reached().await {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "this takes too long");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The shims of this engine.
    pub(super) fn shims(&self) -> Vec<Pid> {
        let folder = self.folder();
        let mark = format!("__shim\0start\0{}", folder.display());
        let other = format!("__shim\0adopt\0{}", folder.display());
        processes(|line| line.contains(&mark) || line.contains(&other))
    }

    /// Kills the only shim of this engine, and waits until it is gone.
    pub(super) async fn kill_shim(&self) {
        let shims = self.shims();
        assert_eq!(shims.len(), 1, "{shims:?}");
        let number = shims[0].as_raw_nonzero();
        kill_process(shims[0], Signal::KILL).unwrap();
        // Its command line goes before its files do, and a lock is held by its files.
        self.until(async || {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, rest)| rest.starts_with(" Z")).then_some(())
        })
        .await;
    }

    /// What a file of an instance's control group says; `None` where this machine has no such file.
    pub(super) fn group_file(&self, id: &InstanceId, file: &str) -> Option<String> {
        let groups = groups().into_iter().filter(|group| group.ends_with(id.to_string()));
        let path = groups.map(|group| group.join(file)).find(|path| path.exists())?;
        Some(fs::read_to_string(path).unwrap().trim().to_owned())
    }

    /// The first process of an instance.
    pub(super) fn first_process(&self, id: &InstanceId) -> Pid {
        let processes = self.group_file(id, "cgroup.procs").unwrap();
        let is_first = |number: &i32| {
            let status = fs::read_to_string(format!("/proc/{number}/status")).unwrap_or_default();
            let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
            numbers.is_some_and(|line| line.split_whitespace().next_back() == Some("1"))
        };
        let first = processes.lines().map(|line| line.parse().unwrap()).find(is_first);
        Pid::from_raw(first.expect("an instance has a first process")).unwrap()
    }

    async fn clean(&self) {
        for id in self.engine().instances().await.unwrap() {
            self.engine().remove(&id).await.unwrap();
        }
        for key in self.engine().images().await.unwrap() {
            self.engine().remove_image(&key).await.unwrap();
        }
        self.assert_nothing_left();
    }

    /// Nothing of an instance is left anywhere.
    pub(super) fn assert_nothing_left(&self) {
        let folder = self.folder();
        assert!(files(&folder.join("instances")).is_empty());
        let name = fs::read_to_string(folder.join("name.json")).unwrap();
        let name = name.trim_matches('"');
        let left: Vec<_> =
            groups().into_iter().filter(|group| group.iter().any(|part| part == name)).collect();
        assert!(left.is_empty(), "{left:?}");
        let text = folder.to_str().unwrap();
        assert!(processes(|line| line.contains(text)).is_empty(), "a shim is left");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(text));
    }

    /// What is being laid out or removed of layers.
    pub(super) fn half_laid_out(&self) -> usize {
        files(&self.folder().join("new")).len()
    }

    /// What is laid out of layers, over all tenants.
    pub(super) fn layers(&self) -> usize {
        let tenants = files(&self.folder().join("layers"));
        assert_eq!(self.half_laid_out(), 0);
        tenants.iter().map(|tenant| files(tenant).len()).sum()
    }
}

/// Something that a start says about a container that does not start.
pub(super) fn refusal(result: Result<Observation, EngineError>) -> String {
    match result {
        Err(EngineError::CannotStart { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A container that needs a command.
pub(super) fn container() -> Container {
    Container {
        name: "test".to_owned(),
        command: None,
        args: None,
        env: BTreeMap::new(),
        working_dir: None,
        user: None,
        read_only: false,
        ports: Vec::new(),
        stop_grace_period: Seconds(0),
    }
}

/// An instance with a new id that needs a container.
pub(super) fn spec() -> InstanceSpec {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut job = [0; 32];
    job[..4].copy_from_slice(&std::process::id().to_be_bytes());
    job[24..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    InstanceSpec {
        id: InstanceId::first(JobId(B256::new(job))),
        containers: Vec::new(),
        limits: Limits { cpu: 1_000, memory: 64, storage: 16, pids: 32 },
        network: Network::Isolated,
    }
}

/// The container of a specification.
pub(super) fn container_of(spec: &mut InstanceSpec) -> &mut Container {
    &mut spec.containers[0].1
}

/// The address of the only port.
pub(super) fn address(observation: &Observation) -> SocketAddr {
    assert_eq!(observation.ports.len(), 1);
    *observation.ports.values().next().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder);
    entries.map_or_else(|_| Vec::new(), |all| all.map(|entry| entry.unwrap().path()).collect())
}

/// The control groups of all engines and of their instances.
fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for mount in files(Path::new("/sys/fs/cgroup")).into_iter().chain(["/sys/fs/cgroup".into()]) {
        for group in files(&mount) {
            let name = group.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("roadstead-") && group.is_dir() {
                found.extend(files(&group).into_iter().filter(|inner| inner.is_dir()));
                found.push(group);
            }
        }
    }
    found
}

/// The processes whose command line `fits`.
fn processes(fits: impl Fn(&str) -> bool) -> Vec<Pid> {
    let mut found = Vec::new();
    for folder in files(Path::new("/proc")) {
        let number = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
        let Some(number) = number.and_then(Pid::from_raw) else { continue };
        let line = fs::read(folder.join("cmdline")).unwrap_or_default();
        if fits(&String::from_utf8_lossy(&line)) {
            found.push(number);
        }
    }
    found
}
