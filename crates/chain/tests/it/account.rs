//! What was signed is written down first, and taken up again with the same bytes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::Encodable2718,
    network::TxSignerSync,
    primitives::{Address, B256, Bytes},
    signers::local::PrivateKeySigner,
};
use async_trait::async_trait;
use roadstead_chain::{Connection, MarketAccount, MarketClient, Wallet};
use roadstead_core::ports::{
    Call, ChainWriter, Intent, IntentError, Intents, Mined, Resumed, WriteError,
};
use roadstead_types::TokenAmount;
use tokio::task::JoinHandle;

use crate::{events::market, pool::PoolNode};

/// Intents that outlive an account, as a journal does.
#[derive(Default)]
struct MemoryIntents {
    kept: Mutex<Vec<Intent>>,
    ever: Mutex<Vec<Bytes>>,
    /// What fails.
    failing: Mutex<Option<&'static str>>,
}

impl MemoryIntents {
    fn kept(&self) -> Vec<Intent> {
        self.kept.lock().unwrap().clone()
    }

    fn fail(&self, operation: Option<&'static str>) {
        *self.failing.lock().unwrap() = operation;
    }

    fn check(&self, operation: &str) -> Result<(), IntentError> {
        match *self.failing.lock().unwrap() {
            Some(failing) if failing == operation => Err(IntentError("the disk is full".into())),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Intents for MemoryIntents {
    async fn intend(&self, intent: &Intent) -> Result<(), IntentError> {
        self.check("intend")?;
        self.kept.lock().unwrap().push(intent.clone());
        self.ever.lock().unwrap().push(intent.raw.clone());
        Ok(())
    }

    async fn done(&self, account: Address, nonce: u64) -> Result<(), IntentError> {
        self.check("done")?;
        let is_other = |kept: &Intent| (kept.account, kept.nonce) != (account, nonce);
        self.kept.lock().unwrap().retain(is_other);
        Ok(())
    }

    async fn pending(&self, account: Address) -> Result<Vec<Intent>, IntentError> {
        self.check("pending")?;
        let mut pending = self.kept();
        pending.retain(|kept| kept.account == account);
        pending.sort_by_key(|kept| kept.nonce);
        Ok(pending)
    }
}

/// One key, its node, and what is written down; processes come and go.
struct Key {
    node: PoolNode,
    wallet: Wallet,
    intents: Arc<MemoryIntents>,
}

const NONCE: u64 = 7;

impl Key {
    fn new() -> Self {
        Self { node: PoolNode::new(NONCE), wallet: Wallet::random(), intents: Arc::default() }
    }

    /// The account of a new process.
    fn account(&self) -> MarketAccount {
        let connection = Connection::new(self.node.client(), Duration::from_secs(1));
        let client = MarketClient::new(connection, market(0));
        client.account(self.wallet.clone()).with_intents(self.intents.clone())
    }

    fn submit(&self, units: u128) -> JoinHandle<Result<Mined, WriteError>> {
        let account = self.account();
        tokio::spawn(async move { account.submit(approve(units)).await })
    }

    fn resume(&self) -> JoinHandle<Result<Vec<Resumed>, WriteError>> {
        let account = self.account();
        tokio::spawn(async move { account.resume().await })
    }

    /// A process that ends after it has written a transaction down and before the node has it.
    async fn interrupted(&self, units: u128) -> Intent {
        self.node.set_silent(true);
        let call = self.submit(units);
        while self.intents.kept().is_empty() {
            tokio::task::yield_now().await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        self.node.set_silent(false);
        assert!(self.node.handed_over().is_empty());
        self.intents.kept().pop().unwrap()
    }

    /// A process that ends after it has written down a higher offer and before the node has that. The first offer.
    async fn interrupted_offer(&self) -> B256 {
        let call = self.submit(1);
        handed_over(&self.node, 1).await;
        self.node.set_silent(true);
        while self.intents.kept().len() < 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        self.node.set_silent(false);
        self.intents.kept()[0].transaction
    }
}

fn approve(units: u128) -> Call {
    Call::Approve { amount: TokenAmount::new(units).unwrap() }
}

/// Lets the tasks run until the node has so many transactions.
async fn handed_over(node: &PoolNode, count: usize) -> Vec<Bytes> {
    while node.handed_over().len() < count {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.handed_over()
}

#[tokio::test(start_paused = true)]
async fn a_mined_call_leaves_nothing_behind() {
    let key = Key::new();
    let call = key.submit(1);
    let sent = handed_over(&key.node, 1).await;
    let kept = key.intents.kept();
    let [intent] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(intent.account, key.wallet.address());
    assert_eq!((intent.nonce, intent.call.as_str(), &intent.raw), (NONCE, "approve", &sent[0]));
    key.node.mine();
    assert_eq!(call.await.unwrap().unwrap().transaction, intent.transaction);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_not_sent() {
    let key = Key::new();
    key.intents.fail(Some("intend"));
    let refused = key.submit(1).await.unwrap();
    assert!(matches!(refused, Err(WriteError::Intent { .. })), "{refused:?}");
    assert!(key.node.handed_over().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_written_down_and_not_sent_is_sent_with_the_same_bytes() {
    let key = Key::new();
    let intent = key.interrupted(1).await;
    let resumed = key.resume();
    assert_eq!(handed_over(&key.node, 1).await, [intent.raw]);
    assert!(!resumed.is_finished());
    key.node.mine();
    let [ended] = &resumed.await.unwrap().unwrap()[..] else { panic!("there was one") };
    assert_eq!((ended.call.as_str(), ended.transaction), ("approve", intent.transaction));
    assert!(ended.took_effect && ended.input.ends_with(&[1]), "{ended:?}");
    assert_eq!(key.node.mined(), [intent.transaction]);
    assert_eq!(key.node.handed_over().len(), 1);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_mined_is_forgotten_without_being_sent() {
    let key = Key::new();
    key.intents.fail(Some("done"));
    let call = key.submit(1);
    handed_over(&key.node, 1).await;
    key.node.mine();
    call.await.unwrap().unwrap();
    assert_eq!(key.intents.kept().len(), 1, "it could not be forgotten");

    key.intents.fail(None);
    let ended = key.resume().await.unwrap().unwrap();
    assert!(matches!(&ended[..], [Resumed { took_effect: true, .. }]), "{ended:?}");
    assert_eq!(key.intents.kept(), []);
    assert_eq!(key.node.handed_over().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_was_used_otherwise_is_forgotten() {
    let key = Key::new();
    key.interrupted(1).await;
    key.node.use_nonce();
    let ended = key.resume().await.unwrap().unwrap();
    assert!(matches!(&ended[..], [Resumed { took_effect: false, .. }]), "{ended:?}");
    assert_eq!(key.intents.kept(), []);
    assert!(key.node.handed_over().is_empty());

    let call = key.submit(2);
    handed_over(&key.node, 1).await;
    key.node.mine();
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_is_used_while_it_is_waited_for_ends_the_wait() {
    let key = Key::new();
    key.interrupted(1).await;
    let resumed = key.resume();
    handed_over(&key.node, 1).await;
    key.node.use_nonce();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.intents.kept(), []);

    let call = key.submit(2);
    handed_over(&key.node, 2).await;
    key.node.use_nonce();
    let replaced = call.await.unwrap();
    let is_early =
        |error: &WriteError| matches!(error, WriteError::NotMined { seconds: 0..=10, .. });
    assert!(replaced.as_ref().is_err_and(is_early), "{replaced:?}");
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_does_not_take_for_now_stays_written_down() {
    let key = Key::new();
    let intent = key.interrupted(1).await;
    key.node.refuse(Some("insufficient funds for gas * price + value"));
    let refused = key.resume().await.unwrap();
    assert!(matches!(refused, Err(WriteError::Chain { .. })), "{refused:?}");
    assert_eq!(key.intents.kept(), std::slice::from_ref(&intent));

    key.node.refuse(None);
    let resumed = key.resume();
    assert_eq!(handed_over(&key.node, 1).await, [intent.raw]);
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_refused_is_never_sent() {
    let key = Key::new();
    key.node.refuse(Some("insufficient funds for gas * price + value"));
    let refused = key.submit(1).await.unwrap();
    assert!(matches!(refused, Err(WriteError::Chain { .. })), "{refused:?}");
    assert_eq!(key.intents.ever.lock().unwrap().len(), 1);
    assert_eq!(key.intents.kept(), []);
    key.node.refuse(None);
    key.resume().await.unwrap().unwrap();
    assert!(key.node.handed_over().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_taken_without_an_answer_stays_written_down() {
    let key = Key::new();
    key.node.lose_answers(true);
    let unknown = key.submit(1).await.unwrap();
    assert!(matches!(unknown, Err(WriteError::Chain { .. })), "{unknown:?}");
    let kept = key.intents.kept();
    assert_eq!(kept.len(), 1);
    key.node.lose_answers(false);
    let resumed = key.resume();
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.node.mined(), [kept[0].transaction]);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_leaves_what_else_was_signed_for_its_nonce() {
    let key = Key::new();
    let earlier = key.interrupted(1).await;
    key.node.refuse(Some("insufficient funds for gas * price + value"));
    let refused = key.submit(2).await.unwrap();
    assert!(matches!(refused, Err(WriteError::Chain { .. })), "{refused:?}");
    assert_eq!(key.intents.ever.lock().unwrap().len(), 3, "the earlier one twice");
    assert_eq!(key.intents.kept(), [earlier]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_told_so_where_it_cannot_be_forgotten() {
    let key = Key::new();
    key.node.refuse(Some("insufficient funds for gas * price + value"));
    key.intents.fail(Some("done"));
    let refused = key.submit(1).await.unwrap();
    assert!(matches!(refused, Err(WriteError::Chain { .. })), "{refused:?}");
    assert_eq!(key.intents.kept().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_is_offered_where_too_little_was_when_it_was_signed() {
    let key = Key::new();
    let intent = key.interrupted(1).await;
    key.node.set_base_fee(50_000);
    let resumed = key.resume();
    let sent = handed_over(&key.node, 1).await;
    let kept = key.intents.kept();
    assert_eq!(kept.iter().map(|kept| &kept.raw).collect::<Vec<_>>(), [&intent.raw, &sent[0]]);
    assert!(kept.iter().all(|kept| (kept.nonce, kept.call.as_str()) == (NONCE, "approve")));
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.node.mined(), [kept[1].transaction]);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn more_is_offered_once_and_from_there_by_the_next_process() {
    let key = Key::new();
    key.interrupted(1).await;
    key.node.refuse(Some("Transaction underpriced"));
    for forms in 2..4 {
        let refused = key.resume().await.unwrap();
        assert!(matches!(refused, Err(WriteError::Chain { .. })), "{refused:?}");
        assert_eq!(key.intents.kept().len(), forms);
    }
    key.node.refuse(None);
    let newest = key.intents.kept().pop().unwrap();
    let resumed = key.resume();
    assert_eq!(handed_over(&key.node, 1).await, [newest.raw]);
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_too_long_stays_written_down() {
    let key = Key::new();
    key.interrupted(1).await;
    let waited = key.resume().await.unwrap();
    assert!(matches!(waited, Err(WriteError::NotMined { .. })), "{waited:?}");
    assert_eq!(key.intents.kept().len(), key.node.handed_over().len());
}

#[tokio::test(start_paused = true)]
async fn every_offer_is_written_down_before_it_is_made_and_the_newest_is_taken_up() {
    let key = Key::new();
    let call = key.submit(1);
    let sent = handed_over(&key.node, 3).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(*key.intents.ever.lock().unwrap(), sent);

    key.node.lose();
    let resumed = key.resume();
    let again = handed_over(&key.node, 4).await;
    assert_eq!(again[3], sent[2], "the newest, with the same bytes");
    let more = handed_over(&key.node, 5).await;
    let kept = key.intents.kept();
    assert_eq!(
        kept.iter().map(|kept| &kept.raw).collect::<Vec<_>>(),
        [&sent[0], &sent[1], &sent[2], &more[4],]
    );
    assert!(kept.iter().all(|kept| (kept.nonce, kept.call.as_str()) == (NONCE, "approve")));
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.node.mined(), [kept[3].transaction]);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_cannot_be_written_down_is_not_made() {
    let key = Key::new();
    let call = key.submit(1);
    handed_over(&key.node, 1).await;
    key.intents.fail(Some("intend"));
    let waited = call.await.unwrap();
    assert!(matches!(waited, Err(WriteError::NotMined { .. })), "{waited:?}");
    assert_eq!(key.node.handed_over().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_was_taken_without_an_answer_counts() {
    let key = Key::new();
    let call = key.submit(1);
    handed_over(&key.node, 1).await;
    key.node.lose_answers(true);
    handed_over(&key.node, 2).await;
    key.node.lose_answers(false);
    let raised = key.intents.kept()[1].transaction;
    key.node.mine();
    assert_eq!(key.node.mined(), [raised]);
    assert_eq!(call.await.unwrap().unwrap().transaction, raised);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn an_older_form_that_was_mined_counts() {
    let key = Key::new();
    let first = key.interrupted_offer().await;
    key.node.mine();
    key.resume().await.unwrap().unwrap();
    assert_eq!(key.intents.kept(), []);
    assert_eq!((key.node.mined(), key.node.handed_over().len()), (vec![first], 1));
}

#[tokio::test(start_paused = true)]
async fn an_older_form_that_the_node_has_is_waited_for_where_it_takes_no_newer() {
    let key = Key::new();
    let first = key.interrupted_offer().await;
    key.node.refuse(Some("replacement transaction underpriced"));
    let resumed = key.resume();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!resumed.is_finished());
    key.node.mine();
    resumed.await.unwrap().unwrap();
    assert_eq!(key.node.mined(), [first]);
    assert_eq!(key.intents.kept(), []);
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_sent_before_the_earlier_ones_have_ended() {
    let key = Key::new();
    let intent = key.interrupted(1).await;
    let account = key.account();
    let resumed = tokio::spawn({
        let account = account.clone();
        async move { account.resume().await }
    });
    handed_over(&key.node, 1).await;
    let later = tokio::spawn(async move { account.submit(approve(2)).await });
    key.node.asked("eth_getBalance", 2).await;
    // The clock of the test moves only when nobody has anything to do.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(key.node.handed_over(), [intent.raw]);
    key.node.mine();
    resumed.await.unwrap().unwrap();
    handed_over(&key.node, 2).await;
    key.node.mine();
    let mined = later.await.unwrap().unwrap();
    assert_eq!(key.node.mined(), [intent.transaction, mined.transaction]);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_writes_nothing_down_has_nothing_to_take_up() {
    let key = Key::new();
    key.interrupted(1).await;
    let connection = Connection::new(key.node.client(), Duration::from_secs(1));
    let account = MarketClient::new(connection, market(0)).account(key.wallet.clone());
    let asked = key.node.questions();
    account.resume().await.unwrap();
    assert_eq!(key.node.questions(), asked);
    assert_eq!(key.intents.kept().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_transaction_of_the_account_is_not_sent() {
    let key = Key::new();
    let own: PrivateKeySigner = key.wallet.to_hex().parse().unwrap();
    let form = |signer: &PrivateKeySigner, chain_id, nonce| {
        let max_fee_per_gas = 1_000_000;
        let mut offer = TxEip1559 { chain_id, nonce, max_fee_per_gas, ..Default::default() };
        let signature = signer.sign_transaction_sync(&mut offer).unwrap();
        TxEnvelope::from(offer.into_signed(signature))
    };
    let written = |form: &TxEnvelope| Intent {
        account: key.wallet.address(),
        nonce: NONCE,
        call: "approve".into(),
        transaction: *form.tx_hash(),
        raw: form.encoded_2718().into(),
    };
    let right = written(&form(&own, market(0).chain_id, NONCE));
    let damaged = [
        written(&form(&PrivateKeySigner::random(), market(0).chain_id, NONCE)),
        written(&form(&own, 1, NONCE)),
        written(&form(&own, market(0).chain_id, NONCE + 1)),
        Intent { transaction: B256::ZERO, ..right.clone() },
        Intent { raw: Bytes::new(), ..right.clone() },
        Intent { raw: [&right.raw[..], &[0]].concat().into(), ..right.clone() },
    ];
    for intent in damaged {
        *key.intents.kept.lock().unwrap() = vec![intent.clone()];
        let refused = key.resume().await.unwrap();
        assert!(matches!(refused, Err(WriteError::Intent { .. })), "{intent:?}: {refused:?}");
        assert_eq!(key.intents.kept(), [intent]);
    }
    assert_eq!(key.node.questions(), 0);

    *key.intents.kept.lock().unwrap() = vec![right.clone()];
    let resumed = key.resume();
    assert_eq!(handed_over(&key.node, 1).await, [right.raw]);
    key.node.mine();
    resumed.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_stops_the_account() {
    let key = Key::new();
    key.interrupted(1).await;
    key.intents.fail(Some("pending"));
    let refused = key.resume().await.unwrap();
    assert!(matches!(refused, Err(WriteError::Intent { .. })), "{refused:?}");
}
