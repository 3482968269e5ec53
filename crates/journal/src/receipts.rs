//! Receipts of both sides, by number and by root. A number is kept once.

use alloy_primitives::B256;
use roadstead_abi::receipt_root;
use roadstead_types::{JobId, SignedReceipt};
use rusqlite::{Rows, Transaction};

use crate::{
    journal::{Journal, JournalError, Problem},
    row::{self, Row, to_document},
};

const TABLE: &str = "receipts";

impl Journal {
    /// Receipts of a job in order, from a number on, at most `max`.
    pub async fn receipts(
        &self,
        job: JobId,
        from_seq: u32,
        max: usize,
    ) -> Result<Vec<SignedReceipt>, JournalError> {
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        self.read("reading receipts", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, root, receipt FROM receipts WHERE job = ?1 AND seq >= ?2
                 ORDER BY seq LIMIT ?3",
            )?;
            read(TABLE, job, statement.query((job.0.as_slice(), from_seq, max))?)
        })
        .await
    }

    /// The receipt with a number.
    pub async fn receipt(
        &self,
        job: JobId,
        seq: u32,
    ) -> Result<Option<SignedReceipt>, JournalError> {
        let found = self.receipts(job, seq, 1).await?;
        Ok(found.into_iter().find(|signed| signed.receipt.seq == seq))
    }

    /// The receipt with a struct hash, which is how a bill names it.
    pub async fn receipt_by_root(
        &self,
        job: JobId,
        root: B256,
    ) -> Result<Option<SignedReceipt>, JournalError> {
        let found = self.read("reading a receipt", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, root, receipt FROM receipts WHERE job = ?1 AND root = ?2 LIMIT 1",
            )?;
            read(TABLE, job, statement.query((job.0.as_slice(), root.as_slice()))?)
        });
        Ok(found.await?.pop())
    }
}

/// Keeps a receipt of `job`. The same again changes nothing; another one with its number is an error.
pub(crate) fn keep(
    transaction: &Transaction<'_>,
    job: JobId,
    signed: &SignedReceipt,
) -> Result<(), Problem> {
    check_owner(job, signed)?;
    let (seq, root) = (signed.receipt.seq, receipt_root(&signed.receipt));
    let is_new = transaction
        .prepare_cached(
            "INSERT INTO receipts (job, seq, root, receipt) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )?
        .execute((job.0.as_slice(), seq, root.as_slice(), to_document(signed)?))?
        == 1;
    if is_new {
        return Ok(());
    }
    let mut statement = transaction
        .prepare_cached("SELECT seq, root, receipt FROM receipts WHERE job = ?1 AND seq = ?2")?;
    let kept = read(TABLE, job, statement.query((job.0.as_slice(), seq))?)?;
    if kept == [*signed] { Ok(()) } else { Err(JournalError::Signed { job, seq }.into()) }
}

pub(crate) fn check_owner(job: JobId, signed: &SignedReceipt) -> Result<(), JournalError> {
    let found = signed.receipt.job;
    if found == job { Ok(()) } else { Err(JournalError::ForeignReceipt { job, found }) }
}

/// The receipts of a job in rows of number, root and document.
pub(crate) fn read(
    table: &'static str,
    job: JobId,
    mut rows: Rows<'_>,
) -> Result<Vec<SignedReceipt>, Problem> {
    let row = Row::of(table, job);
    let mut receipts = Vec::new();
    while let Some(found) = rows.next()? {
        let seq = row.sound(found.get_ref(0)?.as_i64())?;
        let root = row.sound(row::id::<32>(found.get_ref(1)?))?;
        let signed: SignedReceipt = row.document(found.get_ref(2)?)?;
        let receipt = &signed.receipt;
        if receipt.job != job || i64::from(receipt.seq) != seq || receipt_root(receipt) != root {
            return Err(row.damaged("a receipt differs from its key").into());
        }
        receipts.push(signed);
    }
    Ok(receipts)
}
