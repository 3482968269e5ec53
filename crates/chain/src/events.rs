//! Events of jobs, in order and returned with their cursor, on a chain that may be reorganised.
//!
//! Subscriptions are not used: a dropped one loses events without a word. Each poll
//!
//! 1. asks for the head, and stops short of it by the market's confirmations;
//! 2. compares the newest block the cursor remembers with the chain. Where they differ, it walks the trail back to a
//!    block that both have; what was read after that is reported as undone;
//! 3. reads the logs of at most [`MAX_BLOCKS`] blocks, and remembers the last of them with its hash.
//!
//! Step 3 may see a reorganisation half done. That heals itself: a block hash commits to all before it, so the
//! remembered one no longer fits at the next poll, and what was read with it is undone and read again.

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
    ports::{ChainError, ChainEvents, EventFilter, Party},
};
use roadstead_types::{JobId, Timestamp};

use crate::{
    connection::{malformed, rpc},
    decode,
    market::MarketClient,
};

/// How many blocks are read at once: public nodes limit the range of a question.
pub(crate) const MAX_BLOCKS: u64 = 1_000;

/// How many jobs are named in one question: public nodes limit the length of a list.
const MAX_JOBS: usize = 256;

#[async_trait]
impl ChainEvents for MarketClient {
    async fn events_after(
        &self,
        cursor: &Cursor,
        filter: &EventFilter,
    ) -> Result<EventBatch, ChainError> {
        let head = self.connection().head().await?.block;
        let unchanged = |cursor| EventBatch { undone_from: None, events: Vec::new(), cursor };
        if cursor.trail.last().is_some_and(|last| head.number < last.number) {
            // A node that lags behind, or a shorter chain that is still to grow: neither undoes anything yet.
            return Ok(unchanged(cursor.clone()));
        }
        let (cursor, undone_from) = self.rewind(cursor.clone(), head).await?;
        let unchanged = EventBatch { undone_from, ..unchanged(cursor) };

        let Some(confirmed) = head.number.checked_sub(self.market().confirmations) else {
            return Ok(unchanged);
        };
        let from = unchanged.cursor.next;
        let to = confirmed.min(from.saturating_add(MAX_BLOCKS - 1));
        if to < from {
            return Ok(unchanged);
        }
        let Some(last) = self.connection().block(BlockNumberOrTag::Number(to)).await? else {
            return Ok(unchanged);
        };
        let events = self.read(from, to, filter).await?;
        let cursor = unchanged.cursor.advanced_to(last.block);
        Ok(EventBatch { undone_from, events, cursor })
    }
}

impl MarketClient {
    /// Takes back what the chain no longer has.
    async fn rewind(
        &self,
        mut cursor: Cursor,
        head: BlockRef,
    ) -> Result<(Cursor, Option<u64>), ChainError> {
        let is_whole = cursor.is_whole();
        let oldest = cursor.trail.first().map(|block| block.number);
        let mut undone_from = None;
        while let Some(last) = cursor.trail.last().copied() {
            if last == head || self.holds(last).await? {
                break;
            }
            cursor.trail.pop();
            let next = match (cursor.trail.last(), oldest) {
                (Some(ancestor), _) => ancestor.number + 1,
                (None, _) if is_whole => self.market().from_block,
                (None, oldest) => {
                    let oldest = oldest.unwrap_or_default();
                    return Err(ChainError::ReorganisedTooDeep { oldest });
                }
            };
            cursor.next = next;
            undone_from = Some(next);
        }
        Ok((cursor, undone_from))
    }

    async fn holds(&self, block: BlockRef) -> Result<bool, ChainError> {
        let found = self.connection().block(BlockNumberOrTag::Number(block.number)).await?;
        Ok(found.is_some_and(|found| found.block == block))
    }

    async fn read(
        &self,
        from: u64,
        to: u64,
        filter: &EventFilter,
    ) -> Result<Vec<Located<(JobId, JobEvent)>>, ChainError> {
        let range =
            Filter::new().address(self.market().contracts.payment).from_block(from).to_block(to);
        let openings = range.clone().event_signature(Payment::Opened::SIGNATURE_HASH);
        let openings = match filter.party {
            Party::Provider(account) => openings.topic1(account.into_word()),
            Party::Publisher(account) => openings.topic2(account.into_word()),
            Party::Signer(account) => openings.topic3(account.into_word()),
        };
        let mut found = Vec::new();
        let mut jobs = filter.jobs.clone();
        for log in self.logs(&openings, from, to).await? {
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
            for log in self.logs(&changes, from, to).await? {
                let event = decode::change(&log)?;
                found.push((log, event));
            }
        }
        self.locate(found).await
    }

    async fn logs(&self, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let logs = self.connection().provider().get_logs(filter).await;
        let logs = logs.map_err(rpc("eth_getLogs"))?;
        for log in &logs {
            let (block, _) = decode::place(log)?;
            if block.number < from || block.number > to {
                return Err(malformed("eth_getLogs", "a log lies outside the range asked for"));
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
        let method = "eth_getBlockByHash";
        let found = self.connection().provider().get_block_by_hash(block.hash).await;
        match found.map_err(rpc(method))? {
            Some(found) => Ok(Timestamp::from_block(found.header.timestamp)),
            None => Err(malformed(method, format!("block {} is gone", block.hash))),
        }
    }
}
