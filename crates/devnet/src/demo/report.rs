//! What the demonstration returns.

use std::time::{Duration, Instant};

use roadstead_types::{Cid, JobId, Market, Token, TokenAmount, content};
use serde::Serialize;

use super::{DemoConfig, renter::Rented};
use crate::market::MarketContracts;

/// The result of a demonstration. Sums are whole token base units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DemoReport {
    /// Which chain it was played on, as on the command line.
    pub chain: String,
    /// Where the publisher kept its blocks, likewise.
    pub store: String,
    /// What ran the container, likewise.
    pub engine: String,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Where the contracts are.
    pub contracts: MarketContracts,
    /// The job.
    pub job: JobId,
    /// The graph of the sealed image's blocks.
    #[serde(with = "content::text")]
    pub image_root: Cid,
    /// The sealed bundle.
    #[serde(with = "content::text")]
    pub bundle: Cid,
    /// Where the service was called.
    pub url: String,
    /// HTTP status of its answer.
    pub http_status: u16,
    /// What the publisher put in.
    pub deposit: TokenAmount,
    /// What the provider got.
    pub paid: TokenAmount,
    /// What came back into the publisher's wallet: `deposit - paid`.
    pub refunded: TokenAmount,
    /// How many receipts the provider signed.
    pub receipts: u32,
    /// How many bills the publisher's agent accepted: one for each receipt.
    pub vouchers: u32,
    /// How often the provider took pay on chain, the last time when the job was closed.
    pub settlements: u32,
    /// That the bill was recomputed from the receipts and agrees with what was paid; a demonstration whose bill does not
    /// has failed.
    pub bill_verified: bool,
    /// How long each stage took.
    pub timings_ms: DemoTimings,
    /// For people: how to show sums.
    #[serde(skip)]
    pub token: Token,
}

/// Wall-clock milliseconds of each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DemoTimings {
    /// Chain started, contracts deployed, accounts funded.
    pub market: u64,
    /// Provider registered, daemon started.
    pub register: u64,
    /// Image read, checked and sealed into the publisher's store.
    pub seal: u64,
    /// Blocks made durable, bundle sealed.
    pub publish: u64,
    /// Job opened, the approval included.
    pub open: u64,
    /// At the provider: from the event until the container ran. It may begin before the publisher has its receipt.
    pub deploy: u64,
    /// Until the service had answered.
    pub first_response: u64,
    /// Until enough was metered, accepted and paid.
    pub metering: u64,
    /// Order, last bill, refund and withdrawal.
    pub close: u64,
}

impl DemoReport {
    pub(super) fn new(
        config: &DemoConfig,
        market: &Market,
        rented: &Rented,
        clock: &Stopwatch,
    ) -> Self {
        Self {
            chain: config.chain.to_string(),
            store: config.store.to_string(),
            engine: config.engine.to_string(),
            chain_id: market.chain_id,
            contracts: market.into(),
            job: rented.job,
            image_root: rented.image.root,
            bundle: rented.bundle,
            url: rented.url.clone(),
            http_status: rented.answer.status,
            deposit: rented.money.deposit,
            paid: rented.money.paid,
            refunded: rented.money.refunded,
            receipts: rented.bill.receipts,
            vouchers: rented.vouchers,
            settlements: rented.settlements,
            bill_verified: true,
            timings_ms: clock.timings,
            token: market.token.clone(),
        }
    }
}

/// Measures the stages, one after the other.
pub(super) struct Stopwatch {
    lap_started: Instant,
    timings: DemoTimings,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { lap_started: Instant::now(), timings: DemoTimings::default() }
    }

    /// Ends the current stage, which is the one that `stage` names.
    pub(super) fn lap(&mut self, stage: fn(&mut DemoTimings) -> &mut u64) {
        self.note(stage, self.lap_started.elapsed());
    }

    /// Ends a stage that was measured elsewhere.
    pub(super) fn note(&mut self, stage: fn(&mut DemoTimings) -> &mut u64, took: Duration) {
        *stage(&mut self.timings) = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.lap_started = Instant::now();
    }
}
