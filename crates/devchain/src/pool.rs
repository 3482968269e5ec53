//! Transactions that wait for a block.
//!
//! For each sender a queue ordered by nonce. A transaction is ready when its nonce is the sender's
//! next; behind a gap it waits. Blocks take ready transactions in the order they arrived. The pool is
//! bounded in total and per sender; a crash loses it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use alloy::consensus::Transaction as _;
use alloy::primitives::{Address, B256};
use thiserror::Error;

use crate::state::State;
use crate::transaction::Transaction;

const MAX_TOTAL: usize = 4_096;
const MAX_PER_SENDER: usize = 1_024;

/// A replacement has to offer this much more, in percent.
const REPLACEMENT_BUMP: u128 = 10;

/// Why the pool does not take a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    #[error("already known")]
    AlreadyKnown,
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("txpool is full")]
    Full,
    #[error("too many transactions of one sender wait for a block")]
    SenderFull,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    senders: HashMap<Address, BTreeMap<u64, Waiting>>,
    by_hash: HashMap<B256, Arc<Transaction>>,
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    transaction: Arc<Transaction>,
    arrival: u64,
}

impl Pool {
    /// Takes a transaction in, or lets it replace a cheaper one with the same nonce.
    pub(crate) fn add(&mut self, transaction: Arc<Transaction>) -> Result<(), Refused> {
        let hash = *transaction.hash();
        if self.by_hash.contains_key(&hash) {
            return Err(Refused::AlreadyKnown);
        }
        let queue = self.senders.get(&transaction.signer());
        let replaced = queue.and_then(|queue| queue.get(&transaction.nonce()));
        let arrival = match replaced {
            Some(old) if !outbids(&transaction, &old.transaction) => {
                return Err(Refused::Underpriced);
            }
            Some(old) => {
                self.by_hash.remove(old.transaction.hash());
                old.arrival
            }
            None if self.by_hash.len() >= MAX_TOTAL => return Err(Refused::Full),
            None if queue.is_some_and(|queue| queue.len() >= MAX_PER_SENDER) => {
                return Err(Refused::SenderFull);
            }
            None => {
                self.arrivals += 1;
                self.arrivals
            }
        };
        let queue = self.senders.entry(transaction.signer()).or_default();
        queue.insert(
            transaction.nonce(),
            Waiting { transaction: Arc::clone(&transaction), arrival },
        );
        self.by_hash.insert(hash, transaction);
        Ok(())
    }

    /// The waiting transaction with this hash.
    pub(crate) fn get(&self, hash: &B256) -> Option<&Arc<Transaction>> {
        self.by_hash.get(hash)
    }

    /// What the sender waits with beside a transaction with this nonce, which would replace its own.
    pub(crate) fn others(
        &self,
        sender: Address,
        nonce: u64,
    ) -> impl Iterator<Item = &Arc<Transaction>> {
        let queue = self.senders.get(&sender).into_iter().flatten();
        queue.filter(move |(other, _)| **other != nonce).map(|(_, waiting)| &waiting.transaction)
    }

    /// The nonce after all ready transactions of `sender`, whose account is at `nonce`.
    pub(crate) fn next_nonce(&self, sender: Address, mut nonce: u64) -> u64 {
        if let Some(queue) = self.senders.get(&sender) {
            while queue.contains_key(&nonce) {
                nonce = nonce.saturating_add(1);
            }
        }
        nonce
    }

    /// Drops one transaction.
    pub(crate) fn remove(&mut self, transaction: &Transaction) {
        self.by_hash.remove(transaction.hash());
        if let Some(queue) = self.senders.get_mut(&transaction.signer()) {
            queue.remove(&transaction.nonce());
            if queue.is_empty() {
                self.senders.remove(&transaction.signer());
            }
        }
    }

    /// Drops every transaction whose nonce is used up in `state`.
    pub(crate) fn settle(&mut self, state: &State) {
        let Self { senders, by_hash, .. } = self;
        senders.retain(|sender, queue| {
            let rest = queue.split_off(&state.nonce(*sender));
            for used in std::mem::replace(queue, rest).into_values() {
                by_hash.remove(used.transaction.hash());
            }
            !queue.is_empty()
        });
    }

