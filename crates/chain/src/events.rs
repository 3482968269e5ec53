//! Events of jobs, in order and returned with their cursor, on a chain that may be reorganised.
//!
//! Subscriptions are not used: a dropped one loses events without a word. Each poll
//!
//! 1. asks for the head, and stops short of it by the market's confirmations;
//! 2. compares the newest block the cursor remembers with the chain. Where they differ, it walks the trail back to a
//!    block that both have; what was read after that is reported as undone;
//! 3. reads the logs of at most [`MAX_BLOCKS`] blocks, of fewer where the node refuses so many, and remembers the last
//!    of them with its hash.
//!
//! The questions of one poll must see one chain. A single block, which is what a client that keeps up reads, is asked
//! for by its hash, so a node that does not have it cannot answer as if it were empty. After a longer range its last
//! block is asked for once more, and the poll is repeated where it changed. What remains is a set of nodes behind one
//! address that lag behind each other by whole ranges: against that there are confirmations.

use std::collections::HashMap;

use alloy::{
    eips::BlockNumberOrTag,
    primitives::B256,
    providers::Provider,
    rpc::types::{Filter, Log},
    sol_types::SolEvent,
};
use async_trait::async_trait;
use roadstead_abi::Payment;
use roadstead_core::{
    BlockRef, Cursor, EventBatch, JobEvent, Located,
    ports::{ChainError, ChainEvents, EventFilter, Head, Party},
};
use roadstead_types::{JobId, Timestamp};

use crate::{
    connection::{malformed, rpc},
    decode,
    market::MarketClient,
};

const GET_LOGS: &str = "eth_getLogs";

/// How many blocks are read at once: public nodes limit the range of a question.
const MAX_BLOCKS: u64 = 1_000;

/// How many jobs are named in one question: public nodes limit the length of a list.
const MAX_JOBS: usize = 256;

