//! How a command asks the process that holds a role's folder: over a socket in that folder, for its owner alone.
//!
//! ```text
//!  command ── one line of JSON ──> process      a request
//!          <── lines of JSON ───── process      replies, the last one followed by the end
//! ```
//!
//! The folder's lock says who may listen, so a socket that a crash left is nobody's and is replaced.

use std::{
    fs::{self, File, Permissions},
    future::Future,
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use roadstead_journal::StateFolder;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::failure::with_causes;

const SOCKET: &str = "control";

/// The most bytes of one line.
const MAX_LINE: u64 = 4 << 20;

/// Replies that wait for a slow reader.
const WAITING: usize = 256;

/// How long one answer is waited for: more than a bill of years takes to be recomputed.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a command may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited where no connection can be taken.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the process that holds {} cannot be asked", path.display())]
    Unreachable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the answer of the process that holds the folder makes no sense; is it of another version?"
    )]
    Malformed(#[source] serde_json::Error),
    #[error("the answer of the process that holds the folder broke off")]
    Broken(#[source] io::Error),
    #[error("the process that holds the folder ended before it answered")]
    Ended,
    #[error("the process that holds the folder gave no answer within {} s", ANSWER.as_secs())]
    Silent,
    /// In its own words.
    #[error("{0}")]
    Refused(String),
}

/// One reply as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply<T> {
    Ok(T),
    Error(String),
}

/// Where a request is answered. Replies to somebody who is gone are dropped.
#[derive(Clone, Debug)]
pub(crate) struct Replies(mpsc::Sender<String>);

impl Replies {
    /// Whether nobody waits for a reply any more.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }

    pub(crate) async fn send(&self, value: &(impl Serialize + Sync)) {
        self.write(line_of(&Reply::Ok(value))).await;
    }

    pub(crate) async fn refuse(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) {
        self.write(line_of(&Reply::<()>::Error(with_causes(error)))).await;
    }

    async fn write(&self, line: String) {
        // Somebody who is gone needs no reply.
        let _ = self.0.send(line).await;
    }
}

fn line_of<T: Serialize>(reply: &Reply<T>) -> String {
    serde_json::to_string(reply).expect("every reply has a JSON form")
}

/// A socket that is listened to. Dropped, it answers no more.
#[derive(Debug)]
pub(crate) struct ControlServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers in a folder. `answer` is called once for each request.
pub(crate) fn serve<R, F>(
    folder: &StateFolder,
    answer: impl Fn(R, Replies) -> F + Send + Sync + 'static,
) -> Result<ControlServer, ControlError>
where
    R: DeserializeOwned + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let path = folder.path().join(SOCKET);
    let unreachable = |source| ControlError::Unreachable { path: folder.path().to_owned(), source };
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreachable(error)),
        _ => {}
    }
    let place = Place::open(folder.path()).map_err(unreachable)?;
    let listener = UnixListener::bind(place.socket()).map_err(unreachable)?;
    let for_its_owner = fs::set_permissions(&path, Permissions::from_mode(0o600));
    for_its_owner.map_err(unreachable)?;
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let accepted = listener.accept().await;
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    connections.spawn(converse(stream, move |request, to| answer(request, to)));
                }
                // Such as no file descriptor that is free; connections that end give some back.
                Err(_) => sleep(PAUSE).await,
            }
        }
    });
    Ok(ControlServer { path, task })
}

