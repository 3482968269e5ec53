//! Transactions that were signed and whose fate is not known yet.

use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use roadstead_core::ports::{Intent, IntentError, Intents};

use crate::{
    journal::{Journal, JournalError, Problem},
    row::{self, Row},
};

const TABLE: &str = "intents";

impl From<JournalError> for IntentError {
    fn from(error: JournalError) -> Self {
        Self(error.into())
    }
}

#[async_trait]
impl Intents for Journal {
    async fn intend(&self, intent: &Intent) -> Result<(), IntentError> {
        let intent = intent.clone();
        let kept = self.write("writing down a transaction", move |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO intents (account, nonce, call, hash, raw)
                     VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
                )?
                .execute((
                    intent.account.as_slice(),
                    number(intent.nonce)?,
                    &intent.call,
                    intent.transaction.as_slice(),
                    intent.raw.as_ref(),
                ))?;
            Ok(())
        });
        Ok(kept.await?)
    }

    async fn done(&self, account: Address, nonce: u64) -> Result<(), IntentError> {
        let forgotten = self.write("forgetting a transaction", move |transaction| {
            transaction
                .prepare_cached("DELETE FROM intents WHERE account = ?1 AND nonce = ?2")?
                .execute((account.as_slice(), number(nonce)?))?;
            Ok(())
        });
        Ok(forgotten.await?)
    }

    async fn pending(&self, account: Address) -> Result<Vec<Intent>, IntentError> {
        let pending = self.read("reading the transactions that are under way", move |connection| {
            let row = Row::keyed(TABLE, format_args!("account {account}"));
            let mut statement = connection.prepare_cached(
                "SELECT nonce, call, hash, raw FROM intents WHERE account = ?1
                 ORDER BY nonce, position",
            )?;
            let mut rows = statement.query((account.as_slice(),))?;
            let mut pending = Vec::new();
            while let Some(found) = rows.next()? {
                pending.push(Intent {
                    account,
                    nonce: row.sound(u64::try_from(row.sound(found.get_ref(0)?.as_i64())?))?,
                    call: row.sound(found.get_ref(1)?.as_str())?.to_owned(),
                    transaction: row.sound(row::id::<32>(found.get_ref(2)?))?.into(),
                    raw: Bytes::copy_from_slice(row.sound(found.get_ref(3)?.as_blob())?),
                });
            }
            Ok(pending)
        });
        Ok(pending.await?)
    }
}

/// A nonce as a column holds it. No account ever gets to the numbers beyond.
fn number(nonce: u64) -> Result<i64, Problem> {
    Ok(i64::try_from(nonce).map_err(|error| JournalError::Unwritable(error.into()))?)
}