#[async_trait]
impl ChainEvents for MarketClient {
    async fn events_after(
        &self,
        cursor: &Cursor,
        filter: &EventFilter,
    ) -> Result<EventBatch, ChainError> {
        let Head { block: head, timestamp } = self.connection().head().await?;
        let unchanged = EventBatch {
            undone_from: None,
            events: Vec::new(),
            cursor: cursor.clone(),
            head: timestamp,
        };
        if cursor.last().is_some_and(|last| head.number < last.number) {
            // A node that lags behind, or a shorter chain that is still to grow: neither undoes anything yet.
            return Ok(unchanged);
        }
        let (cursor, undone_from) = self.rewind(cursor.clone(), head).await?;
        let unchanged = EventBatch { undone_from, cursor, ..unchanged };

        let Some(confirmed) = head.number.checked_sub(self.market().confirmations) else {
            return Ok(unchanged);
        };
        let from = unchanged.cursor.next();
        let mut to = confirmed.min(from.saturating_add(MAX_BLOCKS - 1));
        if to < from {
            return Ok(unchanged);
        }
        loop {
            match self.read(from, to, head, filter).await {
                Ok((last, events)) => {
                    let cursor = unchanged.cursor.advanced_to(last);
                    return Ok(EventBatch { undone_from, events, cursor, head: timestamp });
                }
                // Nodes limit the blocks or the logs of one answer, each in its own words.
                Err(ChainError::Rpc { operation: GET_LOGS, .. }) if to > from => {
                    to = from + (to - from) / 2;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl MarketClient {
    /// Takes back what the chain no longer has.
    async fn rewind(
        &self,
        mut cursor: Cursor,
        head: BlockRef,
    ) -> Result<(Cursor, Option<u64>), ChainError> {
        let horizon = cursor.horizon();
        let mut undone_from = None;
        while let Some(last) = cursor.last() {
            if last == head || self.block_at(last.number).await? == last {
                break;
            }
            cursor = cursor.rewound().ok_or(ChainError::ReorganisedTooDeep { horizon })?;
            undone_from = Some(cursor.next());
        }
        if undone_from.is_some() && cursor.last().is_none() {
            // Nothing that was read is left: is it still the same chain?
            self.connection().check(self.market()).await?;
        }
        Ok((cursor, undone_from))
    }

    async fn block_at(&self, number: u64) -> Result<BlockRef, ChainError> {
        let operation = "eth_getBlockByNumber";
        match self.connection().block(BlockNumberOrTag::Number(number)).await? {
            Some(found) if found.block.number == number => Ok(found.block),
            Some(_) => Err(malformed(operation, "it is another block")),
            None => Err(ChainError::Moved { operation }),
        }
    }

    /// Reads all blocks from `from` to `to`, which is at most the head, and says which block `to` was.
    async fn read(
        &self,
        from: u64,
        to: u64,
        head: BlockRef,
        filter: &EventFilter,
    ) -> Result<(BlockRef, Vec<Located<(JobId, JobEvent)>>), ChainError> {
        let last = if to == head.number { head } else { self.block_at(to).await? };
        let range = Filter::new().address(self.market().contracts.payment);
        let range = if from == to {
            range.at_block_hash(last.hash)
        } else {
            range.from_block(from).to_block(to)
        };
        let openings = range.clone().event_signature(Payment::Opened::SIGNATURE_HASH);
        let openings = match filter.party {
            Party::Provider(account) => openings.topic1(account.into_word()),
            Party::Publisher(account) => openings.topic2(account.into_word()),
            Party::Signer(account) => openings.topic3(account.into_word()),
        };
        let mut found = Vec::new();
        let mut jobs = filter.jobs.clone();
        for log in self.logs(&openings, from, last).await? {
            let event = decode::opening(self.market(), &log)?;
            jobs.push(event.0);
            found.push((log, event));
        }
        jobs.sort_unstable();
        jobs.dedup();
        for some in jobs.chunks(MAX_JOBS) {
            let changes = range
                .clone()
                .event_signature(decode::JOB_EVENTS.to_vec())
                .topic1(some.iter().map(|job| job.0).collect::<Vec<B256>>());
            for log in self.logs(&changes, from, last).await? {
                let event = decode::change(&log)?;
                found.push((log, event));
            }
        }
        if from < to && self.block_at(to).await? != last {
            return Err(ChainError::Moved { operation: GET_LOGS });
        }
        Ok((last, self.locate(found).await?))
    }

    /// Asks for logs, and believes only those that were asked for.
    async fn logs(
        &self,
        filter: &Filter,
        from: u64,
        last: BlockRef,
    ) -> Result<Vec<Log>, ChainError> {
        let logs = self.connection().provider().get_logs(filter).await;
        let logs = logs.map_err(rpc(GET_LOGS))?;
        for log in &logs {
            let (block, _) = decode::place(log)?;
            if block.number == last.number && block.hash != last.hash {
                return Err(ChainError::Moved { operation: GET_LOGS });
            }
            let is_wanted = (from..=last.number).contains(&block.number)
                && filter.matches_address(log.address())
                && filter.matches_topics(log.topics());
            if !is_wanted {
                return Err(malformed(GET_LOGS, "a log was not asked for"));
            }
        }
        Ok(logs)
    }

    /// Puts events into the order of the chain and adds the time of their blocks.
    async fn locate(
        &self,
        found: Vec<(Log, (JobId, JobEvent))>,
    ) -> Result<Vec<Located<(JobId, JobEvent)>>, ChainError> {
        let mut times: HashMap<B256, Timestamp> = HashMap::new();
        let mut events = Vec::with_capacity(found.len());
        for (log, item) in found {
            let (block, log_index) = decode::place(&log)?;
            let timestamp = match (log.block_timestamp, times.get(&block.hash)) {
                (Some(seconds), _) => Timestamp::from_block(seconds),
                (None, Some(known)) => *known,
                (None, None) => self.time_of(block).await?,
            };
            times.insert(block.hash, timestamp);
            events.push(Located { block, timestamp, log_index, item });
        }
        events.sort_by_key(|event| (event.block.number, event.log_index));
        Ok(events)
    }

    async fn time_of(&self, block: BlockRef) -> Result<Timestamp, ChainError> {
        let operation = "eth_getBlockByHash";
        let found = self.connection().provider().get_block_by_hash(block.hash).await;
        match found.map_err(rpc(operation))? {
            Some(found) => Ok(Timestamp::from_block(found.header.timestamp)),
            None => Err(ChainError::Moved { operation }),
        }
    }
}
