//! The control group of an instance: what it used, whether it is frozen, and how it goes away.
//!
//! The kernel offers control groups in two forms. In the older, a group is a folder in each of several hierarchies,
//! with some controllers each; in the newer, one folder in one hierarchy. The group itself is made, and its limits are
//! set, where the container is made. A group holds its counters until it is removed, also after its last process.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::{FileError, failed};

/// Where a machine of the newer form has its hierarchy.
const UNIFIED: &str = "/sys/fs/cgroup";

/// What an instance needs, in the names of the older form.
const NEEDED: [&str; 6] = ["cpu", "cpuacct", "devices", "freezer", "memory", "pids"];

/// What an instance needs, in the names of the newer form. Freezing and counting CPU time need no controller there.
const NEEDED_UNIFIED: [&str; 3] = ["cpu", "memory", "pids"];

/// How long the kernel may take to freeze, to thaw or to let a group go. It takes some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(2);

/// The hierarchies of this machine.
#[derive(Clone, Debug)]
pub(crate) enum Hierarchies {
    /// One for some controllers each.
    Split(Vec<Hierarchy>),
    /// One for all.
    Unified(PathBuf),
}

/// One hierarchy of the older form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: PathBuf,
    controllers: Vec<String>,
}

impl Hierarchies {
    /// Those that are mounted.
    pub(crate) fn read() -> Result<Self, FileError> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(path).map_err(failed("read", path))?;
        Ok(Self::parse(&mounts))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut split = Vec::new();
        for line in mountinfo.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let Some(mount) = front.split(' ').nth(4) else { continue };
            let mut back = back.split(' ');
            match back.next() {
                Some("cgroup2") if mount == UNIFIED => return Self::Unified(mount.into()),
                Some("cgroup") => split.push(Hierarchy {
                    mount: mount.into(),
                    controllers: back.nth(1).unwrap_or("").split(',').map(str::to_owned).collect(),
                }),
                _ => {}
            }
        }
        Self::Split(split)
    }

    /// The names of what an instance needs and this machine does not have.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        match self {
            Self::Split(_) => {
                NEEDED.into_iter().filter(|name| self.mount_of(name).is_none()).collect()
            }
            Self::Unified(mount) => {
                let there = fs::read_to_string(mount.join("cgroup.controllers"));
                let there = there.unwrap_or_default();
                let there: Vec<_> = there.split_whitespace().collect();
                NEEDED_UNIFIED.into_iter().filter(|name| !there.contains(name)).collect()
            }
        }
    }

    fn mount_of(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::Split(all) => all
                .iter()
                .find(|one| one.controllers.iter().any(|name| name == controller))
                .map(|one| one.mount.as_path()),
            Self::Unified(mount) => Some(mount),
        }
    }

    fn mounts(&self) -> Vec<&Path> {
        match self {
            Self::Split(all) => all.iter().map(|one| one.mount.as_path()).collect(),
            Self::Unified(mount) => vec![mount],
        }
    }
}

/// A group, whether it is there or not.
#[derive(Clone, Debug)]
pub(crate) struct ControlGroup {
    hierarchies: Hierarchies,
    /// From the root of each hierarchy, without the leading slash.
    path: PathBuf,
}

impl ControlGroup {
    /// The group at `path` from the root of the hierarchies.
    pub(crate) fn new(hierarchies: Hierarchies, path: &str) -> Self {
        Self { hierarchies, path: path.trim_start_matches('/').into() }
    }

    /// CPU time of all that ever ran in it, in milliseconds; `None` where the group is gone.
    pub(crate) fn cpu(&self) -> Option<u64> {
        if self.is_unified() {
            Some(value(&self.read("cpu", "cpu.stat")?, "usage_usec")? / 1_000)
        } else {
            let nanoseconds = self.read("cpuacct", "cpuacct.usage")?.trim().parse::<u64>().ok()?;
            Some(nanoseconds / 1_000_000)
        }
    }

    /// How many processes were killed because the group used more memory than it may; `None` where it is gone.
    pub(crate) fn memory_kills(&self) -> Option<u64> {
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        value(&self.read("memory", file)?, "oom_kill")
    }

    /// Whether all of its processes are frozen. One that is on the way, and may stay there, is not.
    pub(crate) fn is_frozen(&self) -> bool {
        self.reached(true)
    }

    /// Whether none of its processes is frozen or about to be; also where it is gone.
    pub(crate) fn is_thawed(&self) -> bool {
        if self.is_unified() {
            let asked = self.read("freezer", "cgroup.freeze");
            asked.is_none_or(|state| state.trim() == "0") && !self.is_frozen()
        } else {
            let state = self.read("freezer", "freezer.state");
            state.is_none_or(|state| state.trim() == "THAWED")
        }
    }

