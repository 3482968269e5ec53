//! The tables of a journal, and what a file must be to count as one.
//!
//! Ids are blobs, what is a document is JSON, and what is looked up by stands in a column, so that a journal can be
//! read with `sqlite3` alone. A journal is made beside its place, so that a file without one was never a crash's: a
//! journal that vanished must not be begun anew, or numbers would be signed twice.

use std::{fs, path::Path, time::Duration};

use alloy_primitives::{Address, B256};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::{
    journal::{JournalBinding, JournalError, LOG, Problem},
    row::{self, Row},
};

/// The version that this build reads and writes.
const VERSION: i64 = 1;

/// Marks a database as a journal: "RdJl".
const APPLICATION: i64 = 0x5264_4a6c;

/// Bytes of a page.
const PAGE: u64 = 4_096;

/// How long a transaction waits for somebody who looks into the file with another program.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        chain TEXT NOT NULL,
        genesis BLOB NOT NULL,
        contract BLOB NOT NULL,
        born_in INTEGER
    ) STRICT;

    CREATE TABLE cursor (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        cursor TEXT NOT NULL
    ) STRICT;
    CREATE TABLE jobs (
        job BLOB PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE closed (
        job BLOB PRIMARY KEY,
        closed_at INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX closed_by_time ON closed (closed_at);

    CREATE TABLE accounts (
        job BLOB PRIMARY KEY,
        account TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE followers (
        job BLOB PRIMARY KEY,
        follower TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE plans (
        job BLOB PRIMARY KEY,
        plan TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE receipts (
        job BLOB NOT NULL,
        seq INTEGER NOT NULL,
        root BLOB NOT NULL,
        receipt TEXT NOT NULL,
        PRIMARY KEY (job, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX receipts_by_root ON receipts (job, root);
    CREATE TABLE evidence (
        job BLOB NOT NULL,
        seq INTEGER NOT NULL,
        root BLOB NOT NULL,
        receipt TEXT NOT NULL,
        PRIMARY KEY (job, seq, root)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE orders (
        job BLOB NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (job, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE intents (
        position INTEGER PRIMARY KEY,
        account BLOB NOT NULL,
        nonce INTEGER NOT NULL,
        call TEXT NOT NULL,
        hash BLOB NOT NULL,
        raw BLOB NOT NULL,
        UNIQUE (account, hash)
    ) STRICT;
    CREATE INDEX intents_by_nonce ON intents (account, nonce, position);
";

/// Writes a journal without records into an empty file.
pub(crate) fn create(path: &Path, binding: &JournalBinding) -> Result<(), Problem> {
    let mut connection = connect(path)?;
    // The file has its name only once it is whole, so there is nothing to go back to.
    connection.pragma_update(None, "page_size", PAGE.cast_signed())?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO meta (id, chain, genesis, contract) VALUES (0, ?1, ?2, ?3)",
        (binding.chain.to_string(), binding.genesis.as_slice(), binding.contract.as_slice()),
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// A connection to the whole journal of `binding`. Nothing is written before the file is known to be a journal: it may be
/// somebody's database.
pub(crate) fn open(path: &Path, binding: &JournalBinding) -> Result<Connection, Problem> {
    let damaged = |found: &str| {
        Problem::from(JournalError::Damaged { path: path.to_owned(), source: found.into() })
    };
    // The database takes what is missing of a page for zeros. Only where a log is left it may be being written.
    let is_torn = fs::metadata(path).is_ok_and(|found| !found.len().is_multiple_of(PAGE));
    if is_torn && !path.with_file_name(LOG).exists() {
        return Err(damaged("it ends within a page"));
    }
    let connection = connect(path)?;
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    match (number("application_id")?, number("user_version")?) {
        (APPLICATION, VERSION) => {}
        (APPLICATION, found) if found > VERSION => {
            let path = path.to_owned();
            return Err(JournalError::Newer { path, found, known: VERSION }.into());
        }
        // Of a file with less than a page the database sees nothing.
        (0, 0) if number("schema_version")? == 0 => return Err(damaged("it is empty")),
        _ => return Err(JournalError::NoJournal { path: path.to_owned() }.into()),
    }
    // Reads every page: what is found damaged later is found when half of a job's work is done.
    let checked = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0));
    let found: String = checked?;
    if found != "ok" {
        return Err(damaged(&found));
    }
    check_binding(&connection, path, binding)?;
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    if mode != "wal" {
        return Err(JournalError::NoLog { path: path.to_owned() }.into());
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What a schema that was tampered with calls must not do more than SQL does.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, Problem> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn check_binding(
    connection: &Connection,
    path: &Path,
    binding: &JournalBinding,
) -> Result<(), Problem> {
    let meta = Row::only("meta");
    let read = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get_ref(0)?.as_str().map(str::to_owned),
            row::id::<32>(row.get_ref(1)?),
            row::id::<20>(row.get_ref(2)?),
        ))
    };
    let found = connection
        .query_row("SELECT chain, genesis, contract FROM meta", (), read)
        .optional()?
        .ok_or_else(|| meta.damaged("it is missing"))?;
    let chain: u64 = meta.sound(meta.sound(found.0)?.parse())?;
    let genesis = B256::from(meta.sound(found.1)?);
    let contract = Address::from(meta.sound(found.2)?);
    let another = |what, found: String, expected: String| {
        Err(JournalError::AnotherMarket { path: path.to_owned(), what, found, expected }.into())
    };
    if chain != binding.chain {
        return another("chain", chain.to_string(), binding.chain.to_string());
    }
    if genesis != binding.genesis {
        let (path, expected) = (path.to_owned(), binding.genesis);
        return Err(JournalError::AnotherLife { path, found: genesis, expected }.into());
    }
    if contract != binding.contract {
        return another("contract", contract.to_string(), binding.contract.to_string());
    }
    Ok(())
}
