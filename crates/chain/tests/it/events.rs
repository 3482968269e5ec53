use std::time::Duration;

use alloy::{
    primitives::{Address, B256, LogData},
    sol_types::SolEvent,
};
use proptest::prelude::*;
use roadstead_abi::{Payment, job_id};
use roadstead_chain::{Connection, MarketClient};
use roadstead_core::{
    Cursor, JobBook, JobEvent,
    ports::{ChainError, ChainEvents, EventFilter, Party},
};
use roadstead_types::{
    Contracts, Domain, JobId, JobStatus, Market, Seconds, Terms, Timestamp, Token, TokenAmount,
};

use crate::node::{Node, timestamp};

const PAYMENT: Address = Address::repeat_byte(0xaa);
const PROVIDER: Address = Address::repeat_byte(0x22);

pub(crate) fn market(confirmations: u64) -> Market {
    Market {
        devnet: true,
        chain_id: 31_337,
        genesis: B256::ZERO,
        rpc: vec!["in process".into()],
        contracts: Contracts { registry: Address::repeat_byte(0xbb), payment: PAYMENT },
        token: Token { address: Address::repeat_byte(0xcc), symbol: "RTD".into(), decimals: 6 },
        from_block: 1,
        confirmations,
    }
}

fn client(node: &Node, confirmations: u64) -> MarketClient {
    let connection = Connection::new(node.client(), Duration::from_millis(1));
    let market = Market { genesis: node.genesis(), ..market(confirmations) };
    MarketClient::new(connection, market)
}

fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units).unwrap()
}

fn terms(salt: u64, provider: Address) -> Terms {
    Terms {
        publisher: Address::repeat_byte(0x11),
        provider,
        signer: Address::repeat_byte(0x33),
        rate_per_hour: amount(3_600),
        start_fee: amount(30),
        notice: Seconds::from_hours(24),
        window: Seconds(0),
        salt,
        bundle: B256::ZERO,
    }
}

fn id(salt: u64, provider: Address) -> JobId {
    job_id(&Domain { chain: 31_337, contract: PAYMENT }, &terms(salt, provider))
}

fn opened(salt: u64, provider: Address) -> (Address, LogData) {
    let terms = terms(salt, provider);
    let event = Payment::Opened {
        provider: terms.provider,
        publisher: terms.publisher,
        signer: terms.signer,
        job: id(salt, provider).0,
        terms: (&terms).into(),
        deposit: amount(1_000).into(),
        source: Default::default(),
    };
    (PAYMENT, event.encode_log_data())
}

fn paid(salt: u64, units: u128) -> (Address, LogData) {
    let event = Payment::StartFeePaid { job: id(salt, PROVIDER).0, paid: amount(units).into() };
    (PAYMENT, event.encode_log_data())
}

fn closed(salt: u64) -> (Address, LogData) {
    let event = Payment::Closed {
        job: id(salt, PROVIDER).0,
        paid: amount(30).into(),
        refund: amount(970).into(),
    };
    (PAYMENT, event.encode_log_data())
}

/// A client with its book and cursor.
struct Follower {
    client: MarketClient,
    book: JobBook,
    cursor: Cursor,
}

impl Follower {
    fn new(node: &Node, confirmations: u64) -> Self {
        let client = client(node, confirmations);
        Self { client, book: JobBook::default(), cursor: Cursor::starting_at(1) }
    }

    /// Polls, and again where that may help.
    async fn poll(&mut self) -> Result<(), ChainError> {
        let mut polled = self.poll_once().await;
        for _ in 0..20 {
            match &polled {
                Err(error) if error.is_retryable() => polled = self.poll_once().await,
                _ => break,
            }
        }
        polled
    }

    async fn poll_once(&mut self) -> Result<(), ChainError> {
        let jobs = self.book.jobs().map(|(id, _)| id).collect();
        let filter = EventFilter { party: Party::Provider(PROVIDER), jobs };
        let batch = self.client.events_after(&self.cursor, &filter).await?;
        self.cursor = batch.cursor.clone();
        self.book.apply(batch);
        Ok(())
    }

    fn statuses(&self) -> Vec<(JobId, JobStatus, TokenAmount)> {
        let state = |record: &roadstead_core::JobRecord| record.job();
        self.book.jobs().map(|(id, r)| (id, state(r).status(), state(r).paid)).collect()
    }
}

