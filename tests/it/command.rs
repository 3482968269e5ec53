//! The built command, with a home of its own.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

/// More than any command takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The command with a fresh `ROADSTEAD_HOME`.
pub(crate) struct Roadstead {
    home: TempDir,
}

impl Roadstead {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The command with these arguments, not started yet. As in a terminal, it and its children are a group.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        // Nothing of the tester's own settings, but the mark of the test run.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROADSTEAD_")) {
            if name != "ROADSTEAD_TEST_RUN" {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("ROADSTEAD_HOME", self.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).spawn().unwrap())
    }

    /// What lies in the home.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.home().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// The last line of standard output.
pub(crate) fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("no output: {output:?}"));
    serde_json::from_str(last).unwrap()
}

pub(crate) fn standard_error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Waits for the child to end by itself.
pub(crate) fn finish(child: Child) -> Output {
    let end = end_in_time(&child);
    let output = child.wait_with_output().unwrap();
    drop(end);
    output
}

/// Waits until the child says `text` on standard error, then does as Ctrl-C does in a terminal: signals the child and
/// all its children. Returns the exit status and all that it said afterwards.
pub(crate) fn signal_after(child: Child, text: &str, signal: Signal) -> (i32, String) {
    signal_after_with(child, text, signal, |_| {})
}

/// Likewise, and shows each line that follows to `listen`.
pub(crate) fn signal_after_with(
    mut child: Child,
    text: &str,
    signal: Signal,
    listen: impl Fn(&str),
) -> (i32, String) {
    let end = end_in_time(&child);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(text)), "it never said {text}");
    kill_process_group(group(&child), signal).unwrap();
    let lines = lines.map(|line| line.unwrap() + "\n").inspect(|line| listen(line));
    let rest = lines.collect::<String>();
    let status = child.wait().unwrap();
    drop(end);
    (status.code().expect("it ended by itself"), rest)
}

/// Kills the child and its children unless the returned value is dropped in time.
fn end_in_time(child: &Child) -> Sender<()> {
    let group = group(child);
    let (ended, end) = mpsc::channel();
    thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // It may have ended in this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    });
    ended
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap()).unwrap()
}

/// The command built from the sources as they are, with the features that the tests are built with.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--workspace", "--exclude", "xtask", "--locked", "--quiet"])
            .args(["--bin", "roadstead", "--message-format", "json-render-diagnostics"])
            .current_dir(root)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", standard_error(&built));
        let messages = String::from_utf8(built.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut path = messages.filter_map(|message| Some(message["executable"].as_str()?.into()));
        path.next_back().expect("cargo names the executable")
    })
}
