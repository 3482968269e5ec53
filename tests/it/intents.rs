//! Transactions that a process has signed and left behind, taken up by the next one out of its journal.

use std::{future::pending, sync::Arc};

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
};
use async_trait::async_trait;
use roadstead_chain::{MarketAccount, MarketClient};
use roadstead_core::ports::{Call, ChainWriter, Intent, IntentError, Intents};
use roadstead_devnet::ChainChoice;
use roadstead_journal::{Journal, JournalBinding, StateFolder};
use tempfile::TempDir;
use tokio::{sync::Notify, time::timeout};

use crate::market::{EVERY_CHAIN, PATIENCE, TestMarket, amount};

/// The publisher of a market, with its journal.
struct Publisher {
    market: TestMarket,
    folder: StateFolder,
    _home: TempDir,
}

/// A journal whose process goes no further than to the end of one of its methods.
struct LastWords {
    journal: Journal,
    /// Of which: after a transaction was written down, or before it is forgotten.
    intends: bool,
    said: Notify,
}

impl LastWords {
    async fn stop(&self) {
        self.said.notify_one();
        pending::<()>().await;
    }
}

#[async_trait]
impl Intents for LastWords {
    async fn intend(&self, intent: &Intent) -> Result<(), IntentError> {
        self.journal.intend(intent).await?;
        if self.intends {
            self.stop().await;
        }
        Ok(())
    }

    async fn done(&self, account: Address, nonce: u64) -> Result<(), IntentError> {
        if !self.intends {
            self.stop().await;
        }
        self.journal.done(account, nonce).await
    }

    async fn pending(&self, account: Address) -> Result<Vec<Intent>, IntentError> {
        self.journal.pending(account).await
    }
}

impl Publisher {
    async fn start(chain: &ChainChoice) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path().join("publisher")).unwrap();
        Self { market: TestMarket::start(chain).await, folder, _home: home }
    }

    fn address(&self) -> Address {
        self.market.local.publisher.address()
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.folder, &JournalBinding::from(&self.market.market())).unwrap()
    }

    async fn account(&self, intents: Arc<dyn Intents>) -> MarketAccount {
        let client = MarketClient::connect(self.market.market()).await.unwrap();
        client.account(self.market.local.publisher.clone()).with_intents(intents)
    }

    /// A process that allows so many tokens, and ends at its last words. What is written down then.
    async fn ends(&self, units: u128, intends: bool) -> Vec<Intent> {
        let words = LastWords { journal: self.journal(), intends, said: Notify::new() };
        let words = Arc::new(words);
        let account = self.account(words.clone()).await;
        let call = Call::Approve { amount: amount(units) };
        tokio::select! {
            done = account.submit(call) => panic!("it went on: {done:?}"),
            said = timeout(PATIENCE, words.said.notified()) => said.unwrap(),
        }
        words.journal.pending(self.address()).await.unwrap()
    }

    /// The next process.
    async fn resume(&self) {
        let journal = self.journal();
        let account = self.account(Arc::new(journal.clone())).await;
        timeout(PATIENCE, account.resume()).await.unwrap().unwrap();
        assert_eq!(journal.pending(self.address()).await.unwrap(), []);
    }

    async fn nonce(&self) -> u64 {
        let client = self.market.foreign(&self.market.local.publisher);
        client.get_transaction_count(self.address()).await.unwrap()
    }

    async fn is_mined(&self, transaction: B256) -> bool {
        let client = self.market.foreign(&self.market.local.publisher);
        client.get_transaction_receipt(transaction).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn what_was_signed_and_not_sent_is_sent_once() {
    for chain in EVERY_CHAIN {
        let publisher = Publisher::start(&chain).await;
        let before = publisher.nonce().await;
        let left = publisher.ends(7, true).await;
        let [intent] = left.as_slice() else { panic!("{chain}: {left:?}") };
        assert_eq!((publisher.nonce().await, intent.nonce), (before, before), "{chain}");

        publisher.resume().await;
        assert!(publisher.is_mined(intent.transaction).await, "{chain}: the same bytes");
        assert_eq!(publisher.nonce().await, before + 1, "{chain}");
        publisher.resume().await;
        assert_eq!(publisher.nonce().await, before + 1, "{chain}");
    }
}

#[tokio::test]
async fn what_is_in_a_block_is_forgotten() {
    for chain in EVERY_CHAIN {
        let publisher = Publisher::start(&chain).await;
        let before = publisher.nonce().await;
        let left = publisher.ends(7, false).await;
        let [intent] = left.as_slice() else { panic!("{chain}: {left:?}") };
        assert!(publisher.is_mined(intent.transaction).await, "{chain}");

        publisher.resume().await;
        assert_eq!(publisher.nonce().await, before + 1, "{chain}");
    }
}

#[tokio::test]
async fn what_lost_its_nonce_is_forgotten() {
    for chain in EVERY_CHAIN {
        let publisher = Publisher::start(&chain).await;
        let before = publisher.nonce().await;
        let left = publisher.ends(7, true).await;
        let wallet = publisher.market.foreign(&publisher.market.local.publisher);
        let gift = TransactionRequest::default().to(publisher.address()).value(U256::from(1));
        wallet.send_transaction(gift).await.unwrap().get_receipt().await.unwrap();

        publisher.resume().await;
        assert!(!publisher.is_mined(left[0].transaction).await, "{chain}");
        assert_eq!(publisher.nonce().await, before + 1, "{chain}");
        let account = publisher.account(Arc::new(publisher.journal())).await;
        account.submit(Call::Approve { amount: amount(8) }).await.unwrap();
        assert_eq!(publisher.nonce().await, before + 2, "{chain}");
    }
}
