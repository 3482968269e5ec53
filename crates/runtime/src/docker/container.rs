//! A container as Docker is asked to make it.
//!
//! Everything that Docker would else take from the image or from its own settings is said, but for limits of processes
//! that its settings may name beside those here.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use roadstead_core::ports::{InstanceSpec, Limits};
use roadstead_types::Container;

use super::names::NAME_FILES;
use crate::{
    confinement::{
        CPU_PERIOD, MASKED, MAX_LOCKED, MAX_MESSAGES, MAX_SIGNALS, READ_ONLY, cpu_quota, open_files,
    },
    image::Program,
};

/// Bytes of shared memory, which count as the container's memory.
const SHARED_MEMORY: i64 = 64 << 20;

/// Output is kept in two files of this size, with what Docker writes beside each line.
const LOG_FILE: &str = "4m";
const LOG_FILES: &str = "2";

/// How gladly the kernel kills a process of a container where memory is short.
const KILLED_GLADLY: i64 = 500;

/// What surrounds a container.
pub(super) struct Surroundings {
    /// Name of its image.
    pub(super) image: String,
    /// Docker's id of its network.
    pub(super) network: String,
    pub(super) labels: HashMap<String, String>,
    /// Folder with the files of its names.
    pub(super) names: PathBuf,
    /// Whether Docker is to hold it to its storage.
    pub(super) bounds_storage: bool,
    /// Whether Docker is to set how many files it may open, which may be more than Docker itself may.
    pub(super) sets_files: bool,
}

