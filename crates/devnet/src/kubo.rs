//! A Kubo daemon as a child process, with a repository of its own and no network.

use std::{env, ffi::OsString, fs, io, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// How long it may take to make its repository, or to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The environment's variable that names the program. It is where a tool is, as the path is, and no setting of ours.
const PROGRAM_VARIABLE: &str = "KUBO_BINARY";

/// The program on the path.
const PROGRAM: &str = "ipfs";

/// The most bytes of its errors that are kept.
const MAX_SAID: usize = 4096;

/// What it says when its RPC and its gateway answer.
const READY: &str = "Daemon is ready";

/// A running Kubo. Killed when dropped; its repository stays for whoever owns the folder.
#[derive(Debug)]
pub(crate) struct Kubo {
    child: Child,
    drains: [JoinHandle<Vec<u8>>; 2],
    rpc: String,
    gateway: String,
}

/// Why Kubo does not run.
#[derive(Debug, thiserror::Error)]
pub enum KuboStartError {
    /// There is no such program.
    #[error(
        "there is no Kubo: `{program}` was not found ({PROGRAM_VARIABLE}, or `{PROGRAM}` on the path)"
    )]
    Missing {
        /// What was looked for.
        program: String,
    },
    /// It could not be started, or its files are not what they should be.
    #[error("Kubo did not start")]
    Start(#[from] io::Error),
    /// It ended, and said why.
    #[error("Kubo ended: {said}")]
    Ended {
        /// The end of what it wrote to standard error.
        said: String,
    },
    /// It did nothing for a long time.
    #[error("Kubo did not become ready within {} s", PATIENCE.as_secs())]
    Silent,
}

impl Kubo {
    /// Makes a repository in `folder`, which must be empty or missing, and starts a daemon on it, with its RPC and its
    /// gateway at free ports of the loopback interface.
    pub(crate) async fn start(folder: &Path) -> Result<Self, KuboStartError> {
        let program = env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| PROGRAM.into());
        fs::create_dir_all(folder)?;
        // The profile has no peers to begin with, listens on loopback alone, and looks for nobody in the local network.
        let init = command(&program, folder, &["init", "--profile=test"]).output();
        let init = timeout(PATIENCE, init).await.map_err(|_| KuboStartError::Silent)?;
        let init = init.map_err(|error| not_started(&program, error))?;
        if !init.status.success() {
            return Err(ended(&init.stderr));
        }
        close_off(folder)?;

        let mut child = command(&program, folder, &["daemon", "--offline"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's Ctrl-C is for this process, which still needs the blocks to close what is open.
            .process_group(0)
            .spawn()
            .map_err(|error| not_started(&program, error))?;
        let (output, errors) =
            child.stdout.take().zip(child.stderr.take()).ok_or(KuboStartError::Silent)?;
        let errors = drain(errors);
        let mut lines = BufReader::new(output).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                if line.contains(READY) {
                    return Ok(true);
                }
            }
            Ok::<_, io::Error>(false)
        };
        if !timeout(PATIENCE, ready).await.map_err(|_| KuboStartError::Silent)?? {
            return Err(ended(&errors.await.unwrap_or_default()));
        }
        let rpc = url(&fs::read_to_string(folder.join("api"))?)?;
        let gateway = fs::read_to_string(folder.join("gateway"))?.trim().to_owned();
        let drains = [drain(lines.into_inner()), errors];
        Ok(Self { child, drains, rpc, gateway })
    }

    /// Where its RPC answers.
    pub(crate) fn rpc(&self) -> &str {
        &self.rpc
    }

    /// Where its gateway serves the blocks.
    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn shutdown(mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill().await;
        for drain in self.drains {
            let _ = drain.await;
        }
    }
}

fn command(program: &OsString, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("IPFS_PATH", folder)
        .env("IPFS_TELEMETRY", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What the profile leaves open: no listener for peers, nothing fetched for whoever asks the gateway, no defaults that
/// come from the internet.
fn close_off(folder: &Path) -> io::Result<()> {
    let path = folder.join("config");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    for (section, key, value) in [
        ("Addresses", "Swarm", json!([])),
        ("AutoConf", "Enabled", json!(false)),
        ("Gateway", "NoFetch", json!(true)),
        ("Provide", "Enabled", json!(false)),
        ("Routing", "Type", json!("none")),
    ] {
        let section =
            config.as_object_mut().map(|config| config.entry(section).or_insert_with(|| json!({})));
        if let Some(section) = section.and_then(Value::as_object_mut) {
            section.insert(key.to_owned(), value);
        }
    }
    // Written in place: it holds a key, and keeps its mode.
    fs::write(&path, serde_json::to_vec(&config)?)
}

fn not_started(program: &OsString, error: io::Error) -> KuboStartError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            KuboStartError::Missing { program: program.to_string_lossy().into_owned() }
        }
        _ => error.into(),
    }
}

fn ended(said: &[u8]) -> KuboStartError {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    KuboStartError::Ended { said: last.unwrap_or("it did not say why").trim().to_owned() }
}

/// Reads to the end, so that the child does not stop on a full pipe, and returns the end of what it wrote.
fn drain(mut output: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<Vec<u8>> {
    tokio::spawn(async move {
        let mut said = Vec::new();
        // Once it cannot be read, nobody waits for it either.
        while matches!(output.read_buf(&mut said).await, Ok(1..)) {
            let surplus = said.len().saturating_sub(MAX_SAID);
            said.drain(..surplus);
        }
        said
    })
}

/// The URL of the multiaddress in the file where a daemon says where its RPC is.
fn url(multiaddress: &str) -> io::Result<String> {
    match multiaddress.trim().split('/').collect::<Vec<_>>()[..] {
        ["", "ip4", host, "tcp", port] => Ok(format!("http://{host}:{port}")),
        _ => Err(io::Error::other(format!("its RPC is at `{}`", multiaddress.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_an_rpc_is_a_url() {
        assert_eq!(url("/ip4/127.0.0.1/tcp/5001\n").unwrap(), "http://127.0.0.1:5001");
        for other in ["", "/unix/api", "/ip4/127.0.0.1/udp/5001", "127.0.0.1:5001"] {
            assert!(url(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_last_words_say_why_it_ended() {
        let error = ended(b"Initializing daemon...\nError: someone else has the lock\n\n");
        assert_eq!(error.to_string(), "Kubo ended: Error: someone else has the lock");
        assert_eq!(ended(b"").to_string(), "Kubo ended: it did not say why");
    }
}
