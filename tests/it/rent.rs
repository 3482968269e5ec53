//! A job that is metered: a daemon, an agent and the network between them, on a chain that mines every second.

use std::{ops::Range, time::Duration};

use alloy::{primitives::U256, providers::Provider, sol_types::SolCall};
use roadstead_abi::{Payment, TestToken};
use roadstead_core::{Offer, SettlePolicy};
use roadstead_devnet::{Blocks, ChainChoice};
use roadstead_net::JobServer;
use roadstead_provider::ProviderEvent;
use roadstead_publisher::{
    Agent, AgentError, AgentEvent, AgentLimits, OpenRequest, Ports, VerifiedBill, open, verify_job,
};
use roadstead_types::{InstanceId, JobPlan, Resources, Seconds, TokenAmount};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    daemon::Running,
    market::{PATIENCE, TestMarket, amount, offer},
};

/// The service's 16 MiB of memory and 4 MiB of storage cost 20 units a second.
const PRICES: Resources<u128> = Resources {
    cpu: 1_000_000_000,
    memory: 1_000_000_000_000,
    storage: 1_000_000_000_000,
    network_in: 1_000,
    network_out: 1_000,
    accelerator: 0,
};

/// The length of an interval, in seconds.
pub(crate) const INTERVAL: u64 = 60;

/// An agent that runs, and what it says.
pub(crate) struct Following {
    events: mpsc::Receiver<AgentEvent>,
    task: JoinHandle<Result<(), AgentError>>,
    stop: CancellationToken,
}

impl Following {
    pub(crate) async fn start(market: &TestMarket) -> Self {
        let ports = market.publisher().await.agent(&market.agent_keys());
        let (said, events) = mpsc::channel(10_000);
        let report = move |event| said.try_send(event).unwrap();
        let stop = CancellationToken::new();
        let agent = Agent::new(ports, AgentLimits::default(), report);
        Self { events, task: tokio::spawn(agent.run(stop.clone())), stop }
    }

    pub(crate) async fn until(&mut self, what: impl Fn(&AgentEvent) -> bool) -> AgentEvent {
        let mut heard = Vec::new();
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the agent runs");
                if what(&event) {
                    return event;
                }
                heard.push(event);
            }
        };
        let found = timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("in vain; it said {heard:#?}"))
    }

    /// Waits until the receipt with this number is accepted.
    pub(crate) async fn accepts(&mut self, seq: u32) -> TokenAmount {
        let is_it = |event: &AgentEvent| matches!(event, AgentEvent::Accepted { receipt, .. } if receipt.seq == seq);
        match self.until(is_it).await {
            AgentEvent::Accepted { accepted, .. } => accepted,
            _ => unreachable!(),
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// One job that runs.
pub(crate) struct Rent {
    pub(crate) market: TestMarket,
    pub(crate) publisher: Ports,
    pub(crate) plan: JobPlan,
    pub(crate) daemon: Running,
    pub(crate) server: JobServer,
}

impl Rent {
    /// Opens a job with this deposit and waits until it runs.
    pub(crate) async fn start(deposit: u128) -> Self {
        Self::start_with(deposit, metering()).await
    }

    pub(crate) async fn start_with(deposit: u128, offer: Offer) -> Self {
        let blocks = Blocks::Every(Duration::from_secs(1));
        let market = TestMarket::start_with(&ChainChoice::Embedded, blocks).await;
        let (mut daemon, server) = Running::listening(&market, offer).await;
        let deal = roadstead_publisher::Deal {
            deposit: amount(deposit),
            prices: PRICES,
            interval: Seconds(u32::try_from(INTERVAL).unwrap()),
            start_fee: amount(100),
            ..market.deal(1)
        };
        let plan = market.prepare(deal).await.plan;
        let publisher = market.publisher().await;
        open(&publisher, OpenRequest::from(&plan)).await.unwrap();
        daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
        Self { market, publisher, plan, daemon, server }
    }

    pub(crate) fn instance(&self) -> InstanceId {
        InstanceId::first(self.plan.key.job)
    }

    /// Lets one interval pass.
    pub(crate) async fn interval(&self) {
        self.market.pass(INTERVAL).await;
    }

    /// Lets an interval pass for each of these receipts, and waits until the agent accepts it.
    pub(crate) async fn accepted_for(&self, receipts: Range<u32>, agent: &mut Following) {
        for seq in receipts {
            self.interval().await;
            agent.accepts(seq).await;
        }
    }

    /// Waits until the provider has signed the receipt with this number.
    pub(crate) async fn signs(&mut self, seq: u32) {
        let is_it = |event: &ProviderEvent| matches!(event, ProviderEvent::ReceiptSigned { receipt, .. } if receipt.seq == seq);
        self.daemon.until(is_it).await;
    }

    /// Ends the provider as a crash does, and starts it anew; `between` happens while it is away.
    pub(crate) async fn restart(&mut self, between: impl AsyncFnOnce(&TestMarket)) {
        self.server.shutdown().await;
        self.daemon.kill().await;
        between(&self.market).await;
        (self.daemon, self.server) = Running::listening(&self.market, metering()).await;
        self.daemon.until(|event| matches!(event, ProviderEvent::Running { .. })).await;
    }

    /// Adds to the deposit, from a client of no crate of ours.
    pub(crate) async fn top_up(&self, more: u64) {
        let market = self.market.market();
        let wallet = self.market.foreign(&self.market.local.publisher);
        let approve =
            TestToken::approveCall { spender: market.contracts.payment, value: U256::from(more) };
        let top_up = Payment::topUpCall {
            job: self.plan.key.job.0,
            amount: alloy::primitives::Uint::from(more),
        };
        for (to, data) in [
            (market.token.address, approve.abi_encode()),
            (market.contracts.payment, top_up.abi_encode()),
        ] {
            let request =
                alloy::rpc::types::TransactionRequest::default().to(to).input(data.into());
            let sent = wallet.send_transaction(request).await.unwrap();
            assert!(sent.get_receipt().await.unwrap().status());
        }
    }

    /// Closes the job and checks the bill and the books; returns what it cost.
    pub(crate) async fn close(&self) -> VerifiedBill {
        let closed = self.market.close(&self.publisher, &self.plan.terms).await;
        let roadstead_publisher::Closed::Closed { job, paid, refund, .. } = closed else {
            panic!("{closed:?}");
        };
        let bill = verify_job(&self.publisher, job).await.unwrap();
        assert_eq!(bill.paid, paid);
        assert_eq!(paid.checked_add(refund), Some(self.deposit().await));
        bill
    }

    async fn deposit(&self) -> TokenAmount {
        let client = &self.publisher;
        let filter = roadstead_core::ports::EventFilter {
            party: roadstead_core::ports::Party::Publisher(self.plan.terms.publisher),
            jobs: vec![self.plan.key.job],
        };
        let mut cursor = roadstead_core::Cursor::starting_at(client.from_block);
        let mut deposit = TokenAmount::ZERO;
        loop {
            let batch = client.events.events_after(&cursor, &filter).await.unwrap();
            for event in &batch.events {
                match &event.item.1 {
                    roadstead_core::JobEvent::Opened(opening) => deposit = opening.deposit,
                    roadstead_core::JobEvent::ToppedUp { deposit: now } => deposit = *now,
                    _ => {}
                }
            }
            if batch.cursor == cursor {
                return deposit;
            }
            cursor = batch.cursor;
        }
    }
}

/// A provider that takes its pay as soon as there is any.
pub(crate) fn metering() -> Offer {
    Offer { settle: SettlePolicy { value: amount(1), age: Seconds(10) }, ..offer() }
}
