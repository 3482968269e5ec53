//! What Docker's own command says and does, without the engine under test.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use roadstead_types::InstanceId;

/// Runs the command and returns what it prints.
pub(super) fn run(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.expect("there is no docker command; script/setup installs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn filter(engine: &str) -> String {
    format!("label=roadstead.engine={engine}")
}

/// The containers of an engine, a line each.
pub(super) fn containers(engine: &str) -> String {
    run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter(engine)])
}

/// Its networks.
pub(super) fn networks(engine: &str) -> String {
    run(&["network", "ls", "--quiet", "--filter", &filter(engine)])
}

/// Its images.
pub(super) fn images(engine: &str) -> String {
    run(&["images", "--all", "--quiet", "--no-trunc", "--filter", &filter(engine)])
}

/// How many layers its images have, those of a tenant counted once.
pub(super) fn layers(engine: &str) -> usize {
    let images = images(engine);
    let format =
        "{{index .Config.Labels \"roadstead.tenant\"}}{{range .RootFS.Layers}} {{.}}{{end}}";
    let mut layers = BTreeSet::new();
    for image in images.lines() {
        let shown = run(&["image", "inspect", "--format", format, image]);
        let mut parts = shown.split(' ').map(str::to_owned);
        let tenant = parts.next().unwrap();
        layers.extend(parts.map(|layer| (tenant.clone(), layer)));
    }
    layers.len()
}

/// The only container of an instance.
pub(super) fn container(engine: &str, id: &InstanceId) -> String {
    let instance = format!("label=roadstead.instance={id}");
    let engine = filter(engine);
    let found =
        run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &engine, "--filter", &instance]);
    assert_eq!(found.lines().count(), 1, "{found}");
    found
}

/// The control groups of a container, in each hierarchy.
pub(super) fn groups(container: &str) -> Vec<PathBuf> {
    let process = run(&["inspect", "--format", "{{.State.Pid}}", container]);
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    let group = |line: &str| {
        let (_, rest) = line.split_once(':').unwrap();
        let (hierarchy, path) = rest.split_once(':').unwrap();
        let hierarchy = hierarchy.strip_prefix("name=").unwrap_or(hierarchy);
        PathBuf::from("/sys/fs/cgroup").join(hierarchy).join(path.trim_start_matches('/'))
    };
    groups.lines().map(group).collect()
}

/// Removes whatever an engine left.
pub(super) fn remove_all(engine: &str) {
    for (command, left) in [
        (&["rm", "--force", "--volumes"][..], containers(engine)),
        (&["network", "rm"], networks(engine)),
        (&["rmi", "--force"], images(engine)),
    ] {
        if !left.is_empty() {
            let arguments: Vec<_> = command.iter().copied().chain(left.lines()).collect();
            run(&arguments);
        }
    }
}
