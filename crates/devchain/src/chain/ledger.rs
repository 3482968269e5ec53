//! Blocks, states, indexes and waiting transactions, and how they change together.
//!
//! Blocks and receipts are kept for ever. The state is kept for the latest blocks only (as many as
//! the settings say); a question about an older one is an error, never answered from another state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use alloy::consensus::Transaction as _;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, U256};
use thiserror::Error;

use super::time::{Time, TimeError};
use crate::block::{Block, Draft, Entry, Fit, Snapshot};
use crate::config::{Config, Mining};
use crate::evm::Invalid;
use crate::pool::{Pool, Refused};
use crate::state::State;
use crate::transaction::{Transaction, message};

/// Everything the chain knows.
#[derive(Debug)]
pub(crate) struct Ledger {
    chain_id: u64,
    state_history: usize,
    head: Arc<Block>,
    /// The state after the head.
    state: State,
    /// All blocks, the head last.
    blocks: Vec<Arc<Block>>,
    /// States after the blocks before the head, the newest last.
    older_states: VecDeque<State>,
    numbers: HashMap<B256, u64>,
    transactions: HashMap<B256, (u64, usize)>,
    pool: Pool,
    time: Time,
    automine: bool,
}

/// Why a block or its state cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LookupError {
    #[error("block {wanted} is not known, the latest is {head}")]
    UnknownNumber { wanted: u64, head: u64 },
    #[error("block with hash {0} is not known")]
    UnknownHash(B256),
    #[error("the state of block {wanted} is no longer kept, only that since block {oldest}")]
    StateGone { wanted: u64, oldest: u64 },
}

/// Why a transaction is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Refused(#[from] Refused),
}

type Dropped = Vec<(Arc<Transaction>, Invalid)>;

/// All that the next block is made of, apart from the ledger, so that it executes without a lock.
#[derive(Debug)]
pub(crate) struct Outlook {
    draft: Draft,
    pool: Pool,
}

impl Outlook {
    /// Executes what waits and fits.
    pub(crate) fn execute(mut self) -> Draft {
        fill(&mut self.draft, &self.pool, usize::MAX);
        self.draft
    }
}

impl Ledger {
    pub(crate) fn new(config: &Config) -> Result<Self, TimeError> {
        let now = config.clock.now();
        let start = config.genesis_timestamp.unwrap_or(now);
        let time = Time::starting(start, now)?;
        let state = State::genesis(&config.accounts);
        let head = Arc::new(Block::genesis(&state, config.gas_limit, start));
        Ok(Self {
            chain_id: config.chain_id,
            state_history: config.state_history,
            numbers: HashMap::from([(head.hash, 0)]),
            blocks: vec![Arc::clone(&head)],
            head,
            state,
            older_states: VecDeque::new(),
            transactions: HashMap::new(),
            pool: Pool::default(),
            time,
            automine: config.mining == Mining::Automine,
        })
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        &self.head
    }

    pub(crate) fn time_mut(&mut self) -> &mut Time {
        &mut self.time
    }