async fn converse<R: DeserializeOwned, F: Future<Output = ()>>(
    stream: UnixStream,
    answer: impl Fn(R, Replies) -> F,
) {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_LINE));
    if !matches!(timeout(PATIENCE, reader.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let (sender, mut replies) = mpsc::channel::<String>(WAITING);
    let replying = async move {
        let to = Replies(sender);
        match serde_json::from_str(&line) {
            Ok(request) => answer(request, to).await,
            Err(error) => to.refuse(&error).await,
        }
    };
    let writing = async move {
        while let Some(reply) = replies.recv().await {
            if write.write_all(format!("{reply}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    };
    let (mut rest, mut end) = (reader.into_inner(), [0]);
    // Cut off where nobody waits any more: whatever a request has changed, it changed in one step.
    tokio::select! {
        _ = async { tokio::join!(replying, writing) } => {}
        _ = rest.read(&mut end) => {}
    }
}

/// Asks whoever holds the folder of a role. `None` where nobody does.
pub(crate) async fn ask(
    folder: &Path,
    request: &impl Serialize,
) -> Result<Option<Asked>, ControlError> {
    let unreachable = |source| ControlError::Unreachable { path: folder.to_owned(), source };
    let place = match Place::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        place => place.map_err(unreachable)?,
    };
    let stream = match UnixStream::connect(place.socket()).await {
        // Nothing is there, or what a crash left.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        stream => stream.map_err(unreachable)?,
    };
    let (read, mut write) = stream.into_split();
    let line = serde_json::to_string(request).expect("every request has a JSON form");
    write.write_all(format!("{line}\n").as_bytes()).await.map_err(unreachable)?;
    // The end of it is how the other side notices that nobody waits any more.
    Ok(Some(Asked { reader: BufReader::new(read), _write: write }))
}

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    reader: BufReader<OwnedReadHalf>,
    _write: tokio::net::unix::OwnedWriteHalf,
}

impl Asked {
    /// The next reply; `None` after the last one.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        let mut line = String::new();
        let mut bounded = (&mut self.reader).take(MAX_LINE);
        let read = bounded.read_line(&mut line).await;
        if read.map_err(ControlError::Broken)? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&line).map_err(ControlError::Malformed)? {
            Reply::Ok(value) => Ok(Some(value)),
            Reply::Error(text) => Err(ControlError::Refused(text)),
        }
    }

    /// The only reply.
    pub(crate) async fn only<T: DeserializeOwned>(mut self) -> Result<T, ControlError> {
        let answer = timeout(ANSWER, self.next()).await.map_err(|_| ControlError::Silent)?;
        answer?.ok_or(ControlError::Ended)
    }
}

/// A folder's socket under a name that is short enough for a socket, however long the folder's is.
struct Place(File);

impl Place {
    fn open(folder: &Path) -> io::Result<Self> {
        File::open(folder).map(Self)
    }

    fn socket(&self) -> PathBuf {
        format!("/proc/self/fd/{}/{SOCKET}", self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_holds_the_folder_answers_and_nobody_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("long".repeat(60)).join("agent");
        assert!(ask(&path, &1).await.unwrap().is_none());
        let folder = StateFolder::open(&path).unwrap();
        assert!(ask(&path, &1).await.unwrap().is_none());
        let count = |to: u32, replies: Replies| async move {
            for number in 0..to {
                replies.send(&number).await;
            }
        };
        let server = serve(&folder, count).unwrap();
        let mode = fs::metadata(path.join(SOCKET)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut asked = ask(&path, &2).await.unwrap().unwrap();
        assert_eq!(asked.next::<u32>().await.unwrap(), Some(0));
        assert_eq!(asked.next::<u32>().await.unwrap(), Some(1));
        assert_eq!(asked.next::<u32>().await.unwrap(), None);
        let ended = ask(&path, &0).await.unwrap().unwrap().only::<u32>().await;
        assert!(matches!(ended, Err(ControlError::Ended)));
        let refused = ask(&path, &"two").await.unwrap().unwrap().only::<u32>().await;
        assert!(matches!(refused, Err(ControlError::Refused(_))));
        drop(server);
        assert!(ask(&path, &1).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_end() {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join(SOCKET)).unwrap();
        let asked = ask(home.path(), &1).await.unwrap().unwrap();
        // What was asked is not read before the end, which resets the connection.
        drop(listener.accept().await.unwrap());
        let broken = asked.only::<u32>().await;
        assert!(matches!(broken, Err(ControlError::Broken(_))), "{broken:?}");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_nobodys() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(home.path().join(SOCKET)).unwrap());
        assert!(ask(home.path(), &1).await.unwrap().is_none());
        let echo = |number: u32, replies: Replies| async move { replies.send(&number).await };
        let _server = serve(&folder, echo).unwrap();
        let asked = ask(home.path(), &7).await.unwrap().unwrap();
        assert_eq!(asked.only::<u32>().await.unwrap(), 7);
    }
}
