//! The provider's side: accounts of jobs with the receipts that they made, and orders that were taken.

use alloy_primitives::B256;
use roadstead_core::JobAccount;
use roadstead_types::{JobId, SignedReceipt};
use rusqlite::Transaction;

use crate::{
    journal::{Journal, JournalError, Problem},
    receipts::keep,
    row::{self, Row, to_document},
};

const ACCOUNTS: &str = "accounts";
const ORDERS: &str = "orders";

/// The most orders that are kept of one job: whoever may give them could fill the disk otherwise.
const MAX_ORDERS: u32 = 256;

impl Journal {
    /// Every account, by job.
    pub async fn accounts(&self) -> Result<Vec<(JobId, JobAccount)>, JournalError> {
        self.read("reading the accounts", |connection| {
            let mut statement =
                connection.prepare("SELECT job, account FROM accounts ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut accounts = Vec::new();
            while let Some(found) = rows.next()? {
                let job = row::job(ACCOUNTS, found.get_ref(0)?)?;
                let row = Row::of(ACCOUNTS, job);
                let account: JobAccount = row.document(found.get_ref(1)?)?;
                if account.job() != job {
                    return Err(row.damaged("it is about another job").into());
                }
                accounts.push((job, account));
            }
            Ok(accounts)
        })
        .await
    }

    /// Saves an account together with the receipt that it made. Where another receipt has its number, nothing is written.
    pub async fn save_account(
        &self,
        job: JobId,
        account: &JobAccount,
        receipt: Option<&SignedReceipt>,
    ) -> Result<(), JournalError> {
        self.restore_account(job, account, receipt.map_or(&[], std::slice::from_ref)).await
    }

    /// Saves an account together with receipts that came from elsewhere. Where another receipt has the number of one of
    /// them, nothing is written.
    pub async fn restore_account(
        &self,
        job: JobId,
        account: &JobAccount,
        receipts: &[SignedReceipt],
    ) -> Result<(), JournalError> {
        let (account, receipts) = (account.clone(), receipts.to_vec());
        self.write("saving an account", move |transaction| {
            for receipt in &receipts {
                keep(transaction, job, receipt)?;
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO accounts (job, account) VALUES (?1, ?2)")?
                .execute((job.0.as_slice(), to_document(&account)?))?;
            Ok(())
        })
        .await
    }

    /// Takes an order; whether it is the first time that it came.
    pub async fn take_order(&self, job: JobId, id: B256) -> Result<bool, JournalError> {
        self.write("taking an order", move |transaction| {
            let is_new = transaction
                .prepare_cached(
                    "INSERT INTO orders (job, id) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                )?
                .execute((job.0.as_slice(), id.as_slice()))?
                == 1;
            if is_new && count_orders(transaction, job)? > MAX_ORDERS {
                return Err(JournalError::TooManyOrders { job }.into());
            }
            Ok(is_new)
        })
        .await
    }

    /// The jobs that an order was taken for, by id, each once.
    pub async fn ordered(&self) -> Result<Vec<JobId>, JournalError> {
        self.read("reading the orders", |connection| {
            let mut statement =
                connection.prepare("SELECT DISTINCT job FROM orders ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut jobs = Vec::new();
            while let Some(found) = rows.next()? {
                jobs.push(row::job(ORDERS, found.get_ref(0)?)?);
            }
            Ok(jobs)
        })
        .await
    }
}

fn count_orders(transaction: &Transaction<'_>, job: JobId) -> Result<u32, Problem> {
    let mut statement = transaction.prepare_cached("SELECT count(*) FROM orders WHERE job = ?1")?;
    Ok(statement.query_row((job.0.as_slice(),), |row| row.get(0))?)
}
