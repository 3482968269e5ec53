//! The folder of one instance: what the engine and the shim tell each other, and what outlives both.
//!
//! ```text
//! record.json    what the engine must know of the instance before it has a state; written first
//! lock           locked by the shim for its whole life
//! state.json     written by the shim once the container runs
//! reasons.json   why it is frozen, written by the engine; absent without a reason
//! counters       bytes in and out, written by the shim as they pass; absent or empty before the first
//! output         pipe that the container writes its output to
//! log, log.1     its newest output
//! exit.json      how it ended, with the last readings; written by the shim, or by the engine where the shim died
//! private/       mount point, empty but for the shim and the container
//! shim.log       last words of a shim, which has none but when it panics
//! ```
//!
//! The lock is of the kind that belongs to a process: a child of the shim does not hold it, so "it can be had" means
//! that the shim is dead, whatever else still runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use roadstead_core::ports::{FreezeReason, Usage};
use roadstead_types::ImageKey;
use rustix::{
    fs::{FlockOperation, fcntl_lock},
    io::Errno,
    process::{Flock, FlockType, Signal, fcntl_getlk},
};
use serde::{Deserialize, Serialize};

use super::{
    control_group::{ControlGroup, Hierarchies},
    process::ProcessId,
};
use crate::{
    files::{FileError, failed, read_bounded, read_json, write_json},
    reasons,
};

/// What the engine must know of an instance that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its image, which must not be removed.
    pub(crate) image: ImageKey,
    /// From the root of the hierarchies.
    pub(crate) control_group: String,
    pub(crate) stop_signal: i32,
    /// Seconds between that signal and the kill.
    pub(crate) stop_grace: u32,
}

/// What there is to know about a container that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Its first process.
    pub(crate) init: ProcessId,
    /// CPU milliseconds that went into making the container.
    pub(crate) cpu_at_start: u64,
    /// Where the engine forwards its ports from.
    pub(crate) ports: BTreeMap<u16, SocketAddr>,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) status: Option<i32>,
    pub(crate) out_of_memory: Option<bool>,
    cpu: Option<u64>,
    network_in: Option<u64>,
    network_out: Option<u64>,
}

impl Exit {
    pub(crate) const fn usage(&self) -> Usage {
        Usage { cpu: self.cpu, network_in: self.network_in, network_out: self.network_out }
    }
}