/// The container of `spec` that runs `program`.
pub(super) fn body(
    spec: &InstanceSpec,
    container: &Container,
    program: &Program,
    surroundings: Surroundings,
) -> ContainerCreateBody {
    let env = program.env.iter().map(|(name, value)| format!("{name}={}", &**value));
    ContainerCreateBody {
        hostname: Some(container.name.clone()),
        user: Some(program.user.clone()),
        env: Some(env.collect()),
        // All of it: a command beside it would be the image's.
        entrypoint: Some(program.args.clone()),
        image: Some(surroundings.image.clone()),
        working_dir: Some(program.working_dir.clone()),
        labels: Some(surroundings.labels.clone()),
        host_config: Some(host_config(spec.limits, container, &surroundings)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(limits: Limits, container: &Container, surroundings: &Surroundings) -> HostConfig {
    let memory = Some(number(limits.memory << 20));
    let list = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
    let size = ("size".to_owned(), (limits.storage << 20).to_string());
    HostConfig {
        cpu_period: Some(number(CPU_PERIOD)),
        cpu_quota: Some(number(cpu_quota(limits.cpu))),
        memory,
        // Memory and swap together.
        memory_swap: memory,
        pids_limit: Some(i64::from(limits.pids)),
        storage_opt: surroundings.bounds_storage.then(|| [size].into()),
        ulimits: Some(ulimits(limits, surroundings.sets_files)),
        oom_score_adj: Some(KILLED_GLADLY),
        init: Some(false),
        privileged: Some(false),
        cap_drop: list(&["ALL"]),
        security_opt: list(&["no-new-privileges:true"]),
        masked_paths: list(&MASKED),
        readonly_paths: list(&READ_ONLY),
        readonly_rootfs: Some(container.read_only),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".to_owned()),
        shm_size: Some(SHARED_MEMORY),
        network_mode: Some(surroundings.network.clone()),
        mounts: Some(mounts(surroundings)),
        publish_all_ports: Some(false),
        sysctls: Some(sysctls(&container.ports)),
        // Docker asks these for names that it does not know, from within the container's network. Without them it
        // asks the machine's own, from outside, and so would pass on what a container puts into a name.
        dns: list(&["127.0.0.1"]),
        dns_options: Some(Vec::new()),
        dns_search: list(&["."]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(
                [("max-size", LOG_FILE), ("max-file", LOG_FILES), ("compress", "false")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            ),
        }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

/// Without these Docker gives a container files of its own, which it may write to without a bound.
fn mounts(surroundings: &Surroundings) -> Vec<Mount> {
    let mount = |(file, target): (&str, &str)| Mount {
        typ: Some(MountType::BIND),
        source: Some(surroundings.names.join(file).to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    };
    NAME_FILES.map(mount).to_vec()
}

fn ulimits(limits: Limits, sets_files: bool) -> Vec<ResourcesUlimits> {
    let between = |name: &str, soft: u64, hard: u64| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: Some(number(soft)),
        hard: Some(number(hard)),
    };
    let limit = |name: &str, most: u64| between(name, most, most);
    let (soft_files, hard_files) = open_files();
    let files = sets_files.then(|| between("nofile", soft_files, hard_files));
    let storage = limits.storage << 20;
    let fixed = [
        // None at all: with 0 the kernel still hands a dump to a program of the machine that asks for dumps.
        limit("core", 1),
        limit("fsize", storage),
        limit("msgqueue", MAX_MESSAGES),
        limit("sigpending", MAX_SIGNALS),
        limit("memlock", MAX_LOCKED),
    ];
    fixed.into_iter().chain(files).collect()
}

fn sysctls(ports: &[u16]) -> HashMap<String, String> {
    let mut settings = HashMap::from([
        // No capability is there to take the low ports with.
        ("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()),
        // Nobody may send echo requests.
        ("net.ipv4.ping_group_range".to_owned(), "1 0".to_owned()),
    ]);
    let ports: BTreeSet<_> = ports.iter().collect();
    if !ports.is_empty() {
        // What it connects to others by must not be taken from these.
        let ports: Vec<_> = ports.into_iter().map(u16::to_string).collect();
        settings.insert("net.ipv4.ip_local_reserved_ports".to_owned(), ports.join(","));
    }
    settings
}

/// A number as Docker has it. What was checked is far below the largest.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use roadstead_types::SecretText;

    use super::*;

    fn made(read_only: bool, bounds_storage: bool) -> ContainerCreateBody {
        let container = Container {
            name: "web".to_owned(),
            command: None,
            args: None,
            env: std::collections::BTreeMap::new(),
            working_dir: None,
            user: None,
            read_only,
            ports: vec![443, 80, 80],
            stop_grace_period: roadstead_types::Seconds(1),
        };
        let program = Program {
            args: vec!["serve".to_owned(), "all".to_owned()],
            env: vec![("A".to_owned(), SecretText::new("b=c".to_owned()))],
            working_dir: "/srv".to_owned(),
            user: "7:8".to_owned(),
            stop_signal: 15,
        };
        let spec = InstanceSpec {
            id: roadstead_types::InstanceId::first(roadstead_types::JobId(
                alloy_primitives::B256::ZERO,
            )),
            containers: Vec::new(),
            limits: Limits { cpu: 250, memory: 64, storage: 16, pids: 32 },
            network: roadstead_core::ports::Network::Isolated,
        };
        let surroundings = Surroundings {
            image: "image".to_owned(),
            network: "network".to_owned(),
            labels: HashMap::new(),
            names: PathBuf::from("/names"),
            bounds_storage,
            sets_files: bounds_storage,
        };
        body(&spec, &container, &program, surroundings)
    }

    #[test]
    fn limits_are_what_docker_understands() {
        let host = made(false, true).host_config.unwrap();
        assert_eq!((host.cpu_quota, host.cpu_period), (Some(25_000), Some(100_000)));
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!(host.pids_limit, Some(32));
        assert_eq!(host.storage_opt.unwrap()["size"], "16777216");
        let limits = host.ulimits.unwrap();
        let size = limits.iter().find(|limit| limit.name.as_deref() == Some("fsize")).unwrap();
        assert_eq!(size.hard, Some(16 << 20));
        let files = |limits: &[ResourcesUlimits]| {
            limits.iter().any(|limit| limit.name.as_deref() == Some("nofile"))
        };
        assert!(files(&limits));
        let host = made(false, false).host_config.unwrap();
        assert!(host.storage_opt.is_none() && !files(&host.ulimits.unwrap()));
    }

    #[test]
    fn a_container_has_no_privilege_and_one_network() {
        let host = made(true, false).host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
        assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(true)));
        assert_eq!(host.network_mode.unwrap(), "network");
        assert!(host.binds.is_none() && host.port_bindings.is_none());
        let mounts = host.mounts.unwrap();
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
        let targets: Vec<_> = mounts.into_iter().flat_map(|mount| mount.target).collect();
        assert_eq!(targets, ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]);
        assert_eq!(host.sysctls.unwrap()["net.ipv4.ip_local_reserved_ports"], "80,443");
    }

    #[test]
    fn the_program_is_all_that_runs() {
        let made = made(false, false);
        assert_eq!(made.entrypoint.unwrap(), ["serve", "all"]);
        assert_eq!((made.cmd, made.env.unwrap()), (None, vec!["A=b=c".to_owned()]));
        assert_eq!((&*made.user.unwrap(), &*made.working_dir.unwrap()), ("7:8", "/srv"));
    }
}
