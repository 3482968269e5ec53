//! A chain in memory: one block for each thing that happens, its head as old as the clock.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use alloy_primitives::{Address, B256, U256, keccak256};
use async_trait::async_trait;
use roadstead_abi::Revert;
use roadstead_core::{
    BlockRef, Cursor, EventBatch, JobEvent, Located, Opening,
    ports::{
        Call, ChainError, ChainEvents, ChainReader, ChainWriter, EventFilter, Head, Mined, Party,
        RegistryEntry, Resumed, WriteError,
    },
};
use roadstead_types::{Domain, Job, JobId, JobStatus, Terms, Timestamp, TokenAmount};
use tokio::time::Instant;

/// The time when a test begins.
pub(crate) const START: Timestamp = Timestamp(1_800_000_000);

pub(crate) struct FakeChain {
    domain: Domain,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blocks: Vec<Block>,
    forks: u8,
    jobs: BTreeMap<JobId, Job>,
    terms: BTreeMap<JobId, Terms>,
    registry: BTreeMap<Address, RegistryEntry>,
    operators: BTreeMap<Address, Address>,
    /// What every wallet holds, and what of it the escrow may pull.
    tokens: TokenAmount,
    allowance: TokenAmount,
    /// Names of the calls that were sent.
    calls: Vec<&'static str>,
    /// Whether somebody else ends a job before whoever wants to.
    is_outrun: bool,
    is_lost: bool,
    /// Whether its events make no sense.
    is_broken: bool,
}

struct Block {
    block: BlockRef,
    timestamp: Timestamp,
    event: (JobId, JobEvent),
    /// The slot of the job before the event.
    before: Job,
}