    /// The ready transactions on top of `state`, in order of arrival.
    pub(crate) fn ready<'a>(&'a self, state: &State) -> Ready<'a> {
        let mut ready = Ready { pool: self, heads: BinaryHeap::new() };
        for sender in self.senders.keys() {
            ready.offer(*sender, state.nonce(*sender));
        }
        ready
    }
}

/// Hands out ready transactions; the next one of a sender follows once [`Ready::included`] was
/// called for the one before.
#[derive(Debug)]
pub(crate) struct Ready<'a> {
    pool: &'a Pool,
    heads: BinaryHeap<Reverse<(u64, Address, u64)>>,
}

impl Ready<'_> {
    /// The next transaction.
    pub(crate) fn take(&mut self) -> Option<Arc<Transaction>> {
        let Reverse((_, sender, nonce)) = self.heads.pop()?;
        Some(Arc::clone(&self.pool.senders.get(&sender)?.get(&nonce)?.transaction))
    }

    /// Says that `transaction` went into the block.
    pub(crate) fn included(&mut self, transaction: &Transaction) {
        self.offer(transaction.signer(), transaction.nonce().saturating_add(1));
    }

    fn offer(&mut self, sender: Address, nonce: u64) {
        let waiting = self.pool.senders.get(&sender).and_then(|queue| queue.get(&nonce));
        if let Some(waiting) = waiting {
            self.heads.push(Reverse((waiting.arrival, sender, nonce)));
        }
    }
}

fn outbids(new: &Transaction, old: &Transaction) -> bool {
    let enough = |new: u128, old: u128| {
        new > old && new >= old.saturating_add(old.saturating_mul(REPLACEMENT_BUMP) / 100)
    };
    enough(new.max_fee_per_gas(), old.max_fee_per_gas())
        && enough(new.priority_fee_or_price(), old.priority_fee_or_price())
}

#[cfg(test)]
mod tests {
    use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
    use alloy::primitives::{Signature, U256};

    use super::*;

    fn transaction(sender: u8, nonce: u64, fee: u128) -> Arc<Transaction> {
        let transaction = TxEip1559 {
            nonce,
            max_fee_per_gas: fee,
            max_priority_fee_per_gas: fee,
            ..TxEip1559::default()
        };
        let signature = Signature::new(U256::from(sender), U256::from(1), false);
        let envelope = TxEnvelope::from(transaction.into_signed(signature));
        Arc::new(Transaction::new_unchecked(envelope, Address::repeat_byte(sender)))
    }

    fn order(pool: &Pool, state: &State) -> Vec<(Address, u64)> {
        let mut ready = pool.ready(state);
        let mut order = Vec::new();
        while let Some(transaction) = ready.take() {
            ready.included(&transaction);
            order.push((transaction.signer(), transaction.nonce()));
        }
        order
    }

    #[test]
    fn ready_transactions_come_by_arrival_and_nonce() {
        let mut pool = Pool::default();
        for (sender, nonce) in [(1, 1), (2, 0), (1, 0), (3, 4)] {
            pool.add(transaction(sender, nonce, 10)).unwrap();
        }
        let [one, two] = [1, 2].map(Address::repeat_byte);
        assert_eq!(order(&pool, &State::default()), [(two, 0), (one, 0), (one, 1)]);
        assert_eq!(pool.next_nonce(one, 0), 2);
        assert_eq!(pool.next_nonce(Address::repeat_byte(3), 0), 0);
    }

    #[test]
    fn a_replacement_pays_a_tenth_more() {
        let mut pool = Pool::default();
        pool.add(transaction(1, 0, 100)).unwrap();
        assert_eq!(pool.add(transaction(1, 0, 100)), Err(Refused::AlreadyKnown));
        assert_eq!(pool.add(transaction(1, 0, 109)), Err(Refused::Underpriced));
        pool.add(transaction(1, 0, 110)).unwrap();
        assert_eq!(pool.by_hash.len(), 1);
        assert_eq!(order(&pool, &State::default()).len(), 1);
    }

    #[test]
    fn the_pool_is_bounded_for_one_sender() {
        let mut pool = Pool::default();
        for nonce in 0..MAX_PER_SENDER {
            pool.add(transaction(1, u64::try_from(nonce).unwrap(), 1)).unwrap();
        }
        assert_eq!(pool.add(transaction(1, 5_000, 1)), Err(Refused::SenderFull));
        pool.add(transaction(2, 0, 1)).unwrap();
    }
}
