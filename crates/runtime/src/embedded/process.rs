//! One process, known by more than its number: numbers come again, a number with its start time does not.

use std::{fs, io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this machine since it was booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    number: i32,
    /// Clock ticks between boot and its start: field 22 of `/proc/PID/stat`.
    start: u64,
    /// Which boot: the same number and ticks may come again after the next one.
    boot: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` where there is none, or it has ended and nobody waited for it.
    pub(crate) fn of(number: Pid) -> Option<Self> {
        let number = number.as_raw_nonzero().get();
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
        Some(Self { number, start: start_of_living(&stat)?, boot: boot()? })
    }

    pub(crate) const fn number(self) -> i32 {
        self.number
    }

    /// Whether it still runs. What cannot be read, as where descriptors have run out, is no reason to think that it ended.
    pub(crate) fn is_alive(self) -> bool {
        self.is_described(fs::read_to_string(format!("/proc/{}/stat", self.number)), boot())
    }

    fn is_described(self, stat: io::Result<String>, boot: Option<u64>) -> bool {
        match stat {
            Ok(stat) => {
                start_of_living(&stat) == Some(self.start) && boot.is_none_or(|b| b == self.boot)
            }
            Err(error) => {
                error.kind() != io::ErrorKind::NotFound
                    && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
            }
        }
    }

    /// How it ended, as `wait` tells it, while nobody has waited for it yet; `None` before and after.
    pub(crate) fn exit_code(self) -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.number)).ok()?;
        let fields = fields(&stat)?;
        let is_this = fields.get(START)?.parse() == Ok(self.start) && boot() == Some(self.boot);
        (is_this && fields.first() == Some(&"Z")).then(|| fields.get(EXIT_CODE)?.parse().ok())?
    }

    /// A handle on it, which keeps meaning this process; `None` where it has ended.
    pub(crate) fn open(self) -> io::Result<Option<OwnedFd>> {
        let Some(number) = Pid::from_raw(self.number) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::empty()) {
            // Checked afterwards: what was opened could be a successor with the same number.
            Ok(handle) => Ok(self.is_alive().then_some(handle)),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a signal. Not an error where the process has ended.
    pub(crate) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(handle) = self.open()? else { return Ok(()) };
        match pidfd_send_signal(handle, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where fields of `/proc/PID/stat` are behind the name, the first of them being the state.
const START: usize = 19;
const EXIT_CODE: usize = 49;

/// The fields of a line of `/proc/PID/stat` behind the name, which may hold anything, also brackets.
fn fields(stat: &str) -> Option<Vec<&str>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().collect())
}

fn start_of_living(stat: &str) -> Option<u64> {
    let fields = fields(stat)?;
    let ended = matches!(*fields.first()?, "Z" | "X");
    if ended { None } else { fields.get(START)?.parse().ok() }
}

/// What tells this boot of the machine from others: the last part of its random id.
fn boot() -> Option<u64> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u64::from_str_radix(id.split('-').next_back()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn number(child: &std::process::Child) -> Pid {
        Pid::from_raw(child.id().try_into().unwrap()).unwrap()
    }

    #[test]
    fn what_cannot_be_read_has_not_ended() {
        let id = ProcessId::of(rustix::process::getpid()).unwrap();
        let failed = |errno: rustix::io::Errno| Err(errno.into());
        assert!(id.is_described(failed(rustix::io::Errno::MFILE), boot()));
        assert!(!id.is_described(failed(rustix::io::Errno::NOENT), boot()));
        assert!(!id.is_described(failed(rustix::io::Errno::SRCH), boot()));
        let stat = || fs::read_to_string("/proc/self/stat");
        assert!(id.is_described(stat(), None));
        assert!(!id.is_described(stat(), Some(id.boot.wrapping_add(1))));
    }

    #[test]
    fn a_process_ends_with_its_exit_even_if_nobody_waits() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(number(&child)).unwrap();
        assert!(id.is_alive());
        assert_eq!(id.exit_code(), None);
        let handle = id.open().unwrap().unwrap();
        id.signal(Signal::KILL).unwrap();
        let mut ended = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ended, None).unwrap();
        assert!(!id.is_alive(), "a zombie counts as ended");
        assert_eq!(id.exit_code(), Some(Signal::KILL.as_raw()));
        assert_eq!(ProcessId { start: id.start + 1, ..id }.exit_code(), None);
        child.wait().unwrap();
        assert_eq!(id.exit_code(), None);
        assert!(id.open().unwrap().is_none());
        id.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn a_successor_with_the_same_number_is_another_process() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(number(&child)).unwrap();
        for other in
            [ProcessId { start: id.start + 1, ..id }, ProcessId { boot: id.boot ^ 1, ..id }]
        {
            assert!(!other.is_alive());
            assert!(other.open().unwrap().is_none());
            other.signal(Signal::KILL).unwrap();
        }
        assert!(id.is_alive());
        id.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_start_time_is_read_behind_a_name_with_brackets() {
        let rest = "1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        assert_eq!(start_of_living(&format!("42 (a) b (c)) S {rest}")), Some(4711));
        assert_eq!(start_of_living(&format!("42 (x) Z {rest}")), None);
        assert_eq!(start_of_living("42"), None);
    }
}
