//! What a test run must not leave behind: containers, mounts, control groups, network namespaces and
//! processes.
//!
//! `script/test` exports [`RUN_VARIABLE`] with a name of its own to everything it starts. Processes are
//! known by it, containers by their label `roadstead.test` (whose value is that name). Mounts, control groups and
//! namespaces carry no mark but a name that starts with `roadstead`, so what was there before the run is
//! remembered and not counted.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Marks all processes of one run of `script/test`.
const RUN_VARIABLE: &str = "ROADSTEAD_TEST_RUN";

/// Label of the containers that tests make; its value is the run's name.
const LABEL: &str = "roadstead.test";

/// What our mounts, control groups and network namespaces are called.
const PREFIX: &str = "roadstead";

/// How long something may take to go away once the tests are over.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down what is there before a run.
pub(crate) fn remember(file: &Path) -> Result<String> {
    let lines: Vec<String> = unmarked()?.into_iter().collect();
    fs::write(file, lines.join("\n")).with_context(|| format!("writing {}", file.display()))?;
    Ok(format!("leftovers: {} were there before", lines.len()))
}

/// Fails if the run left anything, after waiting a little for what is going away.
pub(crate) fn check(run: &str, before: Option<&Path>) -> Result<String> {
    ensure!(!run.is_empty(), "a run has a name");
    let before: BTreeSet<String> = match before {
        Some(file) => {
            let text =
                fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
            text.lines().map(str::to_owned).collect()
        }
        None => BTreeSet::new(),
    };
    let start = Instant::now();
    loop {
        let mut left: Vec<String> = unmarked()?.difference(&before).cloned().collect();
        let (containers, looked) = containers(run)?;
        left.extend(containers);
        left.extend(processes(run)?);
        if left.is_empty() {
            return Ok(format!("leftovers: none{}", if looked { "" } else { NO_ENGINE }));
        }
        if start.elapsed() > PATIENCE {
            bail!("the tests left behind:\n  {}", left.join("\n  "));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

const NO_ENGINE: &str = " (no docker daemon answers, so there are no containers)";

/// Mounts, control groups and network namespaces with our prefix.
fn unmarked() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mount_points(&mounts).map(|point| format!("mount {point}")));
    for name in names(Path::new("/run/netns")) {
        if name.starts_with(PREFIX) {
            found.insert(format!("network namespace {name}"));
        }
    }
    control_groups(Path::new("/sys/fs/cgroup"), &mut found);
    Ok(found)
}

/// Mount points with one of our names in their path.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.split('/').any(|part| part.starts_with(PREFIX)))
}

fn control_groups(folder: &Path, found: &mut BTreeSet<String>) {
    for name in names(folder) {
        let path = folder.join(&name);
        // Symbolic links between hierarchies would show each group twice.
        if !path.is_dir() || path.is_symlink() {
            continue;
        }
        if name.starts_with(PREFIX) {
            found.insert(format!("control group {}", path.display()));
        } else {
            control_groups(&path, found);
        }
    }
}

/// Entries of a folder; none where there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Containers of this run, and whether an engine answered.
fn containers(run: &str) -> Result<(Vec<String>, bool)> {
    let format = format!("{{{{.ID}}}} {{{{.Names}}}} {{{{.Label \"{LABEL}\"}}}}");
    let output = Command::new("docker")
        .args(["ps", "--all", "--filter", &format!("label={LABEL}"), "--format", &format])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).context("docker ps")?;
            Ok((of_run(&text, run).map(|line| format!("container {line}")).collect(), true))
        }
        _ => Ok((Vec::new(), false)),
    }
}

/// Lines `id name label` of this run. A label that names no other run counts as this one's.
fn of_run<'a>(lines: &'a str, run: &'a str) -> impl Iterator<Item = &'a str> {
    lines.lines().filter(move |line| {
        let label = line.split(' ').nth(2).unwrap_or_default();
        label == run || !label.starts_with("run-")
    })
}

/// Processes that carry the mark of this run, without this one and those it was started by.
fn processes(run: &str) -> Result<Vec<String>> {
    let mark = format!("{RUN_VARIABLE}={run}");
    let ours = ancestors()?;
    let mut found = Vec::new();
    for name in names(Path::new("/proc")) {
        let Ok(id) = name.parse::<u32>() else { continue };
        let folder = Path::new("/proc").join(&name);
        // A process may end while it is looked at, and others' may be closed to us.
        let Ok(environment) = fs::read(folder.join("environ")) else { continue };
        if !ours.contains(&id)
            && environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
        {
            let line = fs::read(folder.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("process {id}: {}", line.trim_end()));
        }
    }
    Ok(found)
}

/// This process, its parent, and so on.
fn ancestors() -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut id = process::id();
    while id != 0 && found.insert(id) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { break };
        id = parent(&stat).with_context(|| format!("the parent of process {id}"))?;
    }
    Ok(found)
}

/// The parent in a line of `/proc/ID/stat`; the name before it may hold anything, also brackets.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_the_run_is_found_and_one_of_another_run_is_not() {
        let run = format!("run-unit-{}", process::id());
        let mut child = Command::new("sleep").arg("60").env(RUN_VARIABLE, &run).spawn().unwrap();
        // The mark shows once the child runs its own program.
        let start = Instant::now();
        let mut found = processes(&run).unwrap();
        while !found.iter().any(|line| line.contains("sleep 60")) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
            found = processes(&run).unwrap();
        }
        let other = processes(&format!("{run}-other")).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [format!("process {}: sleep 60", child.id())]);
        assert!(other.is_empty(), "{other:?}");
        assert!(processes(&run).unwrap().is_empty());
    }

    #[test]
    fn mounts_are_known_by_a_part_of_their_path() {
        let text = "22 1 0:20 / /proc rw - proc proc rw\n\
                    36 35 98:0 / /tmp/roadstead-x1/root rw,noatime - overlay overlay rw\n\
                    37 35 98:0 / /srv/broadstead rw - ext4 /dev/sda rw\n";
        assert_eq!(mount_points(text).collect::<Vec<_>>(), ["/tmp/roadstead-x1/root"]);
    }

    #[test]
    fn containers_of_other_runs_are_left_alone() {
        let text = "a1 one run-1\nb2 two run-2\nc3 three \nd4 four yes\n";
        assert_eq!(
            of_run(text, "run-1").collect::<Vec<_>>(),
            ["a1 one run-1", "c3 three ", "d4 four yes"]
        );
    }

    #[test]
    fn the_parent_is_read_behind_a_name_with_brackets() {
        assert_eq!(parent("42 (a) b (c)) S 7 42 42 0 -1"), Some(7));
    }
}
