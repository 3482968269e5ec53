//! The publisher's side of the demonstration.

use std::{path::Path, sync::Arc, time::Duration};

use alloy_primitives::{Address, U256};
use roadstead_core::{
    Cursor, JobEvent, cost_of,
    ports::{ChainError, ContentStore, EventFilter, Party},
    protocol::JobPhase,
    rate_per_hour,
};
use roadstead_journal::StateFolder;
use roadstead_publisher::{
    Agent, AgentError, AgentEvent, AgentKeys, AgentLimits, Closed, Deal, Keys, OpenRequest, Ports,
    Prepared, SealedImage, VerifiedBill, close, open, provider_key, provider_profile, publish,
    seal, verify_job, wire, withdraw,
};
use roadstead_types::{Cid, JobId, JobStatus, Market, Seconds, Terms, TokenAmount};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    DEPLOY_PATIENCE, DemoConfig, DemoError, DemoEvent, PATIENCE,
    call::{Answer, call},
    report::Stopwatch,
};
use crate::market::LocalMarket;

/// Token base units: two test dollars; more where that does not last for [`DEPOSIT_SPAN`].
const DEPOSIT: u128 = 2_000_000;
/// How long the deposit lasts at full use.
const DEPOSIT_SPAN: Seconds = Seconds(300);
/// Token base units: a twentieth of a cent.
const START_FEE: u128 = 500;
/// One metering interval.
const INTERVAL: Seconds = Seconds(2);
/// How many receipts are accepted before the job is closed.
const RECEIPTS: u32 = 3;
/// How many bills are paid before that.
const SETTLEMENTS: u32 = 2;

/// A publisher with its wallet, its keys and its agent.
pub(super) struct Renter {
    ports: Ports,
    keys: Keys,
    market: Market,
    provider: Address,
    /// Who accepts the bills.
    signer: Address,
    source: String,
    folder: StateFolder,
    agent: JoinHandle<Result<(), AgentError>>,
    stop_agent: CancellationToken,
    known: watch::Receiver<Known>,
}

/// What the agent has learned of the one job.
#[derive(Clone, Debug, Default)]
struct Known {
    phase: Option<JobPhase>,
    url: Option<String>,
    accepted: u32,
    is_over: bool,
}

/// What a job cost, from its opening to the withdrawal of the rest.
pub(super) struct Rented {
    pub(super) job: JobId,
    pub(super) image: SealedImage,
    pub(super) bundle: Cid,
    pub(super) url: String,
    pub(super) answer: Answer,
    pub(super) money: Money,
    pub(super) bill: VerifiedBill,
    pub(super) vouchers: u32,
    pub(super) settlements: u32,
}

/// The sums of a job.
pub(super) struct Money {
    pub(super) deposit: TokenAmount,
    pub(super) paid: TokenAmount,
    pub(super) refunded: TokenAmount,
}

/// The wallets of both sides.
struct Wallets {
    publisher: U256,
    provider: U256,
}

impl Renter {
    /// Connects the publisher, whose blocks `store` keeps and `source` serves, to the market, and starts its agent.
    pub(super) async fn start(
        local: &LocalMarket,
        folder: &Path,
        store: Arc<dyn ContentStore>,
        source: &str,
        report: impl Fn(DemoEvent) + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        let folder = StateFolder::open(folder.join("publisher"))?;
        let keys = Keys::load_or_create(&folder)?;
        let agent_keys = AgentKeys::load_or_create(&folder)?;
        let market = local.market.clone();
        let ports = wire(market.clone(), local.publisher.clone(), store, &folder, &keys).await?;

        let (tell, known) = watch::channel(Known::default());
        let events = move |event| {
            tell.send_modify(|known| known.hear(&event));
            report(DemoEvent::Agent(event));
        };
        let stop_agent = CancellationToken::new();
        let agent = Agent::new(ports.agent(&agent_keys), AgentLimits::default(), events);
        let agent = tokio::spawn(agent.run(stop_agent.clone()));
        let (provider, signer) = (local.provider.address(), agent_keys.signer.address());
        Ok(Self {
            ports,
            keys,
            market,
            provider,
            signer,
            source: source.to_owned(),
            folder,
            agent,
            stop_agent,
            known,
        })
    }