    /// Chooses the timestamp of the next block.
    pub(crate) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<(), TimeError> {
        self.time.set_next(timestamp, self.head.header.timestamp)
    }

    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) {
        self.state.set_balance(address, balance);
    }

    /// Turns a block per transaction on or off; what waits and is ready is mined when turned on.
    pub(crate) fn set_automine(&mut self, automine: bool, now: u64) {
        self.automine = automine;
        if automine {
            self.mine_ready(now);
        }
    }

    /// Takes a transaction in; with automine it is in a block when this returns, if it is ready.
    pub(crate) fn send(&mut self, transaction: Transaction, now: u64) -> Result<B256, SendError> {
        let hash = *transaction.hash();
        if self.pool.get(&hash).is_some() {
            return Err(Refused::AlreadyKnown.into());
        }
        self.admit(&transaction)?;
        self.pool.add(Arc::new(transaction))?;
        if self.automine {
            let dropped = self.mine_ready(now);
            let own = dropped.into_iter().find(|(dropped, _)| *dropped.hash() == hash);
            if let Some((_, invalid)) = own {
                return Err(invalid.into());
            }
        }
        Ok(hash)
    }

    /// Mines a block with all waiting transactions that fit.
    pub(crate) fn mine(&mut self, now: u64) -> Arc<Block> {
        let (draft, dropped) = self.draft(now, usize::MAX);
        self.drop_all(&dropped);
        self.append(draft, now)
    }

    /// The block that would be mined now, not executed yet.
    pub(crate) fn outlook(&self, now: u64) -> Outlook {
        Outlook { draft: self.empty_draft(now), pool: self.pool.clone() }
    }

    /// The nonce of the next transaction of `sender`, after those that wait.
    pub(crate) fn pending_nonce(&self, sender: Address) -> u64 {
        self.pool.next_nonce(sender, self.state.nonce(sender))
    }

    /// A waiting transaction.
    pub(crate) fn waiting(&self, hash: &B256) -> Option<Arc<Transaction>> {
        self.pool.get(hash).cloned()
    }

    /// The block and the place in it where a transaction went.
    pub(crate) fn mined(&self, hash: &B256) -> Option<(Arc<Block>, usize)> {
        let (number, index) = self.transactions.get(hash)?;
        Some((self.block(*number)?, *index))
    }

    /// The block with this number.
    pub(crate) fn block(&self, number: u64) -> Option<Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?).cloned()
    }

    /// The block with this hash.
    pub(crate) fn block_by_hash(&self, hash: &B256) -> Option<Arc<Block>> {
        self.block(*self.numbers.get(hash)?)
    }

    /// The blocks from `first` to `last`, as far as they exist.
    pub(crate) fn blocks(&self, first: u64, last: u64) -> Vec<Arc<Block>> {
        let bound = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let end = bound(last).saturating_add(1).min(self.blocks.len());
        self.blocks.get(bound(first)..end).map_or_else(Vec::new, <[_]>::to_vec)
    }

    /// The number a tag stands for. Nothing here is ever undone, so the latest block is final;
    /// the pending one counts as the latest.
    pub(crate) fn number(&self, tag: BlockNumberOrTag) -> u64 {
        match tag {
            BlockNumberOrTag::Number(number) => number,
            BlockNumberOrTag::Earliest => 0,
            BlockNumberOrTag::Latest
            | BlockNumberOrTag::Safe
            | BlockNumberOrTag::Finalized
            | BlockNumberOrTag::Pending => self.head.header.number,
        }
    }

    /// The state after a block; the pending one counts as the latest.
    pub(crate) fn snapshot(&self, id: BlockId) -> Result<Snapshot, LookupError> {
        let number = match id {
            BlockId::Number(tag) => self.number(tag),
            BlockId::Hash(hash) => *self
                .numbers
                .get(&hash.block_hash)
                .ok_or(LookupError::UnknownHash(hash.block_hash))?,
        };
        let head = self.head.header.number;
        let unknown = LookupError::UnknownNumber { wanted: number, head };
        let block = self.block(number).ok_or_else(|| unknown.clone())?;
        let kept = self.older_states.len();
        let state = match usize::try_from(head.checked_sub(number).ok_or(unknown)?) {
            Ok(0) => &self.state,
            age => age
                .ok()
                .and_then(|age| self.older_states.get(kept.checked_sub(age)?))
                .ok_or_else(|| LookupError::StateGone {
                    wanted: number,
                    oldest: head.saturating_sub(u64::try_from(kept).unwrap_or(head)),
                })?,
        };
        Ok(Snapshot { state: state.clone(), surroundings: block.surroundings(self.chain_id) })
    }

    /// Checks a transaction against the latest state, and its cost together with what its sender has
    /// waiting already: what is taken in can also be paid.
    fn admit(&self, transaction: &Transaction) -> Result<(), Invalid> {
        let account = self.state.account(transaction.signer()).cloned().unwrap_or_default();
        let nonce = transaction.nonce();
        if nonce < account.nonce {
            return Err(Invalid::NonceTooLow { nonce, expected: account.nonce });
        }
        if account.code.is_some_and(|code| !code.is_delegation()) {
            return Err(Invalid::SenderHasCode);
        }
        // Elsewhere the base fee falls in empty blocks; with automine there are none.
        let base_fee = u128::from(self.head.next_base_fee());
        if self.automine && transaction.max_fee_per_gas() < base_fee {
            return Err(Invalid::FeeBelowBase);
        }
        let balance = account.balance;
        let cost = message(transaction).cost().unwrap_or(U256::MAX);
        if cost > balance {
            return Err(Invalid::InsufficientFunds { balance, cost });
        }
        let queued = self
            .pool
            .others(transaction.signer(), nonce)
            .map(|other| message(other).cost().unwrap_or(U256::MAX))
            .fold(U256::ZERO, U256::saturating_add);
        if queued.saturating_add(cost) > balance {
            return Err(Invalid::Overdrawn { balance, queued, cost });
        }
        Ok(())
    }

    fn empty_draft(&self, now: u64) -> Draft {
        let timestamp = self.time.next_block(now, self.head.header.timestamp);
        Draft::new(&self.head, &self.state, self.chain_id, timestamp)
    }

    /// Puts the next block together, with at most `limit` transactions.
    fn draft(&self, now: u64, limit: usize) -> (Draft, Dropped) {
        let mut draft = self.empty_draft(now);
        let dropped = fill(&mut draft, &self.pool, limit);
        (draft, dropped)
    }

    /// Mines a block for each ready transaction.
    fn mine_ready(&mut self, now: u64) -> Dropped {
        let mut all = Vec::new();
        loop {
            let (draft, dropped) = self.draft(now, 1);
            self.drop_all(&dropped);
            all.extend(dropped);
            if draft.len() == 0 {
                return all;
            }
            self.append(draft, now);
        }
    }

    fn drop_all(&mut self, dropped: &Dropped) {
        for (transaction, invalid) in dropped {
            tracing::warn!(tx = %transaction.hash(), %invalid, "dropped a waiting transaction");
            self.pool.remove(transaction);
        }
    }

    /// Makes a draft the head.
    fn append(&mut self, draft: Draft, now: u64) -> Arc<Block> {
        let (block, state) = draft.seal();
        let block = Arc::new(block);
        let number = block.header.number;
        self.time.mined(now, block.header.timestamp);
        self.numbers.insert(block.hash, number);
        for (index, Entry { transaction, .. }) in block.entries.iter().enumerate() {
            self.transactions.insert(*transaction.hash(), (number, index));
        }
        self.blocks.push(Arc::clone(&block));
        self.older_states.push_back(std::mem::replace(&mut self.state, state));
        while self.older_states.len() >= self.state_history {
            self.older_states.pop_front();
        }
        self.head = Arc::clone(&block);
        self.pool.settle(&self.state);
        tracing::debug!(number, transactions = block.entries.len(), "mined a block");
        block
    }
}

/// Executes ready transactions until `limit` are in the draft, and gives those that never can be.
fn fill(draft: &mut Draft, pool: &Pool, limit: usize) -> Dropped {
    let mut dropped = Vec::new();
    let mut ready = pool.ready(draft.state());
    while draft.len() < limit {
        let Some(transaction) = ready.take() else { break };
        match draft.push(&transaction) {
            Ok(Fit::Included) => ready.included(&transaction),
            Ok(Fit::NotNow) => {}
            Err(invalid) => dropped.push((transaction, invalid)),
        }
    }
    dropped
}
