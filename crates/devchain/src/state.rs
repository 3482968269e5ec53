//! Accounts and their storage: one version of the whole world per block.
//!
//! A [`State`] is a persistent trie of accounts, each with a persistent trie of storage, so that
//! cloning one is cheap and a clone never changes: the chain keeps the state after each of its latest
//! blocks, calls execute on a clone without holding any lock, and the state root of a header is the
//! real Merkle-Patricia root.
//!
//! Everything lives in memory; a crash loses all of it.

use alloy::consensus::constants::KECCAK_EMPTY;
use alloy::eips::eip2935;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::trie::TrieAccount;

use crate::evm::Code;
use crate::trie::{Leaf, Trie};

/// A version of all accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    accounts: Trie<Account>,
}

/// One account; an externally owned one has neither code nor storage.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code: Option<Code>,
    storage: Trie<Word>,
}

/// A storage value; zero is never stored.
#[derive(Clone, Debug)]
struct Word(U256);

impl Leaf for Word {
    fn encode(&self) -> Vec<u8> {
        alloy::rlp::encode(self.0)
    }
}

impl Leaf for Account {
    fn encode(&self) -> Vec<u8> {
        let code_hash = self.code.as_ref().map_or(KECCAK_EMPTY, Code::hash);
        alloy::rlp::encode(TrieAccount::new(
            self.nonce,
            self.balance,
            self.storage.root(),
            code_hash,
        ))
    }
}

impl Account {
    /// Empty accounts do not exist (EIP-161).
    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code.is_none()
    }

    /// The value of `slot`.
    pub(crate) fn storage(&self, slot: U256) -> U256 {
        self.storage.get(&slot_key(slot)).map_or(U256::ZERO, |word| word.0)
    }

    /// Sets `slot`; zero frees it.
    pub(crate) fn set_storage(&mut self, slot: U256, value: U256) {
        if value.is_zero() {
            self.storage.remove(&slot_key(slot));
        } else {
            self.storage.insert(&slot_key(slot), Word(value));
        }
    }
}

impl State {
    /// The state before the first transaction: funded accounts, and the contract that serves block
    /// hashes (EIP-2935).
    pub(crate) fn genesis(accounts: &[(Address, U256)]) -> Self {
        let mut state = Self::default();
        let history = Account {
            nonce: 1,
            code: Code::decode(eip2935::HISTORY_STORAGE_CODE.clone()),
            ..Account::default()
        };
        state.put(eip2935::HISTORY_STORAGE_ADDRESS, history);
        for (address, balance) in accounts {
            state.set_balance(*address, *balance);
        }
        state
    }

    /// The account at `address`, if there is one.
    pub(crate) fn account(&self, address: Address) -> Option<&Account> {
        self.accounts.get(&keccak256(address))
    }

    /// The balance of `address`.
    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.balance)
    }

    /// The number of transactions `address` has sent.
    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |account| account.nonce)
    }

    /// The code at `address`.
    pub(crate) fn code(&self, address: Address) -> Bytes {
        self.account(address)
            .and_then(|account| account.code.as_ref())
            .map_or_else(Bytes::new, Code::bytes)
    }

    /// The value of a storage slot of `address`.
    pub(crate) fn storage(&self, address: Address, slot: U256) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.storage(slot))
    }

    /// Replaces the account at `address`.
    pub(crate) fn put(&mut self, address: Address, account: Account) {
        let key = keccak256(address);
        if account.is_empty() {
            self.accounts.remove(&key);
        } else {
            self.accounts.insert(&key, account);
        }
    }

    /// Gives `address` exactly `balance`.
    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) {
        let account = self.account(address).cloned().unwrap_or_default();
        self.put(address, Account { balance, ..account });
    }

    /// Records the hash of the block before `number`, as every block does first (EIP-2935).
    pub(crate) fn record_parent(&mut self, number: u64, parent_hash: B256) {
        let Some(mut account) = self.account(eip2935::HISTORY_STORAGE_ADDRESS).cloned() else {
            return;
        };
        account.set_storage(history_slot(number.saturating_sub(1)), parent_hash.into());
        self.put(eip2935::HISTORY_STORAGE_ADDRESS, account);
    }

    /// The hash of block `number`, right for the 8,191 blocks before the one being executed.
    pub(crate) fn block_hash(&self, number: u64) -> B256 {
        self.storage(eip2935::HISTORY_STORAGE_ADDRESS, history_slot(number)).into()
    }

    /// The Merkle-Patricia root of all accounts.
    pub(crate) fn root(&self) -> B256 {
        self.accounts.root()
    }
}

fn slot_key(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

fn history_slot(number: u64) -> U256 {
    U256::from(number) % U256::from(eip2935::HISTORY_SERVE_WINDOW)
}

#[cfg(test)]
mod tests {
    use alloy::trie::root::state_root_unhashed;

    use super::*;

    #[test]
    fn the_root_is_that_of_the_reference_implementation() {
        let accounts: Vec<_> =
            (1u8..20).map(|byte| (Address::repeat_byte(byte), U256::from(byte))).collect();
        let mut state = State::default();
        for (address, balance) in &accounts {
            state.set_balance(*address, *balance);
        }
        let reference = accounts
            .into_iter()
            .map(|(address, balance)| (address, TrieAccount { balance, ..TrieAccount::default() }));
        assert_eq!(state.root(), state_root_unhashed(reference));
    }

    #[test]
    fn an_emptied_account_leaves_no_trace() {
        let mut state = State::default();
        let empty = state.root();
        state.set_balance(Address::ZERO, U256::from(5));
        let funded = state.clone();
        state.set_balance(Address::ZERO, U256::ZERO);
        assert_eq!(state.root(), empty);
        assert_eq!(funded.balance(Address::ZERO), U256::from(5));
    }

    #[test]
    fn hashes_of_earlier_blocks_are_part_of_the_state() {
        let mut state = State::genesis(&[]);
        state.record_parent(1, B256::repeat_byte(7));
        assert_eq!(state.block_hash(0), B256::repeat_byte(7));
        assert_eq!(state.block_hash(1), B256::ZERO);
    }
}
