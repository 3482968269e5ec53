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
    Engine, EngineError, InstanceSpec, Limits, Network, Observation, Phase, Usage,
};
use roadstead_runtime::{DockerEngine, EmbeddedEngine};
use roadstead_types::{Container, InstanceId, JobId, Seconds};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{net::TcpStream, runtime::Runtime};

use super::{dockerd, image::TestImage};
use crate::command::binary;

/// More than anything takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The publisher of the tests' images.
pub(super) const TENANT: Address = Address::repeat_byte(0xaa);

/// The engines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Embedded,
    Docker,
}

/// An engine in a folder of its own.
pub(super) struct Fixture {
    kind: Kind,
    home: TempDir,
    engine: Box<dyn Engine>,
}

/// Runs a test with each engine, removes everything through the engine, and looks for what is left.
pub(super) fn with_engine(test: impl AsyncFn(&mut Fixture)) {
    for kind in [Kind::Embedded, Kind::Docker] {
        run(kind, &test);
    }
}

/// Likewise, with the embedded engine alone: for what is about its own parts.
pub(super) fn with_embedded(test: impl AsyncFn(&mut Fixture)) {
    run(Kind::Embedded, &test);
}

/// Likewise with Docker alone.
pub(super) fn with_docker(test: impl AsyncFn(&mut Fixture)) {
    run(Kind::Docker, &test);
}

fn run(kind: Kind, test: &impl AsyncFn(&mut Fixture)) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run_unnamed(kind, test)));
    if let Err(panic) = outcome {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        panic!("with {kind:?}: {}", text.unwrap_or("a panic without a text"));
    }
}

fn run_unnamed(kind: Kind, test: &impl AsyncFn(&mut Fixture)) {
    let runtime = Runtime::new().unwrap();
    let home = tempfile::Builder::new().prefix("roadstead-engine-").tempdir().unwrap();
    let engine = runtime.block_on(open(kind, home.path(), binary()));
    let mut fixture = Fixture { kind, home, engine };
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test(&mut fixture))));
    let left = catch_unwind(AssertUnwindSafe(|| runtime.block_on(fixture.clean())));
    // Waits for what goes on in the background, which may still write into the folder.
    drop(runtime);
    if kind == Kind::Docker {
        dockerd::remove_all(&fixture.name());
    }
    drop(fixture);
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
    left.unwrap_or_else(|panic| resume_unwind(panic));
}

async fn open(kind: Kind, home: &Path, executable: &Path) -> Box<dyn Engine> {
    let folder = home.join("engine");
    match kind {
        Kind::Embedded => {
            let is_root = rustix::process::geteuid().is_root();
            assert!(is_root, "the embedded engine needs root: run as root");
            Box::new(EmbeddedEngine::open(folder, executable).await.unwrap())
        }
        Kind::Docker => Box::new(DockerEngine::open(folder).await.unwrap_or_else(|error| {
            panic!("{error}; script/setup installs Docker and starts its daemon")
        })),
    }
}

impl Fixture {
    pub(super) fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.home.path().join("engine")
    }

    /// The engine's name, by which what it makes is known outside of its folder.
    pub(super) fn name(&self) -> String {
        let name = fs::read_to_string(self.folder().join("name.json")).unwrap();
        name.trim_matches('"').to_owned()
    }

    /// As after a crash of the engine: a new one in the same folder.
    pub(super) async fn reopen(&mut self) {
        self.engine = open(self.kind, self.home.path(), binary()).await;
    }

    /// Likewise, and a shell does `first` before it becomes what the embedded engine starts.
    pub(super) async fn reopen_after(&mut self, first: &str) {
        let path = self.home.path().join("executable");
        let script = format!("#!/bin/sh\n{first} {} \"$@\"\n", binary().display());
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        self.engine = open(self.kind, self.home.path(), &path).await;
    }

    /// The file that keeps the reasons for which an instance is frozen.
    pub(super) fn reasons_file(&self, id: &InstanceId) -> PathBuf {
        self.folder().join("instances").join(match self.kind {
            Kind::Embedded => format!("{id}/reasons.json"),
            Kind::Docker => format!("{id}.json"),
        })
    }

    /// The instances whose containers have files for their names with Docker.
    pub(super) fn files_of_names(&self) -> Vec<PathBuf> {
        files(&self.folder().join("names"))
    }

    /// Checks readings of the network. The embedded engine counts what passes; the interface of a container has headers
    /// and what its network says of itself besides.
    pub(super) fn assert_network(&self, usage: Usage, incoming: u64, outgoing: u64) {
        let expected = (Some(incoming), Some(outgoing));
        match self.kind {
            Kind::Embedded => assert_eq!((usage.network_in, usage.network_out), expected),
            Kind::Docker => {
                let enough = usage.network_in >= expected.0 && usage.network_out >= expected.1;
                assert!(enough, "{usage:?}");
            }
        }
    }

    /// Connects as soon as somebody listens there.
    pub(super) async fn connect(&self, at: SocketAddr) -> TcpStream {
        self.until(async || TcpStream::connect(at).await.ok()).await
    }

    /// Asks the first process of an instance to end, without the engine.
    pub(super) fn terminate(&self, id: &InstanceId) {
        match self.kind {
            Kind::Embedded => kill_process(self.first_process(id), Signal::TERM).unwrap(),
            Kind::Docker => {
                dockerd::run(&["kill", "--signal", "TERM", &dockerd::container(&self.name(), id)]);
            }
        }
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
        let groups = match self.kind {
            Kind::Embedded => {
                groups().into_iter().filter(|group| group.ends_with(id.to_string())).collect()
            }
            Kind::Docker => dockerd::groups(&dockerd::container(&self.name(), id)),
        };
        let path = groups.iter().map(|group| group.join(file)).find(|path| path.exists())?;
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
        self.assert_layers(0).await;
    }

    /// Nothing of an instance is left anywhere.
    pub(super) fn assert_nothing_left(&self) {
        let (folder, name) = (self.folder(), self.name());
        assert!(files(&folder.join("instances")).is_empty());
        if self.kind == Kind::Docker {
            assert_eq!(dockerd::containers(&name), "");
            assert_eq!(dockerd::networks(&name), "");
            assert!(self.files_of_names().is_empty());
            return;
        }
        let left: Vec<_> =
            groups().into_iter().filter(|group| group.iter().any(|part| *part == *name)).collect();
        assert!(left.is_empty(), "{left:?}");
        let text = folder.to_str().unwrap();
        assert!(processes(|line| line.contains(text)).is_empty(), "a shim is left");
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(text));
    }

    /// What is being laid out or removed of layers by the embedded engine.
    pub(super) fn half_laid_out(&self) -> usize {
        files(&self.folder().join("new")).len()
    }

    /// Checks how many layers are kept, over all tenants. With Docker it is checked, too, that it has no image that the
    /// engine does not know.
    pub(super) async fn assert_layers(&self, layers: usize) {
        match self.kind {
            Kind::Embedded => {
                let tenants = files(&self.folder().join("layers"));
                assert_eq!(self.half_laid_out(), 0);
                let kept: usize = tenants.iter().map(|tenant| files(tenant).len()).sum();
                assert_eq!(kept, layers);
            }
            Kind::Docker => {
                let known = self.engine().images().await.unwrap().len();
                assert_eq!(dockerd::images(&self.name()).lines().count(), known);
                assert_eq!(dockerd::layers(&self.name()), layers);
            }
        }
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
