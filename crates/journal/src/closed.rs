//! The provider's side: jobs that are over for good, kept for those who ask for their receipts, and then forgotten.
//!
//! Forgetting goes in steps, because a job may have receipts for years and others wait for the journal meanwhile. The newest
//! receipts go first and the job's own row last: after a crash in between, what is left is a whole beginning, and the
//! next step goes on with it.

use roadstead_core::{ClosedJob, JobRecord};
use roadstead_types::{JobId, JobStatus, Timestamp};
use rusqlite::{OptionalExtension, Transaction};

use crate::{
    journal::{Journal, JournalError, Problem},
    row::{self, Row, to_document},
};

const TABLE: &str = "closed";

/// After so many rows a step ends.
const STEP: usize = 1_024;

impl Journal {
    /// Every job that is over for good and not forgotten yet, by id.
    pub async fn closed(&self) -> Result<Vec<ClosedJob>, JournalError> {
        self.read("reading the closed jobs", |connection| {
            let mut statement =
                connection.prepare("SELECT job, closed_at, record FROM closed ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut closed = Vec::new();
            while let Some(found) = rows.next()? {
                let job = row::job(TABLE, found.get_ref(0)?)?;
                let row = Row::of(TABLE, job);
                let closed_at = row.sound(found.get_ref(1)?.as_i64())?;
                let closed_at = Timestamp(row.sound(u32::try_from(closed_at))?);
                let record: JobRecord = row.document(found.get_ref(2)?)?;
                if record.job().status() != JobStatus::Closed {
                    return Err(row.damaged("it is not over").into());
                }
                closed.push(ClosedJob { job, record, closed_at });
            }
            Ok(closed)
        })
        .await
    }

    /// Takes one step to forget the jobs that closed before `time`, with their accounts, receipts and orders. Whether there
    /// is more to forget.
    pub async fn forget_closed_before(&self, time: Timestamp) -> Result<bool, JournalError> {
        self.write("forgetting closed jobs", move |transaction| {
            let mut room = STEP;
            while let Some(job) = oldest(transaction, time)? {
                room = room.saturating_sub(forget(transaction, job, room)?);
                if room == 0 {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

/// Keeps a job that is over for good.
pub(crate) fn keep(transaction: &Transaction<'_>, closed: &ClosedJob) -> Result<(), Problem> {
    let ClosedJob { job, record, closed_at } = closed;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO closed (job, closed_at, record) VALUES (?1, ?2, ?3)",
        )?
        .execute((job.0.as_slice(), closed_at.0, to_document(record)?))?;
    Ok(())
}

fn oldest(transaction: &Transaction<'_>, time: Timestamp) -> Result<Option<JobId>, Problem> {
    let mut statement = transaction
        .prepare_cached("SELECT job FROM closed WHERE closed_at < ?1 ORDER BY closed_at LIMIT 1")?;
    let found = statement.query_row((time.0,), |found| Ok(row::job(TABLE, found.get_ref(0)?)));
    Ok(found.optional()?.transpose()?)
}

/// Deletes at most `room` receipts of a job and, where there are no more, the job. How many rows went.
fn forget(transaction: &Transaction<'_>, job: JobId, room: usize) -> Result<usize, Problem> {
    let id = job.0.as_slice();
    let mut gone = transaction
        .prepare_cached(
            "DELETE FROM receipts WHERE job = ?1 AND seq IN
             (SELECT seq FROM receipts WHERE job = ?1 ORDER BY seq DESC LIMIT ?2)",
        )?
        .execute((id, i64::try_from(room).unwrap_or(i64::MAX)))?;
    if gone < room {
        for delete in [
            "DELETE FROM orders WHERE job = ?1",
            "DELETE FROM accounts WHERE job = ?1",
            "DELETE FROM closed WHERE job = ?1",
        ] {
            gone += transaction.prepare_cached(delete)?.execute((id,))?;
        }
    }
    Ok(gone)
}
