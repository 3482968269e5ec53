//! The journal of one role: what outlives its process, in one SQLite database with one writer.
//!
//! ```text
//!  begun ── waits for its turn ──> runs on a blocking thread ── commit, synced ──> returned
//!    │                                   │
//!    └─ dropped: nothing happens         └─ dropped: it ends all the same, before the next one runs
//! ```
//!
//! Each method is one transaction. A crash loses the one that runs, whole; what was returned is on disk. Methods take
//! their turns in the order in which they were first polled, so what is saved later is never overwritten by what was
//! saved earlier.

use std::{
    error::Error,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::{Address, B256};
use roadstead_types::{JobId, Market};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{
    folder::{FolderError, StateFolder},
    schema,
};

const FILE: &str = "journal.sqlite";

/// What of a journal is not in its file yet.
pub(crate) const LOG: &str = "journal.sqlite-wal";

/// The journal of a role. Clones share its one connection. Its folder stays locked while it lives.
#[derive(Clone, Debug)]
pub struct Journal {
    path: Arc<Path>,
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    /// Nobody else gets the folder before the last transaction has ended.
    _lock: File,
}

/// What a journal is about. With another market the same numbers would mean something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalBinding {
    /// EIP-155 id of the chain.
    pub chain: u64,
    /// Hash of block 0.
    pub genesis: B256,
    /// The payment contract.
    pub contract: Address,
}

impl From<&Market> for JournalBinding {
    fn from(market: &Market) -> Self {
        Self { chain: market.chain_id, genesis: market.genesis, contract: market.contracts.payment }
    }
}

/// Why a journal cannot be used, or did not keep something.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Its file cannot be used.
    #[error("the journal's file cannot be used")]
    Folder(#[from] FolderError),
    /// A later version of the program wrote it.
    #[error("{} has version {found} of the journal, this build knows {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that can be read.
        known: i64,
    },
    /// Another program wrote it.
    #[error("{} is a database, but no journal", path.display())]
    NoJournal {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot do what a write-ahead log takes.
    #[error("{} cannot have a write-ahead log; is it on a network file system?", path.display())]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is about another market.
    #[error("{} belongs to {what} {found}, the market file says {expected}", path.display())]
    AnotherMarket {
        /// The file.
        path: PathBuf,
        /// What differs: chain or contract.
        what: &'static str,
        /// What the journal says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// It is about an earlier development chain, for example.
    #[error(
        "{} belongs to another life of the chain: it began with block {found}, the chain of the market file begins with \
         {expected}; reset the state folder of this role, or use another one",
        path.display()
    )]
    AnotherLife {
        /// The file.
        path: PathBuf,
        /// Hash of block 0 that the journal says.
        found: B256,
        /// What was expected.
        expected: B256,
    },
    /// A row holds something else than it should.
    #[error("the journal's table `{table}` is damaged at {key}")]
    DamagedRow {
        /// The table.
        table: &'static str,
        /// Which row, by its job where it has one.
        key: String,
        /// What is wrong.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is another receipt with this number; nothing was written. A number is signed once.
    #[error("receipt {seq} of job {job} is kept with other bytes; a number is signed once")]
    Signed {
        /// The job.
        job: JobId,
        /// The number.
        seq: u32,
    },
    /// A receipt of another job than the one that it is kept for; nothing was written.
    #[error("a receipt of job {found} cannot be kept for job {job}")]
    ForeignReceipt {
        /// For which job.
        job: JobId,
        /// Of which job it is.
        found: JobId,
    },
    /// More orders than any job needs; nothing was written.
    #[error("job {job} was given too many orders")]
    TooManyOrders {
        /// The job.
        job: JobId,
    },
    /// Something that has no written form; nothing was written.
    #[error("a record has no written form")]
    Unwritable(#[source] Box<dyn Error + Send + Sync>),
    /// The database, or the disk below it, said no; nothing was written.
    #[error("{operation} failed")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// What ends the work on the connection.
pub(crate) enum Problem {
    Database(rusqlite::Error),
    Journal(JournalError),
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl Problem {
    fn during(self, operation: &'static str, path: &Path) -> JournalError {
        match self {
            Self::Journal(error) => error,
            Self::Database(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    JournalError::Damaged { path: path.to_owned(), source: error.into() }
                }
                _ => JournalError::Failed { operation, source: error.into() },
            },
        }
    }
}

impl Journal {
    /// Opens the journal of a folder, which is made where there is none. Reads the whole file once, to find damage before
    /// anything is built on it.
    pub fn open(folder: &StateFolder, binding: &JournalBinding) -> Result<Self, JournalError> {
        let lock = folder.share_lock()?;
        let failed = |path: &Path, error: Problem| error.during("opening the journal", path);
        let path = folder.private_file(FILE, |path| {
            let log = folder.path().join(LOG);
            if log.exists() {
                let source = "its database is gone".into();
                return Err(JournalError::Damaged { path: log, source });
            }
            schema::create(path, binding).map_err(|error| failed(path, error))
        })?;
        let connection = schema::open(&path, binding).map_err(|error| failed(&path, error))?;
        let path = path.into();
        Ok(Self { path, writer: Arc::new(Mutex::new(Writer { connection, _lock: lock })) })
    }

    /// Whether the folder has a journal.
    pub fn exists(folder: &StateFolder) -> bool {
        folder.path().join(FILE).exists()
    }

    /// Removes the journal of a folder, whatever market it is about. Returns whether there was one. No journal of the
    /// folder may be open. After a crash in between, the same call removes the rest.
    pub fn remove(folder: &StateFolder) -> Result<bool, FolderError> {
        Ok(folder.remove_all(FILE)? > 0)
    }

    /// Does something that only reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.run(operation, move |connection| work(connection)).await
    }

    /// Does something that is kept whole or not at all.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, JournalError> {
        let whole = |connection: &mut Connection| {
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        self.run(operation, whole).await
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, JournalError> {
        // The turn goes along to the thread: whoever waits for it no longer is not waited for.
        let mut turn = Arc::clone(&self.writer).lock_owned().await;
        let done = spawn_blocking(move || work(&mut turn.connection)).await;
        let done =
            done.map_err(|error| JournalError::Failed { operation, source: error.into() })?;
        done.map_err(|error| error.during(operation, &self.path))
    }
}
