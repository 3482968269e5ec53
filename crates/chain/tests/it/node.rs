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
    down: bool,
}

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
        let hash = keccak256([parent.as_slice(), &[fork]].concat());
        blocks.push(FakeBlock { hash, parent, logs });
    }

    /// Drops the newest blocks, but for the first.
    pub(crate) fn undo(&self, count: usize) {
        let blocks = &mut self.0.lock().unwrap().blocks;
        let keep = blocks.len().saturating_sub(count).max(1);
        blocks.truncate(keep);
    }

    /// Height of the newest block.
    pub(crate) fn height(&self) -> u64 {
        u64::try_from(self.0.lock().unwrap().blocks.len()).unwrap() - 1
    }

    /// Makes every question fail, or work again.
    pub(crate) fn set_down(&self, down: bool) {
        self.0.lock().unwrap().down = down;
    }

    /// How many questions of a kind were asked so far.
    pub(crate) fn asked(&self, method: &str) -> usize {
        self.0.lock().unwrap().questions.iter().filter(|asked| *asked == method).count()
    }
}

impl State {
    fn answer(&self, method: &str, parameters: &Value) -> Option<Value> {
        match method {
            "eth_getBlockByNumber" => {
                let number = match parameters[0].as_str()? {
                    "latest" => self.blocks.len() - 1,
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
                serde_json::to_value(self.logs(&filter)).ok()
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

    fn logs(&self, filter: &Filter) -> Vec<Log> {
        let (from, to) = (filter.get_from_block().unwrap(), filter.get_to_block().unwrap());
        let mut found = Vec::new();
        for (number, block) in (0u64..).zip(&self.blocks) {
            for (index, (address, data)) in (0u64..).zip(&block.logs) {
                let is_wanted = (from..=to).contains(&number)
                    && filter.matches_address(*address)
                    && filter.matches_topics(data.topics());
                if is_wanted {
                    found.push(Log {
                        inner: alloy::primitives::Log { address: *address, data: data.clone() },
                        block_hash: Some(block.hash),
                        block_number: Some(number),
                        log_index: Some(index),
                        // Every other block leaves out the time, as many nodes do.
                        block_timestamp: (number % 2 == 0).then(|| timestamp(number)),
                        ..Default::default()
                    });
                }
            }
        }
        found
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
        let mut state = self.0.lock().unwrap();
        state.questions.push(request.method().to_owned());
        let parameters = request.params().map_or("null", RawValue::get);
        let parameters = serde_json::from_str(parameters).unwrap();
        let answer = state.answer(request.method(), &parameters).filter(|_| !state.down);
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
