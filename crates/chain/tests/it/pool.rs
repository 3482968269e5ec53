//! A node with one account that sends: it takes transactions, mines them at the test's word, and can lose or refuse them.

use std::{
    collections::BTreeMap,
    future::{pending, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy::{
    consensus::{Transaction as _, TxEnvelope},
    eips::Decodable2718,
    primitives::{B256, Bytes},
    rpc::{
        client::RpcClient,
        json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload},
    },
    transports::{TransportError, TransportFut},
};
use serde_json::{Value, json, value::RawValue};
use tokio::sync::watch;

/// Handle on the node; clones share its transactions.
#[derive(Clone)]
pub(crate) struct PoolNode(Arc<Mutex<State>>);

struct State {
    /// The nonce after what is mined.
    next: u64,
    waiting: BTreeMap<u64, TxEnvelope>,
    mined: Vec<TxEnvelope>,
    handed_over: Vec<Bytes>,
    refusal: Option<&'static str>,
    base_fee: u128,
    is_silent: bool,
    loses_answers: bool,
    questions: watch::Sender<Vec<String>>,
}

impl PoolNode {
    /// A node that has mined what came before `next`.
    pub(crate) fn new(next: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            next,
            waiting: BTreeMap::new(),
            mined: Vec::new(),
            handed_over: Vec::new(),
            refusal: None,
            base_fee: 1_000,
            is_silent: false,
            loses_answers: false,
            questions: watch::Sender::default(),
        })))
    }

    /// A client of the node.
    pub(crate) fn client(&self) -> RpcClient {
        RpcClient::new(self.clone(), true)
    }

    /// Takes no transaction, for this reason, or takes them again.
    pub(crate) fn refuse(&self, refusal: Option<&'static str>) {
        self.0.lock().unwrap().refusal = refusal;
    }

    /// Takes only what offers so much per unit of gas, and says so when it is asked for fees.
    pub(crate) fn set_base_fee(&self, base_fee: u128) {
        self.0.lock().unwrap().base_fee = base_fee;
    }

    /// Neither takes a transaction nor answers to one, or does again.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.0.lock().unwrap().is_silent = is_silent;
    }

    /// Does what it is asked about single transactions and answers with an error, or answers again.
    pub(crate) fn lose_answers(&self, loses_answers: bool) {
        self.0.lock().unwrap().loses_answers = loses_answers;
    }

    /// Puts what waits into a block, where its nonce is the next one.
    pub(crate) fn mine(&self) {
        let mut state = self.0.lock().unwrap();
        let next = state.next;
        if let Some(form) = state.waiting.remove(&next) {
            state.mined.push(form);
            state.next += 1;
        }
    }

    /// Puts a transaction with the next nonce into a block that nobody here has sent.
    pub(crate) fn use_nonce(&self) {
        let mut state = self.0.lock().unwrap();
        let next = state.next;
        state.waiting.remove(&next);
        state.next += 1;
    }

    /// Forgets what waits.
    pub(crate) fn lose(&self) {
        self.0.lock().unwrap().waiting.clear();
    }

    /// What was handed over and taken so far, in order, whatever became of it.
    pub(crate) fn handed_over(&self) -> Vec<Bytes> {
        self.0.lock().unwrap().handed_over.clone()
    }

    /// The hashes of what is in blocks.
    pub(crate) fn mined(&self) -> Vec<B256> {
        self.0.lock().unwrap().mined.iter().map(|form| *form.tx_hash()).collect()
    }

    /// Waits until a question was asked so many times.
    pub(crate) async fn asked(&self, method: &str, times: usize) {
        let mut questions = self.0.lock().unwrap().questions.subscribe();
        let is_enough =
            |asked: &Vec<String>| asked.iter().filter(|asked| *asked == method).count() >= times;
        questions.wait_for(is_enough).await.unwrap();
    }

    /// How many questions were asked.
    pub(crate) fn questions(&self) -> usize {
        self.0.lock().unwrap().questions.borrow().len()
    }
}

