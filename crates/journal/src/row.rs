//! Values between the tables and the words of the market. What is read back is checked: a file is a stranger's input.

use std::{error::Error, fmt::Display};

use alloy_primitives::hex;
use roadstead_types::JobId;
use rusqlite::types::ValueRef;
use serde::{Serialize, de::DeserializeOwned};

use crate::journal::{JournalError, Problem};

type Source = Box<dyn Error + Send + Sync>;

/// Names a row in what is said about it.
pub(crate) struct Row {
    table: &'static str,
    key: String,
}

/// A column that holds something else than it should.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Misfit(&'static str);

impl Row {
    /// The row of a job.
    pub(crate) fn of(table: &'static str, job: JobId) -> Self {
        Self { table, key: format!("job {job}") }
    }

    /// The row of something else.
    pub(crate) fn keyed(table: &'static str, key: impl Display) -> Self {
        Self { table, key: key.to_string() }
    }

    /// The one row of a table that has one.
    pub(crate) fn only(table: &'static str) -> Self {
        Self { table, key: "the only row".to_owned() }
    }

    /// What was found, or that the row is damaged.
    pub(crate) fn sound<T, E: Into<Source>>(&self, found: Result<T, E>) -> Result<T, JournalError> {
        found.map_err(|error| self.damaged(error))
    }

    pub(crate) fn damaged(&self, source: impl Into<Source>) -> JournalError {
        let (table, key) = (self.table, self.key.clone());
        JournalError::DamagedRow { table, key, source: source.into() }
    }

    /// A document of the row.
    pub(crate) fn document<T: DeserializeOwned>(
        &self,
        text: ValueRef<'_>,
    ) -> Result<T, JournalError> {
        self.sound(serde_json::from_str(self.sound(text.as_str())?))
    }
}

/// A document as it is kept.
pub(crate) fn to_document<T: Serialize>(value: &T) -> Result<String, Problem> {
    Ok(serde_json::to_string(value).map_err(|error| JournalError::Unwritable(error.into()))?)
}

/// Bytes of an id.
pub(crate) fn id<const N: usize>(value: ValueRef<'_>) -> Result<[u8; N], Source> {
    let bytes = value.as_blob()?;
    Ok(bytes.try_into().map_err(|_| Misfit("an id of another length"))?)
}

/// The job that a row of `table` is about.
pub(crate) fn job(table: &'static str, value: ValueRef<'_>) -> Result<JobId, JournalError> {
    let shown = || value.as_blob().map_or_else(|_| "no bytes".to_owned(), hex::encode_prefixed);
    let row = || Row::keyed(table, format_args!("job {}", shown()));
    id::<32>(value).map(|id| JobId(id.into())).map_err(|error| row().damaged(error))
}