/// The folder of one instance.
#[derive(Clone, Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn private(&self) -> PathBuf {
        self.path.join("private")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    pub(crate) fn record(&self) -> Result<Option<Record>, FileError> {
        read_json(&self.path.join("record.json"))
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<(), FileError> {
        write_json(&self.path.join("record.json"), record)
    }

    pub(crate) fn state(&self) -> Result<Option<State>, FileError> {
        read_json(&self.path.join("state.json"))
    }

    pub(crate) fn write_state(&self, state: &State) -> Result<(), FileError> {
        write_json(&self.path.join("state.json"), state)
    }

    pub(crate) fn exit(&self) -> Result<Option<Exit>, FileError> {
        read_json(&self.path.join("exit.json"))
    }

    /// Why it is to be frozen.
    pub(crate) fn reasons(&self) -> Result<BTreeSet<FreezeReason>, FileError> {
        let names: Vec<String> = read_json(&self.path.join("reasons.json"))?.unwrap_or_default();
        Ok(reasons::of_names(&names))
    }

    pub(crate) fn write_reasons(&self, reasons: &BTreeSet<FreezeReason>) -> Result<(), FileError> {
        write_json(&self.path.join("reasons.json"), &reasons::names(reasons))
    }

    /// Locks the folder for as long as the file is open in this process; `None` where another process has it.
    pub(crate) fn lock(&self) -> Result<Option<File>, FileError> {
        let path = self.path.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(None),
            Err(error) => Err(FileError::new("lock", &path, error)),
        }
    }

    /// Whether a shim lives that watches this instance.
    pub(crate) fn has_shim(&self) -> Result<bool, FileError> {
        Ok(self.lock()?.is_none())
    }

    /// Kills the shim that watches this instance, if there is one.
    pub(crate) fn kill_shim(&self) -> Result<(), FileError> {
        let path = self.path.join("lock");
        let file = File::open(&path).map_err(failed("open", &path))?;
        let holder = || {
            let held = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock));
            Ok(held.map_err(failed("look at", &path))?.and_then(|lock| lock.pid))
        };
        if let Some(shim) = holder()?.and_then(ProcessId::of)
            // What was found could be a successor of the shim with the same number.
            && holder()?.and_then(ProcessId::of) == Some(shim)
        {
            shim.signal(Signal::KILL).map_err(failed("kill the shim of", &self.path))?;
        }
        Ok(())
    }

    pub(crate) fn control_group(&self, record: &Record) -> Result<ControlGroup, FileError> {
        Ok(ControlGroup::new(Hierarchies::read()?, &record.control_group))
    }

    /// What the instance used up to now, as far as it can be read.
    pub(crate) fn usage(&self, state: &State, group: &ControlGroup) -> Usage {
        // An instance must be able to end without its bytes, and its CPU time is worth knowing without them.
        let bytes = Counters::read(&self.path).ok();
        Usage {
            cpu: group.cpu().and_then(|cpu| cpu.checked_sub(state.cpu_at_start)),
            network_in: bytes.map(|(incoming, _)| incoming),
            network_out: bytes.map(|(_, outgoing)| outgoing),
        }
    }

    /// Writes down how the instance ended and removes its control group, with whatever is left in it.
    pub(crate) fn finish(
        &self,
        state: &State,
        group: &ControlGroup,
        status: Option<i32>,
    ) -> Result<Exit, FileError> {
        let usage = self.usage(state, group);
        let out_of_memory = out_of_memory(group.memory_kills(), status);
        let Usage { cpu, network_in, network_out } = usage;
        let exit = Exit { status, out_of_memory, cpu, network_in, network_out };
        write_json(&self.path.join("exit.json"), &exit)?;
        group.remove()?;
        Ok(exit)
    }
}

/// Whether an instance that ended with `status` was killed for its memory, where `kills` of its processes were. The
/// others may have gone on for long.
fn out_of_memory(kills: Option<u64>, status: Option<i32>) -> Option<bool> {
    match kills? {
        0 => Some(false),
        _ => status.map(|status| status == KILLED),
    }
}

/// What a shell says of a process that was killed.
const KILLED: i32 = 137;

/// The bytes of both numbers.
const COUNTERS: u64 = 16;

/// The bytes that passed, in a file that stays when the process that counts them is killed.
#[derive(Debug)]
pub(crate) struct Counters {
    file: File,
    incoming: u64,
    outgoing: u64,
    written: (u64, u64),
}

