//! Closing a job.
//!
//! ```text
//!  open ── order ──> taken ── the provider settles and closes ──> closed
//!    │                 │ 60 s                                        ^
//!    └── not taken ────┴── notice ── the provider ───────────────────┤
//!                          └─ over ── finalized by whoever calls ───┘
//! ```
//!
//! Nothing is durable here but what is on chain: called again, it goes on from there.

use std::time::Duration;

use roadstead_core::ports::{Call, ChainError, WriteError};
use roadstead_types::{JobId, JobStatus, Terms, Timestamp, TokenAmount};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::{
    NoticeReason, Ports,
    history::{End, History},
    order::order_close,
};

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
        /// How it came to its end.
        how: Ending,
    },
    /// The provider did not end it; from `close_at` on anybody can, by closing it again.
    NoticeRuns {
        /// The job.
        job: JobId,
        /// End of the notice, in chain time.
        close_at: Timestamp,
    },
}

/// How a job came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The provider ended it by itself: it was ordered to, or gave the job back.
    Order,
    /// After notice was given on chain.
    Notice,
}

/// What happens while a job is closed.
#[derive(Debug)]
pub enum CloseEvent {
    /// The provider took the order.
    Ordered,
    /// Notice was given on chain instead.
    NoticeGiven {
        /// Why the order did not do.
        why: NoticeReason,
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
    /// It is over, and only the event that says so cannot be read.
    #[error(
        "job {job} is closed at the cost of {paid} token units, and the rest is in the publisher's balance, but how it \
         ended cannot be read from the chain"
    )]
    Unread {
        /// Its id.
        job: JobId,
        /// All that it cost.
        paid: TokenAmount,
        /// What the chain said last, where it said anything.
        source: Option<ChainError>,
    },
    /// A transaction did not take effect.
    #[error("the notice could not be given")]
    Write(#[from] WriteError),
    /// Likewise, at the end of the notice.
    #[error("the notice is over, and the job could not be ended")]
    Finalize(#[source] WriteError),
}

/// How long the event is looked for of a job that is over: until it is confirmed.
const CONFIRMATION: Duration = Duration::from_secs(300);

/// Orders the provider to close the job. Where that does not do within [`crate::ORDER_PATIENCE`], gives notice, unless
/// it was given before, and waits up to `patience` more for the end. A job whose notice is over is ended here.
/// `from_block` is a block not after the job's opening: the end of the job is looked for from there.
pub async fn close(
    ports: &Ports,
    terms: &Terms,
    from_block: u64,
    patience: Duration,
    report: impl Fn(CloseEvent),
) -> Result<Closed, CloseError> {
    let job = ports.reader.job_id(terms);
    let mut watch = Watch { ports, job, terms, from_block, trouble: None, history: None };
    let state = ports.reader.job(job).await?;
    match state.status() {
        JobStatus::Absent => return Err(CloseError::Absent { job }),
        JobStatus::Open => {
            let ordering = order_close(ports, terms, job, || report(CloseEvent::Ordered));
            let why = tokio::select! {
                // Cancel-safe: an order that was sent may be sent again, and what was read is kept outside.
                why = ordering => why,
                closed = watch.end() => return Ok(closed),
            };
            if give_notice(ports, terms, job).await? {
                report(CloseEvent::NoticeGiven { why });
            }
        }
        JobStatus::Closing => finalize(ports, terms, job, state.close_at).await?,
        JobStatus::Closed => {}
    }
    if let Ok(closed) = timeout(patience, watch.end()).await {
        return Ok(closed);
    }
    let state = ports.reader.job(job).await?;
    if state.status() != JobStatus::Closed {
        return Ok(Closed::NoticeRuns { job, close_at: state.close_at });
    }
    // It is over, only its event is still to be read or to be confirmed.
    let closed = timeout(CONFIRMATION, watch.end()).await;
    closed.map_err(|_| CloseError::Unread { job, paid: state.paid, source: watch.trouble })
}

/// Whether the notice is this one.
async fn give_notice(ports: &Ports, terms: &Terms, job: JobId) -> Result<bool, CloseError> {
    let status = async || Ok::<_, ChainError>(ports.reader.job(job).await?.status());
    match status().await? {
        JobStatus::Absent => Err(CloseError::Absent { job }),
        JobStatus::Closing | JobStatus::Closed => Ok(false),
        JobStatus::Open => match ports.writer.submit(Call::BeginClose(terms.clone())).await {
            Ok(_) => Ok(true),
            // Somebody else ended the job, or gave notice, in the same moment.
            Err(WriteError::Reverted { .. }) if status().await? != JobStatus::Open => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}

/// Ends a job whose notice is over; nothing where it is not.
async fn finalize(
    ports: &Ports,
    terms: &Terms,
    job: JobId,
    close_at: Timestamp,
) -> Result<(), CloseError> {
    if ports.reader.head().await?.timestamp < close_at {
        return Ok(());
    }
    match ports.writer.submit(Call::Finalize(terms.clone())).await {
        Ok(_) => Ok(()),
        // Somebody else ended the job in the same moment.
        Err(WriteError::Reverted { .. })
            if ports.reader.job(job).await?.status() == JobStatus::Closed =>
        {
            Ok(())
        }
        Err(error) => Err(CloseError::Finalize(error)),
    }
}

/// Looks for the event that ends a job.
struct Watch<'a> {
    ports: &'a Ports,
    job: JobId,
    terms: &'a Terms,
    from_block: u64,
    history: Option<History>,
    /// Why nothing could be read the last time.
    trouble: Option<ChainError>,
}

impl Watch<'_> {
    /// Waits for the end, whatever the chain says meanwhile: nothing else must depend on whether events can be read. May
    /// be dropped at any time; it goes on from there.
    async fn end(&mut self) -> Closed {
        let job = self.job;
        loop {
            let fresh = || History::new(job, self.terms, self.from_block);
            let history = self.history.get_or_insert_with(fresh);
            match history.read(&*self.ports.events).await {
                Ok(told) => {
                    self.trouble = None;
                    let now = history.told();
                    if let Some(End { paid, refund }) = now.end {
                        let how = if now.was_noticed { Ending::Notice } else { Ending::Order };
                        return Closed::Closed { job, paid, refund, how };
                    }
                    if told.is_some() {
                        continue;
                    }
                }
                Err(error) => {
                    if !error.is_retryable() {
                        // What was read so far leads nowhere.
                        self.history = None;
                    }
                    self.trouble = Some(error);
                }
            }
            sleep(self.ports.poll_interval).await;
        }
    }
}
