//! A command that runs for long, as one process among others.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::Child,
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::command::Roadstead;

/// More than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running command. Dropped, it is killed, and what it started with it.
pub(crate) struct Process {
    name: String,
    child: Child,
    results: Receiver<String>,
    lines: Receiver<String>,
    /// All that it said on standard error, as far as it was listened to.
    heard: RefCell<Vec<String>>,
}

impl Process {
    pub(crate) fn start(roadstead: &Roadstead, arguments: &[&str]) -> Self {
        let mut child = roadstead.command(arguments).spawn().unwrap();
        let results = read(child.stdout.take().unwrap());
        let lines = read(child.stderr.take().unwrap());
        Self { name: arguments.join(" "), child, results, lines, heard: RefCell::default() }
    }

    /// The next line of standard output, which is one JSON object.
    pub(crate) fn report(&mut self) -> Value {
        match self.results.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line).unwrap(),
            Err(_) => panic!("{} reports nothing; it says {}", self.name, self.rest()),
        }
    }

    /// Waits until it says this on standard error; returns the line.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.heard.borrow_mut().push(line),
                Err(_) => panic!("{} never says {text}; it says {}", self.name, self.rest()),
            }
        }
    }

    /// Ends it as a power cut does.
    pub(crate) fn kill(mut self) {
        kill_process(self.pid(), Signal::KILL).unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9), "{}", self.rest());
    }

    /// Ends it as Ctrl-C does in a terminal; returns its exit status and all that it said.
    pub(crate) fn interrupt(mut self) -> (i32, String) {
        kill_process_group(self.pid(), Signal::INT).unwrap();
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{} does not end; it says {}", self.name, self.rest());
            thread::sleep(Duration::from_millis(20));
        };
        (status.code().expect("it ended by itself"), self.rest())
    }

    fn rest(&self) -> String {
        let mut heard = self.heard.borrow_mut();
        heard.extend(self.lines.try_iter());
        heard.join("\n")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn read(from: impl Read + Send + 'static) -> Receiver<String> {
    let (said, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if said.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
