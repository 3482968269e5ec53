//! Starts shims.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use roadstead_core::ports::EngineError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{
    order::{LOCKED, MAX_REPORT, Order, Report},
    shim::{ARGUMENT, Task},
};
use crate::work::engine_failed;

/// How long a shim may take. It takes some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a shim says of its own accord, and to an order.
struct Dialogue {
    from_shim: PipeReader,
    deadline: Instant,
    /// What was said so far.
    said: Vec<u8>,
}

/// Starts a shim for `task` on `folder`, gives it the order, and waits until it has done what it was asked. Blocks; to
/// be called where a tokio runtime is, which waits for the shim's end.
pub(crate) fn launch(
    executable: &Path,
    task: Task,
    folder: &Path,
    order: Option<&Order>,
) -> Result<(), EngineError> {
    let failed = || engine_failed("starting a shim");
    let (from_engine, to_shim) = io::pipe().map_err(failed())?;
    let (from_shim, to_engine) = io::pipe().map_err(failed())?;
    let last_words = File::options().create(true).append(true).open(folder.join("shim.log"));
    let mut command = Command::new(executable);
    command.arg(ARGUMENT).arg(task.name()).arg(folder).current_dir("/");
    // It needs none of this process's own environment, which may hold secrets, nor may a variable change what the
    // library does.
    command.env_clear();
    command.stdin(Stdio::from(from_engine)).stdout(Stdio::from(to_engine));
    command.stderr(Stdio::from(last_words.map_err(failed())?));
    let mut child = command.spawn().map_err(failed())?;
    // It holds the shim's ends of the pipes.
    drop(command);
    let mut dialogue =
        Dialogue { from_shim, deadline: Instant::now() + PATIENCE, said: Vec::new() };
    let report = dialogue.hold(to_shim, order);
    if report.is_err() {
        // It may have ended, and an error of killing it says nothing.
        let _ = child.start_kill();
    }
    tokio::spawn(async move { child.wait().await });
    match report.map_err(failed())? {
        Report::Done => Ok(()),
        Report::CannotStart(reason) => Err(EngineError::CannotStart { reason }),
        Report::Failed(reason) => Err(failed()(io::Error::other(reason))),
    }
}

impl Dialogue {
    fn hold(&mut self, mut to_shim: PipeWriter, order: Option<&Order>) -> io::Result<Report> {
        if let Some(order) = order {
            while !self.said.ends_with(b"\n") {
                if !self.listen()? {
                    return self.report();
                }
            }
            if self.said != LOCKED.as_bytes() {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.said.clear();
            let order = Zeroizing::new(serde_json::to_vec(order)?);
            to_shim.write_all(&order)?;
        }
        drop(to_shim);
        while self.listen()? {}
        self.report()
    }

    /// Waits for more. Returns whether there will be more.
    fn listen(&mut self) -> io::Result<bool> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut ready = [PollFd::new(&self.from_shim, PollFlags::IN)];
        match poll(&mut ready, Some(&left)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(rustix::io::Errno::INTR) => return Ok(true),
            ready => drop(ready?),
        }
        let mut piece = [0; 4_096];
        let count = self.from_shim.read(&mut piece)?;
        self.said.extend_from_slice(&piece[..count]);
        if self.said.len() as u64 > MAX_REPORT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(count > 0)
    }

    fn report(&self) -> io::Result<Report> {
        if self.said.is_empty() {
            return Err(io::Error::other("the shim ended without a word"));
        }
        Ok(serde_json::from_slice(&self.said)?)
    }
}
