//! Foundry's development chain as a child process.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::chain::Blocks;

/// How long anvil may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running anvil. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Anvil {
    child: Child,
    drain: JoinHandle<()>,
    url: String,
}

/// Why anvil does not run.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// There is no such program.
    #[error("`anvil` is not on the path")]
    Missing,
    /// It could not be started, or it ended at once.
    #[error("anvil did not start")]
    Start(#[source] io::Error),
    /// It did not say where it listens.
    #[error("anvil did not say where it listens within {} s", PATIENCE.as_secs())]
    Silent,
}

impl Anvil {
    /// Starts anvil at a port of the loopback interface, any free one for 0, with the hard fork of the contracts.
    pub(crate) async fn start(blocks: Blocks, port: u16) -> Result<Self, AnvilError> {
        let mut command = Command::new("anvil");
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--hardfork", "osaka"]);
        if let Blocks::Every(time) = blocks {
            command.args(["--block-time", &time.as_secs_f64().to_string()]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            // A terminal's Ctrl-C is for this process, which still needs the chain to close what is open.
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => AnvilError::Missing,
                _ => AnvilError::Start(error),
            })?;
        let output = child.stdout.take().ok_or(AnvilError::Silent)?;
        let mut lines = BufReader::new(output).lines();
        let address = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(address) = line.strip_prefix("Listening on ") {
                    return Ok(address.trim().to_owned());
                }
            }
            Err(io::Error::other("it ended before it listened"))
        };
        let address = timeout(PATIENCE, address).await.map_err(|_| AnvilError::Silent)?;
        let url = format!("http://{}", address.map_err(AnvilError::Start)?);
        // It prints every call; a full pipe would stop it.
        let drain = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, drain, url })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Waits until it ends without having been asked to. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        // Nothing can be known of a child that cannot be waited for; it counts as ended.
        let _ = self.child.wait().await;
    }

    /// Ends it and waits until it is gone.
    pub(crate) async fn shutdown(mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill().await;
        let _ = self.drain.await;
    }
}
