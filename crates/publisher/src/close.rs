//! Closing a job.

use std::{pin::pin, time::Duration};

use roadstead_core::{
    Cursor, JobEvent,
    ports::{Call, ChainError, EventFilter, Party, WriteError},
};
use roadstead_types::{JobId, JobStatus, Terms, Timestamp, TokenAmount};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::Ports;

/// What became of a job that the publisher left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Closed {
    /// It is over, and the rest is credited to the publisher's balance in the escrow.
    Closed {
        /// The job.
        job: JobId,
        /// All that it cost, in token base units.
        paid: TokenAmount,
        /// What came back, in token base units.
        refund: TokenAmount,
    },
    /// The provider did not end it; from `close_at` on anybody can.
    NoticeRuns {
        /// The job.
        job: JobId,
        /// End of the notice, in chain time.
        close_at: Timestamp,
    },
}

/// Why a job was not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// There is no such job.
    #[error("job {job} was never opened")]
    Absent {
        /// Its id.
        job: JobId,
    },
    /// The chain could not be read.
    #[error("the chain could not be read")]
    Read(#[from] ChainError),
    /// A transaction did not take effect.
    #[error("the notice could not be given")]
    Write(#[from] WriteError),
}

/// Gives notice, unless it was given before, and waits up to `patience` for the provider to end the job at once.
/// `from_block` is a block not after the job's opening: the end of the job is looked for from there.
pub async fn close(
    ports: &Ports,
    terms: &Terms,
    from_block: u64,
    patience: Duration,
) -> Result<Closed, CloseError> {
    let job = ports.reader.job_id(terms);
    give_notice(ports, terms, job).await?;
    let party = Party::Publisher(terms.publisher);
    let filter = EventFilter { party, jobs: vec![job] };
    let mut end = pin!(wait_for_end(ports, job, filter, from_block));
    match timeout(patience, &mut end).await {
        Ok(closed) => Ok(closed?),
        Err(_) => match ports.reader.job(job).await? {
            // It is over, only its event is still to be read or to be confirmed.
            state if state.status() == JobStatus::Closed => Ok(end.await?),
            state => Ok(Closed::NoticeRuns { job, close_at: state.close_at }),
        },
    }
}

async fn give_notice(ports: &Ports, terms: &Terms, job: JobId) -> Result<(), CloseError> {
    let status = async || Ok::<_, ChainError>(ports.reader.job(job).await?.status());
    match status().await? {
        JobStatus::Absent => Err(CloseError::Absent { job }),
        JobStatus::Closing | JobStatus::Closed => Ok(()),
        JobStatus::Open => match ports.writer.submit(Call::BeginClose(terms.clone())).await {
            Ok(_) => Ok(()),
            // Somebody else ended the job, or gave notice, in the same moment.
            Err(WriteError::Reverted { .. }) if status().await? != JobStatus::Open => Ok(()),
            Err(error) => Err(error.into()),
        },
    }
}

async fn wait_for_end(
    ports: &Ports,
    job: JobId,
    filter: EventFilter,
    from_block: u64,
) -> Result<Closed, ChainError> {
    let mut cursor = Cursor::starting_at(from_block);
    loop {
        match ports.events.events_after(&cursor, &filter).await {
            Ok(batch) => {
                for event in batch.events {
                    if let (id, JobEvent::Closed { paid, refund }) = event.item
                        && id == job
                    {
                        return Ok(Closed::Closed { job, paid, refund });
                    }
                }
                if batch.cursor != cursor {
                    cursor = batch.cursor;
                    continue;
                }
            }
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error),
        }
        sleep(ports.poll_interval).await;
    }
}
