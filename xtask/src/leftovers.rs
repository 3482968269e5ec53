//! What a test run must not leave behind: containers, mounts, control groups, network namespaces and
//! processes.
//!
//! `script/test` exports [`RUN_VARIABLE`] with a name of its own to the tests. Processes are known by it,
//! containers by their label `roadstead.test` (whose value is that name, or any that names no run). Mounts,
//! control groups and namespaces carry no mark but a name that starts with `roadstead`. So what was there before
//! the run is remembered and not counted, containers included.
//!
//! A look that fails is an error, never an empty answer.

use std::{
    collections::BTreeSet,
    fs, io,
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
    let mut lines: Vec<String> = unmarked()?.into_iter().collect();
    lines.extend(containers()?.unwrap_or_default().iter().map(Container::line));
    fs::write(file, lines.join("\n")).with_context(|| format!("writing {}", file.display()))?;
    let list: String = lines.iter().map(|line| format!("\n  {line}")).collect();
    Ok(format!("leftovers: {} were there before{list}", lines.len()))
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
        let containers = containers()?;
        left.extend(of_run(containers.as_deref().unwrap_or_default(), run, &before));
        left.extend(processes(run)?);
        if left.is_empty() {
            let note = if containers.is_some() { "" } else { NO_DOCKER };
            return Ok(format!("leftovers: none{note}"));
        }
        if start.elapsed() > PATIENCE {
            bail!("the tests left behind:\n  {}", left.join("\n  "));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

const NO_DOCKER: &str = " (there is no docker here, so there are no containers)";

/// Mounts, control groups and network namespaces with our prefix.
fn unmarked() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    found.extend(mount_points(&mounts).map(|point| format!("mount {point}")));
    for name in names(Path::new("/run/netns"))? {
        if name.starts_with(PREFIX) {
            found.insert(format!("network namespace {name}"));
        }
    }
    control_groups(Path::new("/sys/fs/cgroup"), &mut found)?;
    Ok(found)
}

/// Mount points with one of our names in their path.
fn mount_points(mountinfo: &str) -> impl Iterator<Item = &str> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.split('/').any(|part| part.starts_with(PREFIX)))
}

fn control_groups(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for name in names(folder)? {
        let path = folder.join(&name);
        // Symbolic links between hierarchies would show each group twice.
        if !path.is_dir() || path.is_symlink() {
            continue;
        }
        if name.starts_with(PREFIX) {
            found.insert(format!("control group {}", path.display()));
        } else {
            control_groups(&path, found)?;
        }
    }
    Ok(())
}

/// Entries of a folder; none where there is no such folder, or not any more.
fn names(folder: &Path) -> Result<Vec<String>> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<String>>>()
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.with_context(|| format!("listing {}", folder.display())),
    }
}

/// A container that some test made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Container {
    id: String,
    name: String,
    label: String,
}

impl Container {
    /// A line `id name label`, as [`containers`] asks for it; the label may be empty.
    fn parse(line: &str) -> Result<Self> {
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let (Some(id), Some(name)) = (parts.next(), parts.next()) else {
            bail!("docker ps printed {line:?}");
        };
        Ok(Self { id, name, label: parts.next().unwrap_or_default() })
    }

    /// How it is reported, and remembered: a name may come again, an id does not.
    fn line(&self) -> String {
        format!("container {} {} {}", self.id, self.name, self.label)
    }
}

/// The containers of all runs; nothing where there is no docker at all.
fn containers() -> Result<Option<Vec<Container>>> {
    let format = format!("{{{{.ID}}}} {{{{.Names}}}} {{{{.Label \"{LABEL}\"}}}}");
    let label = format!("label={LABEL}");
    let mut ps = Command::new("docker");
    ps.args(["ps", "--all", "--no-trunc", "--filter", &label, "--format", &format]);
    listed(&mut ps)
}

/// What `ps` lists; nothing where there is no such program.
fn listed(ps: &mut Command) -> Result<Option<Vec<Container>>> {
    let output = match ps.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.context("docker ps does not start")?,
    };
    ensure!(
        output.status.success(),
        "docker ps failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout).context("docker ps")?;
    text.lines().map(Container::parse).collect::<Result<_>>().map(Some)
}

/// The lines of those that are of this run and not from before it. A label that names no other run counts as
/// this one's.
fn of_run(containers: &[Container], run: &str, before: &BTreeSet<String>) -> Vec<String> {
    containers
        .iter()
        .filter(|container| container.label == run || !container.label.starts_with("run-"))
        .map(Container::line)
        .filter(|line| !before.contains(line))
        .collect()
}

/// Processes that carry the mark of this run, without this one and those it was started by.
fn processes(run: &str) -> Result<Vec<String>> {
    let mark = format!("{RUN_VARIABLE}={run}");
    let ours = ancestors()?;
    let mut found = Vec::new();
    for name in names(Path::new("/proc"))? {
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
    fn containers_of_other_runs_and_from_before_are_left_alone() {
        let text = "a1 one run-1\nb2 two run-2\nc3 three \nd4 four yes\ne5 five\n";
        let containers: Vec<_> = text.lines().map(|line| Container::parse(line).unwrap()).collect();
        let before = BTreeSet::from(["container d4 four yes".to_owned()]);
        assert_eq!(
            of_run(&containers, "run-1", &before),
            ["container a1 one run-1", "container c3 three ", "container e5 five "]
        );
        assert!(Container::parse("alone").is_err());
    }

    #[test]
    fn an_engine_that_does_not_answer_is_an_error_and_none_at_all_is_not() {
        let shell = |script: &str| listed(Command::new("sh").args(["-c", script]));
        assert_eq!(shell("echo a1 one run-1").unwrap().unwrap().len(), 1);
        let error = shell("echo a1 one run-1; echo no daemon >&2; exit 1").unwrap_err();
        assert!(error.to_string().ends_with(": no daemon"), "{error}");
        assert_eq!(listed(&mut Command::new("/nowhere/docker")).unwrap(), None);
    }

    #[test]
    fn a_missing_folder_is_empty_and_one_that_cannot_be_read_is_an_error() {
        assert!(names(Path::new("/proc/no-such-folder")).unwrap().is_empty());
        names(Path::new("/proc/self/mountinfo")).unwrap_err();
    }

    #[test]
    fn the_parent_is_read_behind_a_name_with_brackets() {
        assert_eq!(parent("42 (a) b (c)) S 7 42 42 0 -1"), Some(7));
    }
}
