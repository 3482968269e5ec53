//! The loop of a shim while its container runs: one thread that waits for everything at once.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{
    ShimError,
    forward::{Forwarder, MAX_CONNECTIONS},
    io_failed,
    output::{Log, MAX_COPY},
    start::Started,
};
use crate::embedded::run::{Counters, RunFolder};

/// How long connections may take to deliver what the container said last.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bytes of output that are copied in a [`SPAN`]. The rest waits in the pipe and the container with it, because to copy
/// is work of the shim, which the container's limits do not cover.
const MAX_OUTPUT: usize = 4 << 20;
const SPAN: Duration = Duration::from_secs(1);

/// Events that are taken at once.
const EVENTS: usize = 256;

/// What an event is about: the container's end, its output, a listener, or a connection.
const INIT: u64 = 0;
const OUTPUT: u64 = 1;
pub(super) const FIRST_LISTENER: u64 = 2;
/// Far above the number of listeners.
pub(super) const FIRST_CONNECTION: u64 = 1 << 20;

/// Descriptors that a shim may hold.
const MAX_DESCRIPTORS: u64 = 4_096;

/// What descriptors are waited for.
#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

impl Poll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    pub(super) fn add(&self, source: impl AsFd, key: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, source, EventData::new_u64(key), flags)?)
    }

    pub(super) fn change(&self, source: impl AsFd, key: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, source, EventData::new_u64(key), flags)?)
    }

    pub(super) fn remove(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, source)?)
    }

    /// Waits for events, not longer than until `wake`. Returns the keys that something happened to.
    pub(super) fn wait(&self, wake: Option<Instant>) -> io::Result<Vec<(u64, EventFlags)>> {
        let timeout = wake.map(|wake| timeout(wake.saturating_duration_since(Instant::now())));
        let none = Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [none; EVENTS];
        let count = match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => 0,
            count => count?,
        };
        Ok(events[..count].iter().map(|event| (event.data.u64(), event.flags)).collect())
    }
}

/// Forwards and copies until the container has ended. Returns the handle on its first process.
pub(super) fn watch(folder: &RunFolder, started: Started) -> Result<OwnedFd, ShimError> {
    let Started { handle, listeners, output, .. } = started;
    // For the connections; the container has limits of its own.
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.map_or(MAX_DESCRIPTORS, |most| most.min(MAX_DESCRIPTORS));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum })
        .map_err(io_failed("allow more descriptors"))?;
    let waiting = || io_failed::<io::Error>("wait for events");
    let poll = Poll::new().map_err(waiting())?;
    let counters = Counters::open(folder.path())?;
    let log = Log::open(folder.path())?;
    let forwarder = Forwarder::new(listeners, counters, MAX_CONNECTIONS);
    poll.add(&handle, INIT, EventFlags::IN).map_err(waiting())?;
    poll.add(&output, OUTPUT, EventFlags::IN).map_err(waiting())?;
    forwarder.open(&poll).map_err(waiting())?;
    let budget = Budget { left: MAX_OUTPUT, until: Instant::now() + SPAN };
    Watch { poll, handle, output, log, forwarder, budget, rests: false }.run()
}

struct Watch {
    poll: Poll,
    handle: OwnedFd,
    output: File,
    log: Log,
    forwarder: Forwarder,
    budget: Budget,
    /// Whether the output is not waited for until the budget is a new one.
    rests: bool,
}

/// What may be copied until then.
struct Budget {
    left: usize,
    until: Instant,
}

impl Budget {
    /// Takes `copied` bytes off, of the next span where this one is over. Returns whether any are left.
    fn take(&mut self, copied: usize, now: Instant) -> bool {
        if now >= self.until {
            *self = Self { left: MAX_OUTPUT, until: now + SPAN };
        }
        self.left = self.left.saturating_sub(copied);
        self.left > 0
    }
}

impl Watch {
    fn run(mut self) -> Result<OwnedFd, ShimError> {
        while !self.turn(None)? {}
        // That it has ended stays an event, and is no news any more.
        self.poll.remove(&self.handle).map_err(io_failed("wait for events"))?;
        self.forwarder.begin_to_end();
        let end = Instant::now() + FAREWELL;
        while !self.forwarder.is_idle() && Instant::now() < end {
            self.turn(Some(end))?;
        }
        // A log that cannot be written must not change how the instance ended.
        while self.log.copy(&self.output).unwrap_or(0) > 0 {}
        Ok(self.handle)
    }

    /// Waits for events, not longer than `end`, and answers them. Returns whether the container has ended.
    fn turn(&mut self, end: Option<Instant>) -> Result<bool, ShimError> {
        let rest = self.rests.then_some(self.budget.until);
        let wake = [self.forwarder.wake(), rest, end].into_iter().flatten().min();
        let mut ended = false;
        for (key, flags) in self.poll.wait(wake).map_err(io_failed("wait for events"))? {
            match key {
                INIT => ended = true,
                OUTPUT => self.copy_output()?,
                _ => self.forwarder.answer(&self.poll, key, flags),
            }
        }
        if self.rests && Instant::now() >= self.budget.until {
            self.rests = false;
            self.poll
                .add(&self.output, OUTPUT, EventFlags::IN)
                .map_err(io_failed("wait for the output"))?;
        }
        self.forwarder.try_again(&self.poll);
        self.forwarder.publish();
        Ok(ended)
    }

    fn copy_output(&mut self) -> Result<(), ShimError> {
        // What cannot be written is lost, and was work as well; the container must not wait for ever.
        let copied = self.log.copy(&self.output).unwrap_or(MAX_COPY);
        if !self.budget.take(copied, Instant::now()) {
            self.poll.remove(&self.output).map_err(io_failed("leave the output alone"))?;
            self.rests = true;
        }
        Ok(())
    }
}

fn timeout(duration: Duration) -> Timespec {
    // Rounded up, so that it is over when the loop wakes.
    let duration = duration + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_and_renewed_when_its_time_is_over() {
        let now = Instant::now();
        let mut budget = Budget { left: MAX_OUTPUT, until: now + SPAN };
        assert!(budget.take(MAX_OUTPUT - 1, now));
        assert!(!budget.take(MAX_COPY, now));
        assert!(!budget.take(0, now + SPAN / 2));
        assert!(budget.take(MAX_COPY, now + SPAN));
        assert_eq!(budget.left, MAX_OUTPUT - MAX_COPY);
    }
}