#[tokio::test]
async fn jobs_of_the_provider_are_found_and_no_others() {
    let node = Node::default();
    node.mine(0, Vec::new());
    let stranger = Address::repeat_byte(0x99);
    let elsewhere = (Address::repeat_byte(0xdd), opened(3, PROVIDER).1);
    node.mine(0, vec![opened(1, PROVIDER), opened(2, stranger), elsewhere]);
    node.mine(0, vec![paid(1, 30)]);

    let mut follower = Follower::new(&node, 0);
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses(), [(id(1, PROVIDER), JobStatus::Open, amount(30))]);
    // The block of the opening has an odd number, so its log came without a time.
    let opened_at = follower.book.job(id(1, PROVIDER)).unwrap().job().paid_until;
    assert_eq!(opened_at, Timestamp::from_block(timestamp(1)));
    assert_eq!(follower.cursor.next(), 3);
}

#[tokio::test]
async fn nothing_is_read_before_it_is_confirmed() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    node.mine(0, Vec::new());
    let mut follower = Follower::new(&node, 2);
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses(), []);
    node.mine(0, Vec::new());
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses().len(), 1);
}

#[tokio::test]
async fn an_idle_poll_asks_one_question() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    let mut follower = Follower::new(&node, 0);
    follower.poll().await.unwrap();
    let before = node.asked("eth_getBlockByNumber");
    follower.poll().await.unwrap();
    assert_eq!(node.asked("eth_getBlockByNumber"), before + 1);
    assert_eq!(node.asked("eth_getLogs"), 2);
}

#[tokio::test]
async fn a_reorganisation_undoes_what_the_chain_no_longer_has() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    let mut follower = Follower::new(&node, 0);
    follower.poll().await.unwrap();
    node.mine(0, vec![closed(1)]);
    node.mine(0, vec![opened(2, PROVIDER)]);
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses().len(), 2);

    node.undo(2);
    node.mine(1, Vec::new());
    // Shorter than what was read: the node may just lag behind, so nothing is undone yet.
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses().len(), 2);

    node.mine(1, Vec::new());
    follower.poll().await.unwrap();
    let open = [(id(1, PROVIDER), JobStatus::Open, TokenAmount::ZERO)];
    assert_eq!(follower.statuses(), open);
}

#[tokio::test]
async fn a_chain_replaced_from_the_start_is_read_again_from_the_first_block() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    let mut follower = Follower::new(&node, 0);
    follower.poll().await.unwrap();
    node.undo(1);
    node.mine(1, vec![opened(2, PROVIDER)]);
    follower.poll().await.unwrap();
    let open = [(id(2, PROVIDER), JobStatus::Open, TokenAmount::ZERO)];
    assert_eq!(follower.statuses(), open);
}

#[tokio::test]
async fn a_chain_replaced_further_back_than_remembered_is_an_error() {
    let node = Node::default();
    node.mine(0, Vec::new());
    let mut follower = Follower::new(&node, 0);
    for _ in 0..Cursor::TRAIL + 5 {
        node.mine(0, Vec::new());
        follower.poll().await.unwrap();
    }
    let height = usize::try_from(node.height()).unwrap();
    node.undo(height);
    for _ in 0..=height {
        node.mine(1, Vec::new());
    }
    let refused = follower.poll().await;
    assert!(matches!(refused, Err(ChainError::ReorganisedTooDeep { horizon: 7 })), "{refused:?}");
}

#[tokio::test]
async fn another_life_of_the_chain_is_noticed_by_its_genesis() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    let mut follower = Follower::new(&node, 0);
    follower.poll().await.unwrap();
    node.restart();
    for _ in 0..3 {
        node.mine(1, Vec::new());
    }
    let refused = follower.poll().await;
    assert!(
        matches!(refused, Err(ChainError::AnotherChain { what: "genesis hash", .. })),
        "{refused:?}"
    );
    assert_eq!(follower.statuses().len(), 1, "nothing is undone on the word of another chain");
}

#[tokio::test]
async fn a_reorganisation_in_the_middle_of_a_poll_leaves_no_trace() {
    // After each number of questions, so that every gap between two of them is hit.
    for questions in 0..8 {
        for blocks in [1, 3] {
            let node = Node::default();
            node.mine(0, Vec::new());
            let mut follower = Follower::new(&node, 0);
            follower.poll().await.unwrap();
            for salt in 0..blocks {
                node.mine(0, vec![opened(salt, PROVIDER), paid(salt, 30)]);
            }
            node.after_questions(questions, move |node| {
                node.undo(usize::try_from(blocks).unwrap());
                for salt in 0..=blocks {
                    node.mine(1, vec![opened(10 + salt, PROVIDER)]);
                }
            });
            follower.poll().await.unwrap();
            // The next poll at the latest sees the new chain whole.
            node.mine(1, Vec::new());
            follower.poll().await.unwrap();
            node.stand_still();
            follower.poll().await.unwrap();
            let mut fresh = Follower::new(&node, 0);
            fresh.poll().await.unwrap();
            assert_eq!(follower.statuses(), fresh.statuses(), "after {questions}, {blocks}");
        }
    }
}

