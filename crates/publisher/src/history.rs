//! What the chain's events tell of one job of the publisher.
//!
//! Nothing of it is durable: the events are read again from the block where the caller begins.

use roadstead_core::{
    Cursor, JobEvent,
    ports::{ChainError, ChainEvents, EventFilter, Party},
};
use roadstead_types::{JobId, Terms, Timestamp, TokenAmount};

/// One job, as far as its events were read.
pub(crate) struct History {
    job: JobId,
    filter: EventFilter,
    start: Cursor,
    cursor: Cursor,
    told: Told,
}

/// What was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// The time of the opening.
    pub(crate) opened_at: Option<Timestamp>,
    /// Whether notice was given.
    pub(crate) was_noticed: bool,
    /// How it ended.
    pub(crate) end: Option<End>,
}

/// The end of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    /// All that was paid.
    pub(crate) paid: TokenAmount,
    /// What came back: with what was paid, all that was ever put in.
    pub(crate) refund: TokenAmount,
}

impl History {
    /// Of a job that was opened not before `from_block`.
    pub(crate) fn new(job: JobId, terms: &Terms, from_block: u64) -> Self {
        let party = Party::Publisher(terms.publisher);
        let start = Cursor::starting_at(from_block);
        let filter = EventFilter { party, jobs: vec![job] };
        Self { job, filter, cursor: start.clone(), start, told: Told::default() }
    }

    /// Reads one batch. `None` where there was nothing more to read.
    pub(crate) async fn read(
        &mut self,
        events: &dyn ChainEvents,
    ) -> Result<Option<Told>, ChainError> {
        let batch = events.events_after(&self.cursor, &self.filter).await?;
        if batch.undone_from.is_some() {
            // What was undone may have been told before: it is read anew, without it.
            self.cursor = self.start.clone();
            self.told = Told::default();
            return Ok(Some(self.told));
        }
        for event in batch.events {
            if event.item.0 != self.job {
                continue;
            }
            match event.item.1 {
                JobEvent::Opened(_) => self.told.opened_at = Some(event.timestamp),
                JobEvent::Closing { .. } => self.told.was_noticed = true,
                JobEvent::Closed { paid, refund } => self.told.end = Some(End { paid, refund }),
                JobEvent::ToppedUp { .. }
                | JobEvent::StartFeePaid { .. }
                | JobEvent::Settled { .. } => {}
            }
        }
        let has_more = batch.cursor != self.cursor;
        self.cursor = batch.cursor;
        Ok(has_more.then_some(self.told))
    }

    /// All that was told so far.
    pub(crate) const fn told(&self) -> Told {
        self.told
    }
}
