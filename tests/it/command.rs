//! The built command, with a home of its own.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

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

    /// The command with these arguments, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env("ROADSTEAD_HOME", self.home()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
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

/// Waits until the child says `text` on standard error, sends it a signal, and returns its exit status and all that
/// it said afterwards.
pub(crate) fn signal_after(mut child: Child, text: &str, signal: Signal) -> (i32, String) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(text)), "it never said {text}");
    let process = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(process, signal).unwrap();
    let rest = thread::spawn(move || lines.map(|line| line.unwrap() + "\n").collect::<String>());
    let status = child.wait().unwrap();
    (status.code().expect("it ended by itself"), rest.join().unwrap())
}

/// The command built from the sources as they are, with the features that the tests are built with.
fn binary() -> &'static Path {
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