impl State {
    fn answer(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        match method {
            "eth_estimateGas" => Ok(json!("0x5208")),
            "eth_getBalance" => Ok(json!("0xde0b6b3a7640000")),
            "eth_feeHistory" => Ok(json!({
                "oldestBlock": "0x0",
                "baseFeePerGas": [format!("{:#x}", self.base_fee), format!("{:#x}", self.base_fee)],
                "gasUsedRatio": [0.5],
                "reward": [["0x64"]],
            })),
            "eth_getTransactionCount" => Ok(json!(format!("{:#x}", self.count(&parameters[1])))),
            "eth_sendRawTransaction" => self.take(parameters),
            "eth_getTransactionByHash" => Ok(self.transaction(parameters)),
            "eth_getTransactionReceipt" => Ok(self.receipt(parameters)),
            _ => Err(format!("{method} is not known here")),
        }
    }

    fn count(&self, block: &Value) -> u64 {
        let mut next = self.next;
        while block == "pending" && self.waiting.contains_key(&next) {
            next += 1;
        }
        next
    }

    fn take(&mut self, parameters: &Value) -> Result<Value, String> {
        let raw: Bytes = serde_json::from_value(parameters[0].clone()).unwrap();
        let form = TxEnvelope::decode_2718_exact(&raw).unwrap();
        let (hash, nonce) = (*form.tx_hash(), form.nonce());
        if let Some(refusal) = self.refusal {
            return Err(refusal.to_owned());
        }
        if form.max_fee_per_gas() < self.base_fee {
            return Err("max fee per gas less than block base fee".to_owned());
        }
        if nonce < self.next {
            return Err("nonce too low".to_owned());
        }
        match self.waiting.get(&nonce) {
            Some(known) if *known.tx_hash() == hash => return Err("already known".to_owned()),
            Some(known) if known.max_fee_per_gas() >= form.max_fee_per_gas() => {
                return Err("replacement transaction underpriced".to_owned());
            }
            _ => {}
        }
        self.handed_over.push(raw);
        self.waiting.insert(nonce, form);
        Ok(json!(hash))
    }

    fn transaction(&self, parameters: &Value) -> Value {
        let hash: B256 = serde_json::from_value(parameters[0].clone()).unwrap();
        let mut known = self.waiting.values().chain(&self.mined);
        let Some(form) = known.find(|form| *form.tx_hash() == hash) else { return Value::Null };
        let mut transaction = serde_json::to_value(form).unwrap();
        transaction["from"] = json!(alloy::primitives::Address::ZERO);
        transaction
    }

    fn receipt(&self, parameters: &Value) -> Value {
        let hash: B256 = serde_json::from_value(parameters[0].clone()).unwrap();
        if !self.mined.iter().any(|form| *form.tx_hash() == hash) {
            return Value::Null;
        }
        json!({
            "type": "0x2",
            "status": "0x1",
            "cumulativeGasUsed": "0x5208",
            "gasUsed": "0x5208",
            "effectiveGasPrice": "0x1",
            "logsBloom": format!("0x{}", "00".repeat(256)),
            "logs": [],
            "transactionHash": hash,
            "transactionIndex": "0x0",
            "blockHash": B256::repeat_byte(1),
            "blockNumber": "0x1",
            "from": alloy::primitives::Address::ZERO,
            "to": alloy::primitives::Address::ZERO,
            "contractAddress": null,
        })
    }
}

impl tower::Service<RequestPacket> for PoolNode {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let RequestPacket::Single(request) = packet else { unreachable!("no batches are sent") };
        let mut state = self.0.lock().unwrap();
        state.questions.send_modify(|asked| asked.push(request.method().to_owned()));
        if state.is_silent && request.method() == "eth_sendRawTransaction" {
            return Box::pin(pending());
        }
        let parameters = request.params().map_or("null", RawValue::get);
        let parameters = serde_json::from_str(parameters).unwrap();
        let mut answer = state.answer(request.method(), &parameters);
        let counts = request.method() == "eth_getTransactionCount";
        if state.loses_answers && request.method().contains("Transaction") && !counts {
            answer = Err("too busy".to_owned());
        }
        let payload = match answer {
            Ok(answer) => {
                let answer = RawValue::from_string(answer.to_string()).unwrap();
                ResponsePayload::Success(answer)
            }
            Err(message) => ResponsePayload::Failure(ErrorPayload {
                code: -32_000,
                message: message.into(),
                data: None,
            }),
        };
        let response = Response { id: request.id().clone(), payload };
        Box::pin(ready(Ok(ResponsePacket::Single(response))))
    }
}
