//! What a follower of events knows: how far it has read, and the jobs.

use roadstead_core::{ClosedJob, Cursor, JobBook, JobRecord};
use roadstead_types::{JobId, JobPlan};
use rusqlite::OptionalExtension;

use crate::{
    closed::keep,
    journal::{Journal, JournalError},
    row::{self, Row, to_document},
};

const CURSOR: &str = "cursor";
const JOBS: &str = "jobs";
const PLANS: &str = "plans";

impl Journal {
    /// The book that was saved last, with its cursor; `None` where none was.
    pub async fn book(&self) -> Result<Option<(Cursor, JobBook)>, JournalError> {
        self.read("reading the jobs", |connection| {
            let read = |found: &rusqlite::Row<'_>| {
                Ok(Row::only(CURSOR).document::<Cursor>(found.get_ref(0)?))
            };
            let cursor = connection.query_row("SELECT cursor FROM cursor", (), read);
            let Some(cursor) = cursor.optional()?.transpose()? else { return Ok(None) };
            let mut statement = connection.prepare("SELECT job, record FROM jobs ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut records = Vec::new();
            while let Some(found) = rows.next()? {
                let job = row::job(JOBS, found.get_ref(0)?)?;
                let record: JobRecord = Row::of(JOBS, job).document(found.get_ref(1)?)?;
                records.push((job, record));
            }
            let book = JobBook::restored(records, &cursor);
            Ok(Some((cursor, book)))
        })
        .await
    }

    /// Saves how far was read together with what changed by it; a job without a record leaves the book. Of those that are
    /// `closed`, what they were is kept until it is forgotten.
    pub async fn save_book(
        &self,
        cursor: &Cursor,
        changed: Vec<(JobId, Option<JobRecord>)>,
        closed: &[ClosedJob],
    ) -> Result<(), JournalError> {
        let (cursor, closed) = (cursor.clone(), closed.to_vec());
        self.write("saving the jobs", move |transaction| {
            for (job, record) in &changed {
                let id = job.0.as_slice();
                match record {
                    Some(record) => transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO jobs (job, record) VALUES (?1, ?2)",
                        )?
                        .execute((id, to_document(record)?))?,
                    None => transaction
                        .prepare_cached("DELETE FROM jobs WHERE job = ?1")?
                        .execute((id,))?,
                };
            }
            for closed in &closed {
                keep(transaction, closed)?;
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO cursor (id, cursor) VALUES (0, ?1)")?
                .execute((to_document(&cursor)?,))?;
            Ok(())
        })
        .await
    }

    /// The block in which the journal was new: the first that was ever named here, which `block` is where none was. What was
    /// signed before it may have been in a journal that is lost.
    pub async fn born_in(&self, block: u64) -> Result<u64, JournalError> {
        self.write("noting the age of the journal", move |transaction| {
            let block = i64::try_from(block).unwrap_or(i64::MAX);
            transaction.execute("UPDATE meta SET born_in = COALESCE(born_in, ?1)", (block,))?;
            let read = |found: &rusqlite::Row<'_>| found.get::<_, i64>(0);
            let first = transaction.query_row("SELECT born_in FROM meta", (), read)?;
            Ok(u64::try_from(first).unwrap_or_default())
        })
        .await
    }

    /// Keeps a job that was prepared, in place of what was kept of it before.
    pub async fn save_plan(&self, plan: &JobPlan) -> Result<(), JournalError> {
        let plan = plan.clone();
        self.write("saving a plan", move |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO plans (job, plan) VALUES (?1, ?2)")?
                .execute((plan.key.job.0.as_slice(), to_document(&plan)?))?;
            Ok(())
        })
        .await
    }

    /// Keeps a job that was prepared where none is kept under its id. Whether the one that is kept is this one.
    pub async fn keep_plan(&self, plan: &JobPlan) -> Result<bool, JournalError> {
        let plan = plan.clone();
        self.write("keeping a plan", move |transaction| {
            let job = plan.key.job;
            let id = job.0.as_slice();
            transaction
                .prepare_cached("INSERT OR IGNORE INTO plans (job, plan) VALUES (?1, ?2)")?
                .execute((id, to_document(&plan)?))?;
            let read = |found: &rusqlite::Row<'_>| {
                Ok(Row::of(PLANS, job).document::<JobPlan>(found.get_ref(0)?))
            };
            let kept =
                transaction.query_row("SELECT plan FROM plans WHERE job = ?1", (id,), read)??;
            Ok(kept == plan)
        })
        .await
    }

    /// Every job that was prepared, by id.
    pub async fn plans(&self) -> Result<Vec<JobPlan>, JournalError> {
        self.read("reading the plans", |connection| {
            let mut statement = connection.prepare("SELECT job, plan FROM plans ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut plans = Vec::new();
            while let Some(found) = rows.next()? {
                let job = row::job(PLANS, found.get_ref(0)?)?;
                let row = Row::of(PLANS, job);
                let plan: JobPlan = row.document(found.get_ref(1)?)?;
                if plan.key.job != job {
                    return Err(row.damaged("it is about another job").into());
                }
                plans.push(plan);
            }
            Ok(plans)
        })
        .await
    }
}
