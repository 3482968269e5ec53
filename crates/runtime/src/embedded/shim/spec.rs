//! The container as the OCI runtime specification describes it.
//!
//! It is written in full: the library's own default leaves capabilities, shows more of the machine and limits nothing.

use serde_json::{Value, json};

use super::user::User;
use crate::{
    confinement::{
        CPU_PERIOD, MASKED, MAX_LOCKED, MAX_MESSAGES, MAX_SIGNALS, READ_ONLY, cpu_quota, open_files,
    },
    embedded::order::Order,
};

/// The only devices that a process of the container may use: kind, major and minor number.
const DEVICES: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The content of `config.json`, without a root: that is `rootfs` beside it.
pub(super) fn spec(order: &Order, user: &User) -> Value {
    let mut env: Vec<_> =
        order.env.iter().map(|(name, value)| format!("{name}={}", &**value)).collect();
    if !order.env.iter().any(|(name, _)| name == "HOME") {
        env.push(format!("HOME={}", user.home));
    }
    let devices = DEVICES.iter().map(|(major, minor)| {
        let mut rule = json!({"allow": true, "type": "c", "major": major, "access": "rw"});
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    });
    let none = json!({"allow": false, "access": "rwm"});
    let devices: Vec<_> = std::iter::once(none).chain(devices).collect();
    let memory = order.memory.saturating_add(order.storage);
    let (soft_files, hard_files) = open_files();
    let ports: Vec<_> = order.ports.iter().map(u16::to_string).collect();
    let namespaces = ["pid", "mount", "uts", "ipc", "network", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "hostname": order.hostname,
        "root": {"path": "rootfs", "readonly": order.read_only},
        "process": {
            "terminal": false,
            "user": {
                "uid": user.user,
                "gid": user.group,
                "additionalGids": user.others,
                "umask": 0o022,
            },
            "args": order.args,
            "env": env,
            "cwd": order.working_dir,
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": [],
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "soft": soft_files, "hard": hard_files},
                // None at all: with 0 the kernel still hands a dump to a program of the machine that asks for dumps.
                {"type": "RLIMIT_CORE", "soft": 1, "hard": 1},
                {"type": "RLIMIT_MSGQUEUE", "soft": MAX_MESSAGES, "hard": MAX_MESSAGES},
                {"type": "RLIMIT_SIGPENDING", "soft": MAX_SIGNALS, "hard": MAX_SIGNALS},
                {"type": "RLIMIT_MEMLOCK", "soft": MAX_LOCKED, "hard": MAX_LOCKED},
            ],
            "oomScoreAdj": 500,
        },
        "mounts": mounts(),
        "linux": {
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "cgroupsPath": order.control_group,
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "sysctl": {
                // No capability is there to take the low ports with.
                "net.ipv4.ip_unprivileged_port_start": "0",
                // A connection to a port where nobody listens would else be given that port now and then as its own, and
                // reach itself.
                "net.ipv4.ip_local_reserved_ports": ports.join(","),
            },
            "resources": {
                "devices": devices,
                "pids": {"limit": order.pids},
                // The second limit counts memory and swap together.
                "memory": {"limit": memory, "swap": memory},
                "cpu": {"quota": cpu_quota(order.cpu), "period": CPU_PERIOD},
            },
        },
    })
}

/// Where [`mounts`] mounts.
pub(super) const MOUNT_POINTS: [&str; 6] =
    ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"];

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let strict = ["nosuid", "noexec", "nodev"];
    let pseudo_terminals =
        ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let shared = ["nosuid", "noexec", "nodev", "mode=1777", "size=64m"];
    let system = ["nosuid", "noexec", "nodev", "ro"];
    json!([
        mount("/proc", "proc", &strict),
        mount("/dev", "tmpfs", &["nosuid", "noexec", "strictatime", "mode=755", "size=1m"]),
        mount("/dev/pts", "devpts", &pseudo_terminals),
        mount("/dev/shm", "tmpfs", &shared),
        mount("/dev/mqueue", "mqueue", &strict),
        mount("/sys", "sysfs", &system),
    ])
}

#[cfg(test)]
mod tests {
    use roadstead_types::SecretText;

    use super::*;

    fn order() -> Order {
        Order {
            id: "id".to_owned(),
            hostname: "web".to_owned(),
            control_group: "/roadstead/id".to_owned(),
            layers: Vec::new(),
            args: vec!["sh".to_owned()],
            env: vec![("PATH".to_owned(), SecretText::new("/bin".to_owned()))],
            working_dir: "/".to_owned(),
            user: String::new(),
            read_only: false,
            ports: Vec::new(),
            cpu: 250,
            memory: 64 << 20,
            storage: 16 << 20,
            pids: 32,
        }
    }

    fn user() -> User {
        User { user: 1, group: 2, others: vec![3], home: "/home".to_owned() }
    }

    #[test]
    fn limits_are_what_the_kernel_understands() {
        let resources = &spec(&order(), &user())["linux"]["resources"];
        assert_eq!(resources["memory"]["limit"], 80 << 20);
        assert_eq!(resources["memory"]["swap"], resources["memory"]["limit"]);
        assert_eq!(resources["cpu"]["quota"], 25_000);
        assert_eq!(resources["pids"]["limit"], 32);
    }

    #[test]
    fn every_mount_point_is_known() {
        let mounts = mounts();
        let points = mounts.as_array().unwrap().iter().map(|mount| &mount["destination"]);
        assert!(points.eq(&MOUNT_POINTS));
    }

    #[test]
    fn no_memory_is_dumped_and_what_users_share_is_little() {
        let limits = spec(&order(), &user())["process"]["rlimits"].clone();
        let hard = |kind: &str| {
            let mut limits = limits.as_array().unwrap().iter();
            limits.find(|limit| limit["type"] == kind).unwrap()["hard"].as_u64().unwrap()
        };
        assert_eq!(hard("RLIMIT_CORE"), 1);
        let shared = ["RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING", "RLIMIT_MEMLOCK"].map(hard);
        assert!(shared.iter().all(|limit| *limit <= 256 << 10), "{shared:?}");
    }

    #[test]
    fn home_is_the_users_unless_given() {
        let home = |order: &Order| {
            let env = spec(order, &user())["process"]["env"].clone();
            let env: Vec<String> = serde_json::from_value(env).unwrap();
            env.into_iter().filter(|line| line.starts_with("HOME=")).collect::<Vec<_>>()
        };
        let mut order = order();
        assert_eq!(home(&order), ["HOME=/home"]);
        order.env.push(("HOME".to_owned(), SecretText::new("/own".to_owned())));
        assert_eq!(home(&order), ["HOME=/own"]);
    }

    #[test]
    fn the_library_reads_all_of_it() {
        let text = spec(&order(), &user()).to_string();
        let read: libcontainer::oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        let process = read.process().clone().unwrap();
        assert_eq!(process.no_new_privileges(), Some(true));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[3][..]));
        assert_eq!(process.user().umask(), Some(0o022));
        assert!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().is_empty());
        assert_eq!(read.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
    }
}