    /// Seals what was chosen, opens a job for it, calls its service, lets it run for some intervals, closes the job and
    /// takes the rest back. Whatever happens in between, a job that was opened is closed.
    pub(super) async fn rent(
        &self,
        config: &DemoConfig,
        deployed: watch::Receiver<Option<Duration>>,
        stop: &CancellationToken,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<Rented, DemoError> {
        let before = self.wallets().await?;
        let preparing = self.prepare(config, clock, report);
        let Some(prepared) = stop.run_until_cancelled(preparing).await else {
            return Err(DemoError::Interrupted { refund: None });
        };
        let (image, grace, Prepared { plan, bundle }) = prepared?;

        let (job, deposit, terms) = (plan.key.job, plan.deposit, &plan.terms);
        report(DemoEvent::Opening { job, deposit });
        if let Err(error) = open(&self.ports, OpenRequest::from(&plan)).await {
            // What went wrong may have gone wrong after the job was opened.
            if self.ports.reader.job(job).await?.status() == JobStatus::Open {
                self.leave(terms, grace, report).await?;
            }
            return Err(error.into());
        }
        clock.lap(|timings| &mut timings.open);

        let using = self.use_service(job, terms, deployed, clock, report);
        let used = stop.run_until_cancelled(using).await;

        let left = self.leave(terms, grace, report).await;
        clock.lap(|timings| &mut timings.close);
        let (url, answer) = match used {
            Some(Ok(used)) => used,
            // Why the service failed says more than that it could not be left.
            Some(Err(error)) => return Err(error),
            None => return Err(DemoError::Interrupted { refund: Some(left?.1) }),
        };
        let (paid, refunded) = left?;
        let after = self.wallets().await?;
        let money = Money { deposit, paid, refunded };
        money.check(&before, &after)?;
        let bill = verify_job(&self.ports, job).await?;
        report(DemoEvent::Verified(bill));
        let settlements = self.settlements(job, terms).await?;
        let vouchers = self.known.borrow().accepted;
        Ok(Rented { job, image, bundle, url, answer, money, bill, vouchers, settlements })
    }

    /// Everything before the transaction.
    async fn prepare(
        &self,
        config: &DemoConfig,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<(SealedImage, Duration, Prepared), DemoError> {
        let key = provider_key(&self.ports, self.provider).await?;
        let prices = provider_profile(&self.ports, self.provider).await?.prices;
        let chosen = config.workload.read(self.folder.path().join("image")).await?;
        let containers = chosen.workload.containers.iter();
        let graces = containers.map(|each| Duration::from(each.container.stop_grace_period));
        let grace = graces.max().unwrap_or_default();
        let rate = rate_per_hour(&chosen.workload.reservation, &prices);
        let lasting = rate.map(|rate| cost_of(rate, DEPOSIT_SPAN)).unwrap_or_default();
        let progress = |progress| report(DemoEvent::Sealing(progress));
        let sealed =
            seal(&self.ports, &self.keys, chosen.workload, &chosen.folder, progress).await?;
        let image = sealed.images.first().cloned().ok_or(DemoError::NoPort)?;
        report(DemoEvent::Sealed(image.clone()));
        clock.lap(|timings| &mut timings.seal);
        let amount = |units| TokenAmount::new(units).expect("far below 2^96");
        let deal = Deal {
            provider: self.provider,
            signer: self.signer,
            deposit: amount(DEPOSIT).max(lasting),
            prices,
            interval: INTERVAL,
            start_fee: amount(START_FEE),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            source: self.source.clone(),
        };
        let prepared = publish(&self.ports, &self.keys, &self.market, &sealed, &key, &deal).await?;
        clock.lap(|timings| &mut timings.publish);
        Ok((image, grace, prepared))
    }

    /// Waits until the service runs, calls it, and waits until enough of it was metered, accepted and paid.
    async fn use_service(
        &self,
        job: JobId,
        terms: &Terms,
        mut deployed: watch::Receiver<Option<Duration>>,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<(String, Answer), DemoError> {
        let mut known = self.known.clone();
        let running = known.wait_for(Known::is_decided);
        let decided = match timeout(DEPLOY_PATIENCE, running).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) => return Err(DemoError::Gone),
            Err(_) => {
                let what = "did not bring the container to run";
                return Err(DemoError::Silent { what, within: DEPLOY_PATIENCE });
            }
        };
        match decided.phase {
            Some(JobPhase::Running) => {}
            Some(JobPhase::Refused { reason }) => return Err(DemoError::Refused { reason }),
            _ => return Err(DemoError::Refused { reason: "it gave the money back".into() }),
        }
        let after = deployed.wait_for(Option::is_some).await;
        let after = after.map_err(|_| DemoError::Gone)?.unwrap_or_default();
        clock.note(|timings| &mut timings.deploy, after);
        let url = decided.url.ok_or(DemoError::NoPort)?;
        let answer = timeout(PATIENCE, async { Ok(call(&url).await?) }).await;
        let silent = |what| DemoError::Silent { what, within: PATIENCE };
        let answer = answer.unwrap_or(Err(silent("did not let the service be called")))?;
        report(DemoEvent::Answered { url: url.clone(), answer: answer.clone() });
        clock.lap(|timings| &mut timings.first_response);

        let metered = async {
            let accepted = known.wait_for(|known| known.accepted >= RECEIPTS).await;
            accepted.map_err(|_| DemoError::Gone)?;
            while self.settlements(job, terms).await? < SETTLEMENTS {
                sleep(self.ports.poll_interval).await;
            }
            Ok(())
        };
        let silent = silent("did not meter and take its pay");
        timeout(PATIENCE, metered).await.unwrap_or(Err(silent))?;
        clock.lap(|timings| &mut timings.metering);
        Ok((url, answer))
    }

    /// How often the provider took pay, as the chain has it.
    async fn settlements(&self, job: JobId, terms: &Terms) -> Result<u32, ChainError> {
        let filter = EventFilter { party: Party::Publisher(terms.publisher), jobs: vec![job] };
        let (mut cursor, mut settlements) = (Cursor::starting_at(self.market.from_block), 0);
        loop {
            let batch = match self.ports.events.events_after(&cursor, &filter).await {
                Ok(batch) => batch,
                Err(error) if error.is_retryable() => {
                    sleep(self.ports.poll_interval).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for event in &batch.events {
                if matches!(event.item, (id, JobEvent::Settled { .. }) if id == job) {
                    settlements += 1;
                }
            }
            if batch.cursor == cursor {
                return Ok(settlements);
            }
            cursor = batch.cursor;
        }
    }

    /// Closes the job and withdraws the refund.
    async fn leave(
        &self,
        terms: &Terms,
        grace: Duration,
        report: &impl Fn(DemoEvent),
    ) -> Result<(TokenAmount, TokenAmount), DemoError> {
        report(DemoEvent::Closing);
        // The container is given its time to stop before the job is closed.
        let within = PATIENCE + grace;
        let told = |event| report(DemoEvent::Leaving(event));
        match close(&self.ports, terms, self.market.from_block, within, told).await? {
            Closed::NoticeRuns { .. } => {
                Err(DemoError::Silent { what: "did not end the job after the notice", within })
            }
            Closed::Closed { paid, refund, .. } => {
                let withdrawn = withdraw(&self.ports).await?;
                equal("the withdrawal", withdrawn.amount.into(), refund.into())?;
                report(DemoEvent::Refunded { amount: refund });
                Ok((paid, refund))
            }
        }
    }

    async fn wallets(&self) -> Result<Wallets, ChainError> {
        let balance = async |account: Address| self.ports.reader.token_balance(account).await;
        Ok(Wallets {
            publisher: balance(self.ports.writer.account()).await?,
            provider: balance(self.provider).await?,
        })
    }

    /// Ends the agent.
    pub(super) async fn shutdown(self) -> Result<(), DemoError> {
        self.stop_agent.cancel();
        let ended = self.agent.await;
        match ended {
            Ok(ended) => Ok(ended?),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

impl Known {
    fn hear(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::State { state, .. } => {
                self.phase = Some(state.phase.clone());
                if let Some(url) = state.urls.values().next() {
                    self.url = Some(url.clone());
                }
            }
            AgentEvent::Accepted { .. } => self.accepted += 1,
            AgentEvent::Finished { .. } => self.is_over = true,
            _ => {}
        }
    }

    /// Whether the service can be called, or never will be.
    fn is_decided(&self) -> bool {
        self.is_over || matches!(self.phase, Some(JobPhase::Running | JobPhase::Refused { .. }))
    }
}

impl Money {
    /// What left the publisher's wallet is what reached the provider's, and all of it was paid by the job.
    fn check(&self, before: &Wallets, after: &Wallets) -> Result<(), DemoError> {
        let (deposit, paid): (U256, U256) = (self.deposit.into(), self.paid.into());
        let spent = before.publisher.saturating_sub(after.publisher);
        let earned = after.provider.saturating_sub(before.provider);
        equal("the deposit", deposit, paid + U256::from(self.refunded.units()))?;
        equal("what the publisher spent", spent, paid)?;
        equal("what the provider earned", earned, paid)
    }
}

fn equal(what: &'static str, found: U256, expected: U256) -> Result<(), DemoError> {
    if found == expected { Ok(()) } else { Err(DemoError::Books { what, found, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_too_much_or_too_little_is_noticed() {
        let amount = |units| TokenAmount::new(units).unwrap();
        let wallets = |publisher: u64, provider: u64| Wallets {
            publisher: U256::from(publisher),
            provider: U256::from(provider),
        };
        let money = |paid, refunded| Money {
            deposit: amount(100),
            paid: amount(paid),
            refunded: amount(refunded),
        };
        let before = wallets(1_000, 7);
        money(30, 70).check(&before, &wallets(970, 37)).unwrap();
        for (money, after) in [
            (money(30, 69), wallets(970, 37)),
            (money(30, 70), wallets(969, 37)),
            (money(30, 70), wallets(970, 38)),
            (money(30, 70), wallets(1_030, 37)),
        ] {
            assert!(matches!(money.check(&before, &after), Err(DemoError::Books { .. })));
        }
    }
}
