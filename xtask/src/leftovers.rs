//! What a test run must not leave behind: mounts, control groups, network namespaces, processes, and the
//! containers, networks and images of engines on Docker.
//!
//! `script/test` exports [`RUN_VARIABLE`] with a name of its own to the tests. Processes are known by it. Mounts,
//! control groups and namespaces carry no mark but a name that starts with `roadstead`; what Docker has carries
//! the label `roadstead.engine`, whose value names an engine. So what was there before the run is remembered and
//! not counted.
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

/// Label of whatever an engine makes on Docker.
const LABEL: &str = "roadstead.engine";

/// Kinds of that, and how docker lists them: an id and a name in each line.
const ON_DOCKER: [(&str, &[&str]); 3] = [
    ("container", &["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}}"]),
    ("network", &["network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"]),
    ("image", &["images", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]),
];

/// What our mounts, control groups and network namespaces are called.
const PREFIX: &str = "roadstead";

/// How long something may take to go away once the tests are over.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down what is there before a run.
pub(crate) fn remember(file: &Path) -> Result<String> {
    let mut lines: Vec<String> = unmarked()?.into_iter().collect();
    lines.extend(on_docker()?.unwrap_or_default());
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
        let on_docker = on_docker()?;
        left.extend(on_docker.iter().flatten().filter(|line| !before.contains(*line)).cloned());
        left.extend(processes(run)?);
        if left.is_empty() {
            let note = if on_docker.is_some() { "" } else { NO_DOCKER };
            return Ok(format!("leftovers: none{note}"));
        }
        if start.elapsed() > PATIENCE {
            bail!("the tests left behind:\n  {}", left.join("\n  "));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

const NO_DOCKER: &str = " (there is no docker here, so nothing is on it)";

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

/// What engines have on Docker: a name may come again, an id does not. Nothing where there is no docker at all.
fn on_docker() -> Result<Option<Vec<String>>> {
    let mut found = Vec::new();
    for (kind, list) in ON_DOCKER {
        let mut command = Command::new("docker");
        command.args(list).args(["--filter", &format!("label={LABEL}")]);
        let Some(lines) = listed(&mut command)? else { return Ok(None) };
        found.extend(lines.iter().map(|line| format!("{kind} {line}")));
    }
    Ok(Some(found))
}

/// The lines that a command prints; nothing where there is no such program.
fn listed(command: &mut Command) -> Result<Option<Vec<String>>> {
    let output = match command.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.context("docker does not start")?,
    };
    ensure!(
        output.status.success(),
        "docker failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8(output.stdout).context("docker printed no text")?;
    Ok(Some(text.lines().map(str::to_owned).collect()))
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
    fn what_an_engine_has_on_docker_is_found() {
        let name = format!("roadstead-unit-{}", process::id());
        let docker = |arguments: &[&str]| {
            let output = Command::new("docker").args(arguments).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "script/setup starts Docker's daemon: {errors}");
        };
        docker(&["network", "create", "--internal", "--label", "roadstead.engine=unit", &name]);
        let found = on_docker();
        docker(&["network", "rm", &name]);
        let is_it = |line: &String| line.starts_with("network ") && line.ends_with(&name);
        assert!(found.unwrap().unwrap().iter().any(is_it));
        assert!(!on_docker().unwrap().unwrap().iter().any(is_it));
    }

    #[test]
    fn an_engine_that_does_not_answer_is_an_error_and_none_at_all_is_not() {
        let shell = |script: &str| listed(Command::new("sh").args(["-c", script]));
        assert_eq!(shell("echo a1 one").unwrap().unwrap(), ["a1 one"]);
        let error = shell("echo a1 one; echo no daemon >&2; exit 1").unwrap_err();
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