    /// Freezes or thaws, and returns once it is so. Blocks for some milliseconds.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<(), FileError> {
        let (file, text) = match (self.is_unified(), frozen) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let path = self.file("freezer", file).unwrap_or_else(|| PathBuf::from(file));
        let start = Instant::now();
        loop {
            // Written again each time: while processes are being made, the older form may stay half-way.
            fs::write(&path, text).map_err(failed("write", &path))?;
            if self.reached(frozen) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(FileError::new("see an effect of", &path, io::ErrorKind::TimedOut));
            }
            thread::sleep(POLL);
        }
    }

    fn reached(&self, frozen: bool) -> bool {
        if self.is_unified() {
            let events = self.read("freezer", "cgroup.events").unwrap_or_default();
            value(&events, "frozen") == Some(u64::from(frozen))
        } else {
            let wanted = if frozen { "FROZEN" } else { "THAWED" };
            self.read("freezer", "freezer.state").is_some_and(|state| state.trim() == wanted)
        }
    }

    /// Kills all that is in it, thaws it, and removes it. Not an error where it is not there. Blocks while processes
    /// end.
    pub(crate) fn remove(&self) -> Result<(), FileError> {
        let start = Instant::now();
        for mount in self.hierarchies.mounts() {
            let folder = mount.join(&self.path);
            loop {
                match fs::remove_dir(&folder) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if start.elapsed() > PATIENCE => {
                        return Err(FileError::new("remove", &folder, error));
                    }
                    Err(_) => {
                        kill_all(&folder);
                        // What is frozen does not die before it thaws.
                        if !self.is_thawed() {
                            self.set_frozen(false)?;
                        }
                        thread::sleep(POLL);
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes it where nothing is below it and nothing in it.
    pub(crate) fn remove_if_empty(&self) {
        for mount in self.hierarchies.mounts() {
            // Whatever still needs it keeps it.
            let _ = fs::remove_dir(mount.join(&self.path));
        }
    }

    fn is_unified(&self) -> bool {
        matches!(self.hierarchies, Hierarchies::Unified(_))
    }

    fn file(&self, controller: &str, file: &str) -> Option<PathBuf> {
        Some(self.hierarchies.mount_of(controller)?.join(&self.path).join(file))
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.file(controller, file)?).ok()
    }
}

/// Kills what is in a group now; what is made meanwhile is met by the next call.
fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for number in processes.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        // It may have ended in this moment.
        let _ = kill_process(number, Signal::KILL);
    }
}

/// The value in a line `key value`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_is_found_by_controller() {
        let text = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                    33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::parse(text);
        assert!(matches!(&found, Hierarchies::Split(all) if all.len() == 2));
        assert_eq!(found.mount_of("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(found.mount_of("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(found.missing(), ["devices", "freezer", "pids"]);
    }

    #[test]
    fn the_newer_form_is_one_hierarchy() {
        let text =
            "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert!(matches!(Hierarchies::parse(text), Hierarchies::Unified(_)));
    }

    /// A folder that looks like a hierarchy of the newer form.
    fn unified(home: &Path, files: &[(&str, &str)]) -> ControlGroup {
        let folder = home.join("group");
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        ControlGroup::new(Hierarchies::Unified(home.to_owned()), "/group")
    }

    #[test]
    fn counters_of_the_newer_form_are_read_in_the_common_unit() {
        let home = tempfile::tempdir().unwrap();
        let group = unified(
            home.path(),
            &[
                ("cpu.stat", "usage_usec 1234567\nuser_usec 1\n"),
                ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
                ("cgroup.freeze", "1\n"),
                ("cgroup.events", "populated 1\nfrozen 1\n"),
            ],
        );
        assert_eq!(group.cpu(), Some(1_234));
        assert_eq!(group.memory_kills(), Some(2));
        assert!(group.is_frozen());
        group.set_frozen(true).unwrap();
    }

    #[test]
    fn what_is_on_the_way_is_neither_frozen_nor_thawed() {
        let home = tempfile::tempdir().unwrap();
        let half = [("cgroup.freeze", "1\n"), ("cgroup.events", "populated 1\nfrozen 0\n")];
        let group = unified(home.path(), &half);
        assert!(!group.is_frozen() && !group.is_thawed());

        let hierarchy =
            Hierarchy { mount: home.path().to_owned(), controllers: vec!["freezer".to_owned()] };
        let group = ControlGroup::new(Hierarchies::Split(vec![hierarchy]), "/group");
        for (state, frozen, thawed) in
            [("FREEZING\n", false, false), ("FROZEN\n", true, false), ("THAWED\n", false, true)]
        {
            fs::write(home.path().join("group/freezer.state"), state).unwrap();
            assert_eq!((group.is_frozen(), group.is_thawed()), (frozen, thawed), "{state}");
        }
    }

    #[test]
    fn a_group_that_is_gone_has_no_readings() {
        let home = tempfile::tempdir().unwrap();
        let group = ControlGroup::new(Hierarchies::Unified(home.path().to_owned()), "/nothing");
        assert_eq!((group.cpu(), group.memory_kills()), (None, None));
        assert!(!group.is_frozen() && group.is_thawed());
        group.remove().unwrap();
    }
}
