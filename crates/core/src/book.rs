//! The jobs that a client follows, folded from events, with what it takes to undo them.
//!
//! Owns nothing durable: after a crash the same events, read again from the cursor's start, make the same book.

use std::collections::BTreeMap;

use roadstead_types::{Job, JobId, JobStatus, Terms, Timestamp, TokenAmount};

use crate::{
    duty::{Duty, duty_of},
    event::{BlockRef, Cursor, EventBatch, JobEvent, Located, Opening},
};

/// The jobs of one client.
#[derive(Debug, Default)]
pub struct JobBook {
    jobs: BTreeMap<JobId, JobRecord>,
    read_up_to: u64,
}

/// One job as the events tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    opening: Opening,
    history: Vec<Located<JobEvent>>,
    job: Job,
    acted_in: Option<u64>,
}

impl JobRecord {
    /// What both sides agreed on.
    pub const fn terms(&self) -> &Terms {
        &self.opening.terms
    }

    /// Where the bundle may be found: a stranger's hint.
    pub fn source(&self) -> &[u8] {
        &self.opening.source
    }

    /// The state of the escrow's slot after the events so far.
    pub const fn job(&self) -> Job {
        self.job
    }

    /// The block that opened it.
    pub fn opened_in(&self) -> BlockRef {
        self.history[0].block
    }

    fn push(&mut self, event: Located<JobEvent>) {
        let is_new = self.history.last().is_none_or(|last| {
            (last.block.number, last.log_index) < (event.block.number, event.log_index)
        });
        if is_new {
            fold(&mut self.job, &event);
            self.history.push(event);
        }
    }

    fn undo_from(&mut self, block: u64) {
        self.history.retain(|event| event.block.number < block);
        self.job = Job::default();
        for event in &self.history {
            fold(&mut self.job, event);
        }
        if self.acted_in.is_some_and(|acted_in| acted_in >= block) {
            self.acted_in = None;
        }
    }
}

impl JobBook {
    /// Takes in a batch. A batch, or an event, that comes twice changes nothing the second time.
    pub fn apply(&mut self, batch: EventBatch) {
        if let Some(block) = batch.undone_from {
            for record in self.jobs.values_mut() {
                record.undo_from(block);
            }
            self.jobs.retain(|_, record| !record.history.is_empty());
        }
        for event in batch.events {
            let Located { block, timestamp, log_index, item: (id, item) } = event;
            if let JobEvent::Opened(opening) = &item {
                self.jobs.entry(id).or_insert_with(|| JobRecord {
                    opening: (**opening).clone(),
                    history: Vec::new(),
                    job: Job::default(),
                    acted_in: None,
                });
            }
            if let Some(record) = self.jobs.get_mut(&id) {
                record.push(Located { block, timestamp, log_index, item });
            }
        }
        self.read_up_to = batch.cursor.next;
    }

    /// Every job, by id.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs.iter().map(|(id, record)| (*id, record))
    }

    /// The jobs whose events can still matter, by id: those that are not closed, and those whose last event a
    /// reorganisation that `cursor` would notice can still undo.
    pub fn followed(&self, cursor: &Cursor) -> Vec<JobId> {
        let can_change = |record: &JobRecord| {
            record.job.status() != JobStatus::Closed
                || record.history.last().is_some_and(|last| cursor.remembers(last.block.number))
        };
        self.jobs().filter(|(_, record)| can_change(record)).map(|(id, _)| id).collect()
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id)
    }

    /// What the provider should send now. A job is left out while the effect of the last transaction has not been
    /// read yet.
    pub fn duties(&self) -> Vec<(JobId, Duty)> {
        self.jobs()
            .filter(|(_, record)| record.acted_in.is_none_or(|block| block < self.read_up_to))
            .filter_map(|(id, record)| Some((id, duty_of(record.terms(), &record.job)?)))
            .collect()
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