impl FakeChain {
    pub(crate) fn new(domain: Domain) -> Self {
        Self { domain, begun: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(START.0 + u32::try_from(self.begun.elapsed().as_secs()).unwrap())
    }

    fn mine(&self, job: JobId, event: JobEvent, change: impl FnOnce(&mut Job)) -> BlockRef {
        let timestamp = self.now();
        let mut state = self.state();
        let number = u64::try_from(state.blocks.len()).unwrap();
        let hash = keccak256([&number.to_be_bytes()[..], &[state.forks]].concat());
        let block = BlockRef { number, hash };
        let slot = state.jobs.entry(job).or_default();
        let before = *slot;
        change(slot);
        state.blocks.push(Block { block, timestamp, event: (job, event), before });
        block
    }

    pub(crate) fn open(&self, terms: &Terms, deposit: TokenAmount, opened_at: Timestamp) -> JobId {
        let job = self.job_id(terms);
        let opening = Opening { terms: terms.clone(), deposit, source: Vec::new() };
        self.mine(job, JobEvent::Opened(Box::new(opening)), |slot| {
            *slot = Job { deposit, paid_until: opened_at, ..Job::default() };
        });
        let mut state = self.state();
        state.blocks.last_mut().unwrap().timestamp = opened_at;
        state.terms.insert(job, terms.clone());
        job
    }

    pub(crate) fn top_up(&self, job: JobId, deposit: TokenAmount) {
        self.mine(job, JobEvent::ToppedUp { deposit }, |slot| slot.deposit = deposit);
    }

    fn pay_in(&self, job: JobId, amount: TokenAmount) -> BlockRef {
        let deposit = {
            let mut state = self.state();
            assert!(state.allowance >= amount && state.tokens >= amount, "the token reverts");
            state.allowance = state.allowance.saturating_sub(amount);
            state.tokens = state.tokens.saturating_sub(amount);
            state.jobs[&job].deposit.checked_add(amount).unwrap()
        };
        self.mine(job, JobEvent::ToppedUp { deposit }, |slot| slot.deposit = deposit)
    }

    pub(crate) fn close(&self, job: JobId, paid: TokenAmount) {
        let refund = self.state().jobs[&job].deposit.saturating_sub(paid);
        self.mine(job, JobEvent::Closed { paid, refund }, |slot| {
            (slot.paid, slot.deposit, slot.close_at) = (paid, paid, Job::CLOSED);
        });
    }

    /// As somebody else's call would.
    pub(crate) fn give_notice(&self, terms: &Terms) {
        self.begin_close(terms);
    }

    fn begin_close(&self, terms: &Terms) -> BlockRef {
        let close_at = self.now().after(terms.notice);
        let job = self.job_id(terms);
        self.mine(job, JobEvent::Closing { close_at }, |slot| slot.close_at = close_at)
    }

    fn finalize(&self, terms: &Terms) -> Result<BlockRef, WriteError> {
        let job = self.job_id(terms);
        let slot = self.state().jobs[&job];
        if slot.status() != JobStatus::Closing || self.now() < slot.close_at {
            let source = Revert::Message("too early".into());
            return Err(WriteError::Reverted { call: "finalize", source });
        }
        self.close(job, slot.paid);
        let state = self.state();
        if state.is_outrun {
            let source = Revert::Message("somebody was first".into());
            return Err(WriteError::Reverted { call: "finalize", source });
        }
        Ok(state.blocks.last().unwrap().block)
    }

    pub(crate) fn set_tokens(&self, tokens: TokenAmount) {
        self.state().tokens = tokens;
    }

    pub(crate) fn set_outrun(&self) {
        self.state().is_outrun = true;
    }

    /// The calls that were sent since the last time.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }

    /// Takes the newest block back, and mines another branch from now on.
    pub(crate) fn undo(&self) {
        let mut state = self.state();
        let undone = state.blocks.pop().unwrap();
        state.jobs.insert(undone.event.0, undone.before);
        state.forks += 1;
    }

    pub(crate) fn register(&self, provider: Address, entry: RegistryEntry) {
        self.state().registry.insert(provider, entry);
    }

    pub(crate) fn set_operator(&self, provider: Address, operator: Address) {
        self.state().operators.insert(provider, operator);
    }

    pub(crate) fn set_lost(&self, is_lost: bool) {
        self.state().is_lost = is_lost;
    }

    pub(crate) fn set_broken(&self, is_broken: bool) {
        self.state().is_broken = is_broken;
    }

    pub(crate) fn is_closed(&self, job: JobId) -> bool {
        self.state().jobs[&job].status() == JobStatus::Closed
    }

    fn ask(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, ChainError> {
        let state = self.state();
        if state.is_lost {
            return Err(ChainError::Rpc { operation, source: "the node is away".into() });
        }
        Ok(state)
    }
}

#[async_trait]
impl ChainEvents for FakeChain {
    async fn events_after(
        &self,
        cursor: &Cursor,
        filter: &EventFilter,
    ) -> Result<EventBatch, ChainError> {
        let head = self.now();
        let state = self.ask("eth_getLogs")?;
        if state.is_broken {
            let (operation, reason) = ("eth_getLogs", "the test broke it".to_owned());
            return Err(ChainError::Malformed { operation, reason });
        }
        let has = |block: BlockRef| state.blocks.iter().any(|known| known.block == block);
        let (mut cursor, mut undone_from) = (cursor.clone(), None);
        while let Some(last) = cursor.last()
            && !has(last)
        {
            undone_from = Some(last.number);
            cursor = cursor.rewound().unwrap();
        }
        let mut jobs = filter.jobs.clone();
        let mut events = Vec::new();
        for Block { block, timestamp, event, .. } in &state.blocks {
            if block.number < cursor.next() {
                continue;
            }
            if let JobEvent::Opened(opening) = &event.1
                && is_for(&filter.party, &opening.terms)
            {
                jobs.push(event.0);
            }
            if jobs.contains(&event.0) {
                let (block, timestamp, item) = (*block, *timestamp, event.clone());
                events.push(Located { block, timestamp, log_index: 0, item });
            }
        }
        if let Some(newest) = state.blocks.last()
            && newest.block.number >= cursor.next()
        {
            cursor = cursor.advanced_to(newest.block);
        }
        Ok(EventBatch { undone_from, events, cursor, head })
    }
}

fn is_for(party: &Party, terms: &Terms) -> bool {
    match party {
        Party::Provider(account) => *account == terms.provider,
        Party::Publisher(account) => *account == terms.publisher,
        Party::Signer(account) => *account == terms.signer,
    }
}

#[async_trait]
impl ChainReader for FakeChain {
    async fn head(&self) -> Result<Head, ChainError> {
        let timestamp = self.now();
        let state = self.ask("eth_getBlockByNumber")?;
        let block = state.blocks.last().map(|block| block.block);
        let genesis = BlockRef { number: 0, hash: B256::ZERO };
        Ok(Head { block: block.unwrap_or(genesis), timestamp })
    }

    fn job_id(&self, terms: &Terms) -> JobId {
        roadstead_abi::job_id(&self.domain, terms)
    }

    async fn job(&self, job: JobId) -> Result<Job, ChainError> {
        Ok(self.ask("eth_call")?.jobs.get(&job).copied().unwrap_or_default())
    }

    async fn escrow_balance(&self, _: Address) -> Result<U256, ChainError> {
        Ok(U256::ZERO)
    }

    async fn token_balance(&self, _: Address) -> Result<U256, ChainError> {
        Ok(self.ask("eth_call")?.tokens.into())
    }

    async fn token_allowance(&self, _: Address) -> Result<U256, ChainError> {
        Ok(self.ask("eth_call")?.allowance.into())
    }

    async fn operator(&self, account: Address) -> Result<Option<Address>, ChainError> {
        Ok(self.ask("eth_call")?.operators.get(&account).copied())
    }

    async fn ether_balance(&self, _: Address) -> Result<U256, ChainError> {
        Ok(U256::ZERO)
    }

    async fn providers(
        &self,
        start: u64,
        count: u64,
    ) -> Result<Vec<(Address, RegistryEntry)>, ChainError> {
        let state = self.ask("eth_call")?;
        // The order of a registry is that of entering, and not that of the accounts.
        let entries = state.registry.iter().rev().map(|(account, entry)| (*account, entry.clone()));
        let (start, count) = (usize::try_from(start).unwrap(), usize::try_from(count).unwrap());
        Ok(entries.skip(start).take(count).collect())
    }

    async fn registration(&self, provider: Address) -> Result<RegistryEntry, ChainError> {
        let state = self.ask("eth_call")?;
        Ok(state.registry.get(&provider).cloned().unwrap_or(RegistryEntry::Absent))
    }
}

/// An account that can give notice, end a job after it, and pay in.
pub(crate) struct FakeAccount {
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) account: Address,
}

#[async_trait]
impl ChainWriter for FakeAccount {
    fn account(&self) -> Address {
        self.account
    }

    async fn resume(&self) -> Result<Vec<Resumed>, WriteError> {
        Ok(Vec::new())
    }

    async fn submit(&self, call: Call) -> Result<Mined, WriteError> {
        self.chain.state().calls.push(call.name());
        let block = match call {
            Call::BeginClose(terms) => self.chain.begin_close(&terms),
            Call::Finalize(terms) => self.chain.finalize(&terms)?,
            Call::Approve { amount } => {
                let mut state = self.chain.state();
                state.allowance = amount;
                state.blocks.last().unwrap().block
            }
            Call::TopUp { job, amount } => self.chain.pay_in(job, amount),
            call => panic!("{} was not expected", call.name()),
        };
        Ok(Mined { transaction: B256::ZERO, block })
    }
}
