//! The process that watches one instance.
//!
//! It is this program once more, started with a hidden argument, so [`answer`] comes first in `main`: making a
//! container means to clone, and a process that clones must have one thread. It goes on when the engine dies, forwards
//! the instance's ports, keeps its output, waits for its end and writes down what it used.
//!
//! ```text
//! start   lock ─> order ─> mounts, container ─> watch ─> exit.json ─> gone
//! adopt   lock ────────────────────────────────> watch ─> exit.json ─> gone     its predecessor was killed
//! probe   tries in namespaces of its own what a container will need
//! ```
//!
//! Before the container runs, an error undoes all that was done. A shim that is killed then leaves a control group,
//! perhaps with a process in it that never was the container; the engine finds the folder without a shim and without
//! a state, and removes both. A shim that is killed later loses the bytes that it had read and not yet counted, and
//! its connections.

mod executor;
mod forward;
mod network;
mod output;
mod probe;
mod protect;
mod root;
mod seccomp;
mod spec;
mod start;
mod user;
mod watch;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::ExitCode,
};

use roadstead_core::with_causes;
use rustix::{
    process::{setsid, umask},
    stdio::{dup2_stdin, dup2_stdout},
};

use super::{
    control_group::ControlGroup,
    order::{LOCKED, MAX_ORDER, Order, Report},
    process::ProcessId,
    run::{RunFolder, State},
    sys,
};
use crate::files::{FileError, failed, read_all};

pub(crate) use output::newest as newest_output;

/// The argument that makes this program a shim.
pub(crate) const ARGUMENT: &str = "__shim";

/// How many times and how long, in milliseconds, the end of a process that others wait for is asked about.
const EXIT_CODE_TRIES: [u64; 8] = [0, 1, 5, 20, 50, 100, 300, 600];

/// What a shim is asked to do with a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// To start the instance.
    Start,
    /// To watch the instance, whose shim was killed.
    Adopt,
    /// To try what a container needs.
    Probe,
}

impl Task {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Adopt => "adopt",
            Self::Probe => "probe",
        }
    }
}

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShimError {
    /// Not because of the machine, but because of the image or of how it is to run.
    #[error("{reason}")]
    CannotStart {
        /// What is wrong.
        reason: String,
    },
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The kernel said no.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The library that makes containers failed.
    #[error("the container cannot be made")]
    Container(#[from] libcontainer::error::LibcontainerError),
    /// The filter of system calls cannot be made.
    #[error("no filter of system calls")]
    Seccomp(#[from] seccompiler::Error),
    /// It was not started by an engine.
    #[error("this is for the engine alone: {reason}")]
    Misused {
        /// What does not fit.
        reason: &'static str,
    },
}

impl ShimError {
    fn cannot_start(reason: impl Into<String>) -> Self {
        Self::CannotStart { reason: reason.into() }
    }

    /// The error as the engine reports it, with its causes.
    fn report(&self) -> Report {
        let mut text = with_causes(self);
        text.truncate(text.floor_char_boundary(2_000));
        match self {
            Self::CannotStart { .. } => Report::CannotStart(text),
            _ => Report::Failed(text),
        }
    }
}

/// Turns an error of `operation` into a [`ShimError`].
fn io_failed<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> ShimError {
    move |source| ShimError::Io { operation, source: source.into() }
}

/// Does the work of a shim where this process was started as one, and returns its exit code. First thing in `main`,
/// before any thread is started; `None` for everybody else, after a look at the first argument.
pub fn answer() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let (task, folder) = (arguments.next(), arguments.next());
    let task = [Task::Start, Task::Adopt, Task::Probe]
        .into_iter()
        .find(|known| task.as_ref().is_some_and(|task| task == known.name()));
    let (Some(task), Some(folder)) = (task, folder) else { return Some(ExitCode::from(2)) };
    let is_protected = arguments.next().is_some_and(|argument| argument == protect::ARGUMENT);
    if is_protected {
        // It has that of the descriptor it was started from. A list of processes is all that it matters to.
        let _ = rustix::thread::set_name(c"roadstead");
    }
    let done = match task {
        // A container's first process is a copy of this one until it starts its program.
        Task::Start | Task::Probe if !is_protected => Err(protect::start_again(task, &folder)),
        Task::Start => start(PathBuf::from(folder)),
        Task::Adopt => adopt(PathBuf::from(folder)),
        Task::Probe => probe::run(Path::new(&folder)).and_then(|()| report(&Report::Done)),
    };
    match done {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // Whoever asked may be gone, and the exit code says the same.
            let _ = report(&error.report());
            Some(ExitCode::FAILURE)
        }
    }
}