impl Counters {
    /// Goes on counting where the file in `folder` ends, at zero where there is none. An error where it cannot be read:
    /// what it holds would be written over.
    pub(crate) fn open(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join("counters");
        let (incoming, outgoing) = Self::read(folder)?;
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed("open", &path))?;
        Ok(Self { file, incoming, outgoing, written: (incoming, outgoing) })
    }

    /// Bytes in and out so far.
    pub(crate) fn read(folder: &Path) -> Result<(u64, u64), FileError> {
        let path = folder.join("counters");
        let content = read_bounded(&path, COUNTERS)?.unwrap_or_default();
        if content.is_empty() {
            return Ok((0, 0));
        }
        let (numbers, rest) = content.as_chunks();
        match (numbers, rest) {
            ([incoming, outgoing], []) => {
                Ok((u64::from_le_bytes(*incoming), u64::from_le_bytes(*outgoing)))
            }
            _ => Err(FileError::new("understand", &path, io::ErrorKind::InvalidData)),
        }
    }

    pub(crate) const fn add_incoming(&mut self, bytes: usize) {
        self.incoming = self.incoming.saturating_add(bytes as u64);
    }

    pub(crate) const fn add_outgoing(&mut self, bytes: usize) {
        self.outgoing = self.outgoing.saturating_add(bytes as u64);
    }

    /// Shows what was counted to others.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if self.written == (self.incoming, self.outgoing) {
            return Ok(());
        }
        let mut content = [0; 16];
        content[..8].copy_from_slice(&self.incoming.to_le_bytes());
        content[8..].copy_from_slice(&self.outgoing.to_le_bytes());
        self.file.write_all_at(&content, 0)?;
        self.written = (self.incoming, self.outgoing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn counters_go_on_in_another_process() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Counters::read(home.path()).unwrap(), (0, 0));
        let mut counters = Counters::open(home.path()).unwrap();
        counters.add_incoming(5);
        counters.add_outgoing(7);
        assert_eq!(Counters::read(home.path()).unwrap(), (0, 0), "not shown yet");
        counters.publish().unwrap();
        drop(counters);
        let mut counters = Counters::open(home.path()).unwrap();
        counters.add_incoming(1);
        counters.publish().unwrap();
        assert_eq!(Counters::read(home.path()).unwrap(), (6, 7));
    }

    #[test]
    fn counters_that_cannot_be_read_are_not_zero() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("counters");
        let group = ControlGroup::new(Hierarchies::Unified(home.path().to_owned()), "/");
        let init = ProcessId::of(rustix::process::getpid()).unwrap();
        let state = State { init, cpu_at_start: 400, ports: BTreeMap::new() };
        let folder = RunFolder::new(home.path().to_owned());
        let bytes = || {
            let usage = folder.usage(&state, &group);
            (usage.network_in, usage.network_out)
        };
        for damaged in [&[1; 8][..], &[1; 15], &[1; 17], &[0; 4_096]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(bytes(), (None, None), "{}", damaged.len());
            Counters::open(home.path()).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), damaged, "it is left as it was");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(bytes(), (None, None));
        // The last readings are those that there are.
        fs::write(home.path().join("cpu.stat"), "usage_usec 1500000\n").unwrap();
        assert_eq!(folder.usage(&state, &group).cpu, Some(1_100));
        fs::write(home.path().join("cpu.stat"), "usage_usec 300000\n").unwrap();
        assert_eq!(folder.usage(&state, &group).cpu, None, "less than before it began");
        fs::write(home.path().join("cpu.stat"), "usage_usec \n").unwrap();
        assert_eq!(folder.usage(&state, &group).cpu, None);
    }

    #[test]
    fn making_the_container_is_not_counted() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("cpu.stat"), "usage_usec 1500000\n").unwrap();
        let group = ControlGroup::new(Hierarchies::Unified(home.path().to_owned()), "/");
        let init = ProcessId::of(rustix::process::getpid()).unwrap();
        let state = State { init, cpu_at_start: 400, ports: BTreeMap::new() };
        let usage = RunFolder::new(home.path().to_owned()).usage(&state, &group);
        assert_eq!((usage.cpu, usage.network_in), (Some(1_100), Some(0)));
    }

    #[test]
    fn only_a_killed_instance_was_killed_for_its_memory() {
        assert_eq!(out_of_memory(Some(0), Some(137)), Some(false));
        assert_eq!(out_of_memory(Some(2), Some(137)), Some(true));
        assert_eq!(out_of_memory(Some(2), Some(1)), Some(false));
        assert_eq!(out_of_memory(Some(2), None), None);
        assert_eq!(out_of_memory(None, Some(137)), None);
    }

    #[test]
    fn reasons_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(home.path().to_owned());
        assert!(folder.reasons().unwrap().is_empty());
        let both = BTreeSet::from([FreezeReason::Debt, FreezeReason::Idle]);
        folder.write_reasons(&both).unwrap();
        assert_eq!(folder.reasons().unwrap(), both);
        folder.write_reasons(&BTreeSet::new()).unwrap();
        assert!(folder.reasons().unwrap().is_empty());
    }
}
