//! The jobs that a client follows, folded from events, with what it takes to undo them.
//!
//! Owns nothing durable: whoever keeps it writes what a batch changed in one transaction with the batch's cursor. The same
//! events, read again from the cursor's start, make the same book. It is bounded by the jobs that are open and by the
//! events that a reorganisation could still undo: what is over for good is handed out, to be kept elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use roadstead_types::{Job, JobId, JobStatus, Terms, Timestamp, TokenAmount};
use serde::{Deserialize, Serialize};

use crate::event::{BlockRef, Cursor, EventBatch, JobEvent, Located, Opening};

/// The jobs of one client.
#[derive(Debug, Default)]
pub struct JobBook {
    jobs: BTreeMap<JobId, JobRecord>,
    read_up_to: u64,
}

/// What a batch did to a book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BookChanges {
    /// The jobs whose records changed, or went.
    pub changed: BTreeSet<JobId>,
    /// Those of them that went because they are over for good.
    pub closed: Vec<ClosedJob>,
}

/// A job whose close cannot be undone any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedJob {
    /// Its id.
    pub job: JobId,
    /// The last that the events told of it.
    pub record: JobRecord,
    /// The time of the block that closed it.
    pub closed_at: Timestamp,
}

/// One job as the events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRecord {
    terms: Terms,
    source: Vec<u8>,
    opened_in: BlockRef,
    opened_at: Timestamp,
    /// The slot after the events that are final.
    settled: Job,
    /// Events that can still be undone.
    recent: VecDeque<Located<JobEvent>>,
    job: Job,
    #[serde(skip)]
    acted_in: Option<u64>,
}

impl JobRecord {
    fn new(opening: &Opening, opened_in: BlockRef, opened_at: Timestamp) -> Self {
        Self {
            terms: opening.terms.clone(),
            source: opening.source.clone(),
            opened_in,
            opened_at,
            settled: Job::default(),
            recent: VecDeque::new(),
            job: Job::default(),
            acted_in: None,
        }
    }

    /// What both sides agreed on.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Where the bundle may be fetched: a stranger's input of any content.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The state of the escrow's slot after the events so far.
    pub const fn job(&self) -> Job {
        self.job
    }

    /// The block that opened it.
    pub const fn opened_in(&self) -> BlockRef {
        self.opened_in
    }

    /// The time of that block.
    pub const fn opened_at(&self) -> Timestamp {
        self.opened_at
    }

    fn push(&mut self, event: Located<JobEvent>) {
        let is_new = self.recent.back().is_none_or(|last| {
            (last.block.number, last.log_index) < (event.block.number, event.log_index)
        });
        if is_new {
            fold(&mut self.job, &event);
            self.recent.push_back(event);
        }
    }

    fn undo_from(&mut self, block: u64) {
        self.recent.retain(|event| event.block.number < block);
        self.job = self.settled;
        for event in &self.recent {
            fold(&mut self.job, event);
        }
        if self.acted_in.is_some_and(|acted_in| acted_in >= block) {
            self.acted_in = None;
        }
    }

    /// Keeps only the outcome of what cannot be undone any more. When the job was closed, if its close cannot.
    fn settle_before(&mut self, horizon: u64) -> Option<Timestamp> {
        while let Some(event) = self.recent.pop_front_if(|event| event.block.number < horizon) {
            fold(&mut self.settled, &event);
            if self.settled.status() == JobStatus::Closed {
                return Some(event.timestamp);
            }
        }
        None
    }
}

impl JobBook {
    /// Takes in a batch. A batch, or an event, that comes twice changes nothing the second time. A job whose close
    /// cannot be undone any more leaves the book.
    pub fn apply(&mut self, batch: EventBatch) -> BookChanges {
        let mut changed = BTreeSet::new();
        if let Some(block) = batch.undone_from {
            changed.extend(self.jobs.keys());
            self.jobs.retain(|_, record| record.opened_in.number < block);
            for record in self.jobs.values_mut() {
                record.undo_from(block);
            }
        }
        for event in batch.events {
            let Located { block, timestamp, log_index, item: (id, item) } = event;
            changed.insert(id);
            if let JobEvent::Opened(opening) = &item {
                let opened = || JobRecord::new(opening, block, timestamp);
                self.jobs.entry(id).or_insert_with(opened);
            }
            if let Some(record) = self.jobs.get_mut(&id) {
                record.push(Located { block, timestamp, log_index, item });
            }
        }
        let horizon = batch.cursor.horizon();
        let mut closed = Vec::new();
        self.jobs.retain(|job, record| {
            let Some(closed_at) = record.settle_before(horizon) else { return true };
            closed.push(ClosedJob { job: *job, record: record.clone(), closed_at });
            false
        });
        changed.extend(closed.iter().map(|closed| closed.job));
        self.read_up_to = batch.cursor.next();
        BookChanges { changed, closed }
    }

    /// The book that was kept with `cursor`.
    pub fn restored(
        records: impl IntoIterator<Item = (JobId, JobRecord)>,
        cursor: &Cursor,
    ) -> Self {
        Self { jobs: records.into_iter().collect(), read_up_to: cursor.next() }
    }

    /// Every job, by id.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs.iter().map(|(id, record)| (*id, record))
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id)
    }

    /// Whether the effect of the last transaction about the job is still to be read, so that its state may be older
    /// than what was done about it.
    pub fn is_behind(&self, id: JobId) -> bool {
        let acted_in = self.jobs.get(&id).and_then(|record| record.acted_in);
        acted_in.is_some_and(|block| block >= self.read_up_to)
    }

    /// Notes that a transaction about the job was mined, so that it is not sent again before its event was read.
    pub fn acted(&mut self, id: JobId, block: BlockRef) {
        if let Some(record) = self.jobs.get_mut(&id) {
            record.acted_in = Some(block.number);
        }
    }
}

fn fold(job: &mut Job, event: &Located<JobEvent>) {
    match &event.item {
        JobEvent::Opened(opening) => {
            *job = Job {
                deposit: opening.deposit,
                paid: TokenAmount::ZERO,
                paid_until: event.timestamp,
                close_at: Timestamp(0),
            }
        }
        JobEvent::ToppedUp { deposit } => job.deposit = *deposit,
        JobEvent::StartFeePaid { paid } => job.paid = *paid,
        JobEvent::Settled { paid, until } => {
            job.paid = *paid;
            job.paid_until = *until;
        }
        JobEvent::Closing { close_at } => job.close_at = *close_at,
        JobEvent::Closed { paid, .. } => {
            job.paid = *paid;
            job.deposit = *paid;
            job.close_at = Job::CLOSED;
        }
    }
}

#[cfg(test)]
mod tests;
