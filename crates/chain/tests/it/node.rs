//! A node that holds headers and logs only, and whose chain is replaced at the test's word.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy::{
    primitives::{Address, B256, LogData, keccak256},
    rpc::{
        client::RpcClient,
        json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload},
        types::{Block, Filter, Header, Log},
    },
    transports::{TransportError, TransportFut},
};
use serde_json::{Value, json, value::RawValue};

/// Handle on the node; clones share its chain.
#[derive(Clone, Default)]
pub(crate) struct Node(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    blocks: Vec<FakeBlock>,
    questions: Vec<String>,
    is_down: bool,
    ignores_parties: bool,
    log_lag: usize,
    largest_range: Option<u64>,
    surprise: Option<(usize, Surprise)>,
}

type Surprise = Box<dyn FnOnce(&Node) + Send>;

#[derive(Clone)]
struct FakeBlock {
    hash: B256,
    parent: B256,
    logs: Vec<(Address, LogData)>,
}

impl Node {
    /// A client of the node.
    pub(crate) fn client(&self) -> RpcClient {
        RpcClient::new(self.clone(), true)
    }

    /// Adds a block on the branch `fork`.
    pub(crate) fn mine(&self, fork: u8, logs: Vec<(Address, LogData)>) {
        let blocks = &mut self.0.lock().unwrap().blocks;
        let parent = blocks.last().map_or(B256::ZERO, |block| block.hash);
        // As everywhere, a hash stands for the parent and for all that is in the block.
        let hash = keccak256(format!("{parent} {fork} {logs:?}"));
        blocks.push(FakeBlock { hash, parent, logs });
    }

    /// Drops the newest blocks, but for the first.
    pub(crate) fn undo(&self, count: usize) {
        let blocks = &mut self.0.lock().unwrap().blocks;
        let keep = blocks.len().saturating_sub(count).max(1);
        blocks.truncate(keep);
    }

    /// Forgets everything and begins another life, with another first block.
    pub(crate) fn restart(&self) {
        self.0.lock().unwrap().blocks.clear();
    }

    /// Hash of block 0.
    pub(crate) fn genesis(&self) -> B256 {
        self.0.lock().unwrap().blocks[0].hash
    }

    /// Lets something happen once this many more questions were answered.
    pub(crate) fn after_questions(
        &self,
        count: usize,
        surprise: impl FnOnce(&Self) + Send + 'static,
    ) {
        let mut state = self.0.lock().unwrap();
        let due = state.questions.len() + count;
        state.surprise = Some((due, Box::new(surprise)));
    }

    /// Forgets what was to happen.
    pub(crate) fn stand_still(&self) {
        self.0.lock().unwrap().surprise = None;
    }

    /// Searches for logs without the newest blocks, as another node behind the same address would.
    pub(crate) fn set_log_lag(&self, blocks: usize) {
        self.0.lock().unwrap().log_lag = blocks;
    }

    /// Refuses to search more blocks at once.
    pub(crate) fn limit_range(&self, blocks: u64) {
        self.0.lock().unwrap().largest_range = Some(blocks);
    }

    /// Answers with the logs of everybody, not only of those who were named.
    pub(crate) fn ignore_parties(&self) {
        self.0.lock().unwrap().ignores_parties = true;
    }

    /// Height of the newest block.
    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().blocks.len()).unwrap() - 1
    }

    /// Makes every question fail, or work again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// How many questions of a kind were asked so far.
    pub(crate) fn asked(&self, method: &str) -> usize {
        self.0.lock().unwrap().questions.iter().filter(|asked| *asked == method).count()
    }
}

impl Node {
    fn surprise(&self) {
        let mut state = self.0.lock().unwrap();
        let asked = state.questions.len();
        let surprise = state.surprise.take_if(|(due, _)| asked >= *due);
        drop(state);
        if let Some((_, surprise)) = surprise {
            surprise(self);
        }
    }
}

impl State {
    fn answer(&self, method: &str, parameters: &Value) -> Option<Value> {
        match method {
            "eth_chainId" => Some(json!("0x7a69")),
            "eth_getBlockByNumber" => {
                let number = match parameters[0].as_str()? {
                    "latest" => self.blocks.len() - 1,
                    "earliest" => 0,
                    hex => usize::from_str_radix(hex.strip_prefix("0x")?, 16).ok()?,
                };
                Some(self.header(number))
            }
            "eth_getBlockByHash" => {
                let hash: B256 = serde_json::from_value(parameters[0].clone()).ok()?;
                let number = self.blocks.iter().position(|block| block.hash == hash)?;
                Some(self.header(number))
            }
            "eth_getLogs" => {
                let filter: Filter = serde_json::from_value(parameters[0].clone()).ok()?;
                serde_json::to_value(self.logs(&filter)?).ok()
            }
            _ => None,
        }
    }

    fn header(&self, number: usize) -> Value {
        let Some(block) = self.blocks.get(number) else { return Value::Null };
        let number = u64::try_from(number).unwrap();
        let inner = alloy::consensus::Header {
            parent_hash: block.parent,
            number,
            timestamp: timestamp(number),
            ..Default::default()
        };
        let header = Header { hash: block.hash, inner, total_difficulty: None, size: None };
        serde_json::to_value(Block::<B256>::empty(header)).unwrap()
    }

    fn logs(&self, filter: &Filter) -> Option<Vec<Log>> {
        let known = &self.blocks[..self.blocks.len() - self.log_lag];
        let (from, to) = match filter.get_block_hash() {
            Some(hash) => {
                let number = known.iter().position(|block| block.hash == hash)?;
                let number = u64::try_from(number).unwrap();
                (number, number)
            }
            None => (filter.get_from_block()?, filter.get_to_block()?),
        };
        if self.largest_range.is_some_and(|largest| to - from >= largest) {
            return None;
        }
        let mut filter = filter.clone();
        if self.ignores_parties {
            filter.topics[1..].fill_with(Default::default);
        }
        let mut found = Vec::new();
        for (number, block) in (0u64..).zip(known) {
            for (index, (address, data)) in (0u64..).zip(&block.logs) {
                let is_wanted =
                    filter.matches_address(*address) && filter.matches_topics(data.topics());
                if is_wanted && (from..=to).contains(&number) {
                    found.push(Log {
                        inner: alloy::primitives::Log { address: *address, data: data.clone() },
                        block_hash: Some(block.hash),
                        block_number: Some(number),
                        log_index: Some(index),
                        // Every other block leaves out the time, as many nodes do.
                        block_timestamp: number.is_multiple_of(2).then(|| timestamp(number)),
                        ..Default::default()
                    });
                }
            }
        }
        Some(found)
    }
}

/// Time of a block of that height.
pub(crate) fn timestamp(number: u64) -> u64 {
    1_800_000_000 + number
}

impl tower::Service<RequestPacket> for Node {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let RequestPacket::Single(request) = packet else { unreachable!("no batches are sent") };
        self.surprise();
        let mut state = self.0.lock().unwrap();
        state.questions.push(request.method().to_owned());
        let parameters = request.params().map_or("null", RawValue::get);
        let parameters = serde_json::from_str(parameters).unwrap();
        let answer = state.answer(request.method(), &parameters).filter(|_| !state.is_down);
        let payload = match answer {
            Some(answer) => {
                let answer = RawValue::from_string(json!(answer).to_string()).unwrap();
                ResponsePayload::Success(answer)
            }
            None => ResponsePayload::Failure(ErrorPayload::internal_error()),
        };
        let response = Response { id: request.id().clone(), payload };
        Box::pin(ready(Ok(ResponsePacket::Single(response))))
    }
}