fn start(folder: PathBuf) -> Result<(), ShimError> {
    let folder = RunFolder::new(folder);
    let _lock = enter(&folder)?;
    say(LOCKED)?;
    let order = read_all(io::stdin().lock(), MAX_ORDER).map_err(io_failed("read the order"))?;
    let order = zeroize::Zeroizing::new(order);
    let order: Order = serde_json::from_slice(&order)
        .map_err(|_| ShimError::Misused { reason: "no whole order came" })?;
    let started = start::start(&folder, &order)?;
    drop(order);
    let state = started.state.clone();
    watch_to_the_end(&folder, &state, started)
}

fn adopt(folder: PathBuf) -> Result<(), ShimError> {
    let folder = RunFolder::new(folder);
    let _lock = enter(&folder)?;
    let missing = || ShimError::Misused { reason: "there is nothing to adopt" };
    let (mut state, record) =
        (folder.state()?.ok_or_else(missing)?, folder.record()?.ok_or_else(missing)?);
    let group = folder.control_group(&record)?;
    let handle = state.init.open().map_err(io_failed("watch the container"))?;
    let handle = handle.ok_or_else(missing)?;
    let listeners = forward::listen_again(&state.ports)?;
    state.ports = forward::addresses(&listeners)?;
    network::enter(state.init)?;
    let started = start::Started {
        output: output::open(&folder)?,
        handle,
        listeners,
        group,
        is_child: false,
        state: state.clone(),
    };
    folder.write_state(&state)?;
    watch_to_the_end(&folder, &state, started)
}

/// Makes this process one of its own that nothing ends by accident, and locks the folder.
fn enter(folder: &RunFolder) -> Result<File, ShimError> {
    let threads = fs::read_dir("/proc/self/task").map_err(io_failed("count the threads"))?;
    if threads.count() != 1 {
        return Err(ShimError::Misused { reason: "threads were started before the shim" });
    }
    // Fails for the leader of a group, which needs none.
    let _ = setsid();
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    std::env::set_current_dir("/").map_err(io_failed("leave the folder"))?;
    folder.lock()?.ok_or(ShimError::Misused { reason: "the instance has a shim" })
}

fn watch_to_the_end(
    folder: &RunFolder,
    state: &State,
    started: start::Started,
) -> Result<(), ShimError> {
    let group: ControlGroup = started.group.clone();
    report(&Report::Done)?;
    release_standard_streams()?;
    let is_child = started.is_child;
    let handle = watch::watch(folder, started)?;
    let status = if is_child { wait(state)? } else { exit_code(state.init, &handle) };
    folder.finish(state, &group, status)?;
    Ok(())
}

/// The status of a child that has ended.
fn wait(state: &State) -> Result<Option<i32>, ShimError> {
    let number = rustix::process::Pid::from_raw(state.init.number());
    let waited = rustix::io::retry_on_intr(|| {
        rustix::process::waitpid(number, rustix::process::WaitOptions::empty())
    });
    let waited = waited.map_err(io_failed("wait for the container"))?;
    Ok(waited.map(|(_, status)| sys::shell_status(status.as_raw())))
}

/// The status of a process that has ended and that somebody else waits for, has waited for, or never does; `None` where
/// it cannot be known.
fn exit_code(init: ProcessId, handle: impl AsFd) -> Option<i32> {
    EXIT_CODE_TRIES.iter().find_map(|pause| {
        std::thread::sleep(std::time::Duration::from_millis(*pause));
        init.exit_code().or_else(|| sys::exit_code(&handle)).map(sys::shell_status)
    })
}

fn report(report: &Report) -> Result<(), ShimError> {
    let text = serde_json::to_string(report).map_err(io_failed("report"))?;
    // An engine that died meanwhile finds the instance as it is.
    let _ = say(&text);
    Ok(())
}

fn say(text: &str) -> Result<(), ShimError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(io_failed("report"))
}

/// Closes the pipes to the engine, which waits for the end of them.
fn release_standard_streams() -> Result<(), ShimError> {
    let path = Path::new("/dev/null");
    let null = File::options().read(true).write(true).open(path).map_err(failed("open", path))?;
    dup2_stdin(&null).map_err(io_failed("release standard input"))?;
    dup2_stdout(&null).map_err(io_failed("release standard output"))?;
    Ok(())
}
