//! The agent's side: jobs that are followed with the receipts that were accepted, and evidence.

use roadstead_abi::receipt_root;
use roadstead_core::Follower;
use roadstead_types::{JobId, SignedReceipt};

use crate::{
    journal::{Journal, JournalError},
    receipts::{check_owner, keep, read},
    row::{self, Row, to_document},
};

const TABLE: &str = "followers";

/// So many receipts prove that a number was signed more than once. Whoever does that could go on for ever.
const PROOF: u32 = 2;

impl Journal {
    /// Every job that is followed, by id.
    pub async fn followers(&self) -> Result<Vec<(JobId, Follower)>, JournalError> {
        self.read("reading the followed jobs", |connection| {
            let mut statement =
                connection.prepare("SELECT job, follower FROM followers ORDER BY job")?;
            let mut rows = statement.query(())?;
            let mut followers = Vec::new();
            while let Some(found) = rows.next()? {
                let job = row::job(TABLE, found.get_ref(0)?)?;
                let row = Row::of(TABLE, job);
                let follower: Follower = row.document(found.get_ref(1)?)?;
                if follower.job() != job {
                    return Err(row.damaged("it is about another job").into());
                }
                followers.push((job, follower));
            }
            Ok(followers)
        })
        .await
    }

    /// Saves a job that is followed together with a receipt that was accepted. Where another receipt has its number,
    /// nothing is written.
    pub async fn save_follower(
        &self,
        job: JobId,
        follower: &Follower,
        receipt: Option<&SignedReceipt>,
    ) -> Result<(), JournalError> {
        let (follower, receipt) = (follower.clone(), receipt.copied());
        self.write("saving a followed job", move |transaction| {
            if let Some(receipt) = &receipt {
                keep(transaction, job, receipt)?;
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO followers (job, follower) VALUES (?1, ?2)")?
                .execute((job.0.as_slice(), to_document(&follower)?))?;
            Ok(())
        })
        .await
    }

    /// Keeps for ever receipts that should not exist beside each other. Of each number as many are kept as prove that it
    /// was signed more than once.
    pub async fn keep_evidence(
        &self,
        job: JobId,
        receipts: &[SignedReceipt],
    ) -> Result<(), JournalError> {
        let receipts = receipts.to_vec();
        self.write("keeping evidence", move |transaction| {
            for signed in &receipts {
                check_owner(job, signed)?;
                let (seq, root) = (signed.receipt.seq, receipt_root(&signed.receipt));
                transaction
                    .prepare_cached(
                        "INSERT INTO evidence (job, seq, root, receipt) SELECT ?1, ?2, ?3, ?4
                         WHERE (SELECT count(*) FROM evidence WHERE job = ?1 AND seq = ?2) < ?5
                         ON CONFLICT DO NOTHING",
                    )?
                    .execute((
                        job.0.as_slice(),
                        seq,
                        root.as_slice(),
                        to_document(signed)?,
                        PROOF,
                    ))?;
            }
            Ok(())
        })
        .await
    }

    /// The evidence about a job, by number.
    pub async fn evidence(&self, job: JobId) -> Result<Vec<SignedReceipt>, JournalError> {
        self.read("reading evidence", move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, root, receipt FROM evidence WHERE job = ?1 ORDER BY seq, root",
            )?;
            read("evidence", job, statement.query((job.0.as_slice(),))?)
        })
        .await
    }
}