#[tokio::test]
async fn logs_of_a_node_that_lags_behind_are_not_taken_for_none() {
    let node = Node::default();
    node.mine(0, Vec::new());
    let mut follower = Follower::new(&node, 0);
    node.mine(0, vec![opened(1, PROVIDER)]);
    node.set_log_lag(1);
    assert!(follower.poll().await.unwrap_err().is_retryable());
    node.set_log_lag(0);
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses().len(), 1);
}

#[tokio::test]
async fn a_node_that_refuses_large_answers_is_asked_for_less() {
    let node = Node::default();
    node.mine(0, Vec::new());
    for salt in 0..100 {
        node.mine(0, vec![opened(salt, PROVIDER)]);
    }
    node.limit_range(7);
    let mut follower = Follower::new(&node, 0);
    while follower.cursor.next() <= node.height() {
        follower.poll().await.unwrap();
    }
    assert_eq!(follower.statuses().len(), 100);
}

#[tokio::test]
async fn logs_that_were_not_asked_for_are_refused() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, Address::repeat_byte(0x99))]);
    node.ignore_parties();
    let refused = Follower::new(&node, 0).poll().await;
    assert!(matches!(refused, Err(ChainError::Malformed { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_node_that_is_down_loses_nothing() {
    let node = Node::default();
    node.mine(0, Vec::new());
    let mut follower = Follower::new(&node, 0);
    node.set_down(true);
    node.mine(0, vec![opened(1, PROVIDER)]);
    assert!(follower.poll().await.unwrap_err().is_retryable());
    node.set_down(false);
    follower.poll().await.unwrap();
    assert_eq!(follower.statuses().len(), 1);
}

#[tokio::test]
async fn an_opening_with_the_id_of_other_terms_is_refused() {
    let node = Node::default();
    node.mine(0, Vec::new());
    let (address, data) = opened(1, PROVIDER);
    let mut event = Payment::Opened::decode_log_data(&data).unwrap();
    event.terms.salt = 2;
    node.mine(0, vec![(address, event.encode_log_data())]);
    let refused = Follower::new(&node, 0).poll().await;
    assert!(matches!(refused, Err(ChainError::Malformed { .. })), "{refused:?}");
}

#[tokio::test]
async fn publishers_and_signers_find_their_jobs_too() {
    let node = Node::default();
    node.mine(0, Vec::new());
    node.mine(0, vec![opened(1, PROVIDER)]);
    let found = async |party| {
        let filter = EventFilter { party, jobs: Vec::new() };
        let batch = client(&node, 0).events_after(&Cursor::starting_at(1), &filter).await;
        let events = batch.unwrap().events;
        events.iter().filter(|event| matches!(event.item.1, JobEvent::Opened(_))).count()
    };
    assert_eq!(found(Party::Publisher(Address::repeat_byte(0x11))).await, 1);
    assert_eq!(found(Party::Signer(Address::repeat_byte(0x33))).await, 1);
    assert_eq!(found(Party::Signer(PROVIDER)).await, 0);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Opened,
    Paid,
    Closed,
}

/// What happens to each of three jobs in one block.
fn any_block() -> impl Strategy<Value = [Option<Event>; 3]> {
    let event = prop::sample::select(vec![Event::Opened, Event::Paid, Event::Closed]);
    prop::array::uniform3(prop::option::of(event))
}

proptest! {
    /// However often the chain is reorganised between polls: at the end the book is that of a client that reads the
    /// last chain for the first time.
    #[test]
    fn reorganisations_leave_no_trace(
        rounds in prop::collection::vec(
            (0usize..6, prop::collection::vec(any_block(), 1..8)), 1..10),
        confirmations in 0u64..3,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let node = Node::default();
            node.mine(0, Vec::new());
            let mut follower = Follower::new(&node, confirmations);
            for (fork, (undone, blocks)) in (1u8..).zip(&rounds) {
                let reached = node.height();
                node.undo(*undone);
                for block in blocks {
                    let salts = (0u64..).zip(block);
                    let logs = salts.filter_map(|(salt, event)| match event {
                        Some(Event::Opened) => Some(opened(salt, PROVIDER)),
                        Some(Event::Paid) => Some(paid(salt, u128::from(node.height()))),
                        Some(Event::Closed) => Some(closed(salt)),
                        None => None,
                    });
                    node.mine(fork, logs.collect());
                }
                while node.height() <= reached {
                    node.mine(fork, Vec::new());
                }
                follower.poll().await.unwrap();
            }
            let mut fresh = Follower::new(&node, confirmations);
            fresh.poll().await.unwrap();
            prop_assert_eq!(follower.statuses(), fresh.statuses());
            Ok(())
        })?;
    }
}
