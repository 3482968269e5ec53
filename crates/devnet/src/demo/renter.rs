//! The publisher's side of the demonstration.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alloy_primitives::{Address, Bytes, U256};
use roadstead_core::ports::{ChainError, ContentStore};
use roadstead_journal::StateFolder;
use roadstead_publisher::{
    Closed, Deal, Keys, OpenRequest, Ports, Prepared, SealedImage, close, open, provider_key,
    publish, seal, wire, withdraw,
};
use roadstead_store::{EmbeddedStore, Gateway};
use roadstead_types::{Cid, JobId, JobStatus, Market, Seconds, Terms, TokenAmount};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    DEPLOY_PATIENCE, DemoConfig, DemoError, DemoEvent, PATIENCE,
    call::{Answer, call},
    host::{Service, prices},
    report::Stopwatch,
};
use crate::market::LocalMarket;

/// Token base units: two test dollars.
const DEPOSIT: u128 = 2_000_000;
/// Token base units: five cents.
const START_FEE: u128 = 50_000;
/// One metering interval.
const INTERVAL: Seconds = Seconds(2);

/// A publisher with its wallet, its keys, and a store that serves its blocks.
pub(super) struct Renter {
    ports: Ports,
    keys: Keys,
    market: Market,
    provider: Address,
    gateway: Gateway,
    folder: StateFolder,
}

/// What a job cost, from its opening to the withdrawal of the rest.
pub(super) struct Rented {
    pub(super) job: JobId,
    pub(super) image: SealedImage,
    pub(super) bundle: Cid,
    pub(super) url: String,
    pub(super) answer: Answer,
    pub(super) money: Money,
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
    /// Connects the publisher to the market and serves its blocks on this machine.
    pub(super) async fn start(local: &LocalMarket, folder: &Path) -> Result<Self, DemoError> {
        let folder = StateFolder::open(folder.join("publisher"))?;
        let keys = Keys::load_or_create(&folder)?;
        let store = EmbeddedStore::open(folder.path().join("blocks"));
        let store: Arc<dyn ContentStore> = Arc::new(store.map_err(DemoError::Store)?);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let gateway = Gateway::serve(store.clone(), any, &CancellationToken::new()).await?;
        let ports = wire(local.market.clone(), local.publisher.clone(), store).await?;
        let provider = local.provider.address();
        Ok(Self { ports, keys, market: local.market.clone(), provider, gateway, folder })
    }

    /// Seals what was chosen, opens a job for it, calls its service, closes the job and takes the rest back. Whatever
    /// happens in between, a job that was opened is closed.
    pub(super) async fn rent(
        &self,
        config: &DemoConfig,
        service: watch::Receiver<Service>,
        stop: &CancellationToken,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<Rented, DemoError> {
        let before = self.wallets().await?;
        let preparing = self.prepare(config, clock, report);
        let Some(prepared) = stop.run_until_cancelled(preparing).await else {
            return Err(DemoError::Interrupted { refund: None });
        };
        let (image, grace, Prepared { terms, source, bundle }) = prepared?;

        let deposit = TokenAmount::new(DEPOSIT).expect("far below 2^96");
        let job = self.ports.reader.job_id(&terms);
        report(DemoEvent::Opening { job, deposit });
        let source = Bytes::from(source.into_bytes());
        let request = OpenRequest { terms: terms.clone(), deposit, source };
        if let Err(error) = open(&self.ports, request).await {
            // What went wrong may have gone wrong after the job was opened.
            if self.ports.reader.job(job).await?.status() == JobStatus::Open {
                self.leave(&terms, grace, report).await?;
            }
            return Err(error.into());
        }
        clock.lap(|timings| &mut timings.open);

        let using = self.use_service(job, &terms, service, clock, report);
        let used = stop.run_until_cancelled(using).await;

        let left = self.leave(&terms, grace, report).await;
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
        Ok(Rented { job, image, bundle, url, answer, money })
    }

    /// Everything before the transaction.
    async fn prepare(
        &self,
        config: &DemoConfig,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<(SealedImage, Duration, Prepared), DemoError> {
        let key = provider_key(&self.ports, self.provider).await?;
        let chosen = config.workload.read(self.folder.path().join("image")).await?;
        let containers = chosen.workload.containers.iter();
        let graces = containers.map(|each| Duration::from(each.container.stop_grace_period));
        let grace = graces.max().unwrap_or_default();
        let progress = |progress| report(DemoEvent::Sealing(progress));
        let sealed =
            seal(&self.ports, &self.keys, chosen.workload, &chosen.folder, progress).await?;
        let image = sealed.images.first().cloned().ok_or(DemoError::NoPort)?;
        report(DemoEvent::Sealed(image.clone()));
        clock.lap(|timings| &mut timings.seal);
        let deal = Deal {
            provider: self.provider,
            signer: self.ports.writer.account(),
            prices: prices(),
            interval: INTERVAL,
            start_fee: TokenAmount::new(START_FEE).expect("far below 2^96"),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            source: self.gateway.url(),
        };
        let prepared = publish(&self.ports, &self.keys, &self.market, &sealed, &key, &deal).await?;
        clock.lap(|timings| &mut timings.publish);
        Ok((image, grace, prepared))
    }

    /// Waits until the service runs, calls it, and waits until it has cost its start fee.
    async fn use_service(
        &self,
        job: JobId,
        terms: &Terms,
        mut service: watch::Receiver<Service>,
        clock: &mut Stopwatch,
        report: &(impl Fn(DemoEvent) + Sync),
    ) -> Result<(String, Answer), DemoError> {
        let known = service.wait_for(|service| !matches!(service, Service::Awaited));
        let known = match timeout(DEPLOY_PATIENCE, known).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) => return Err(DemoError::Gone),
            Err(_) => Service::Awaited,
        };
        let (urls, after) = match known {
            Service::Running { urls, after } => (urls, after),
            Service::Refused(refusal) => return Err(DemoError::Refused(refusal)),
            Service::Awaited => {
                let what = "did not bring the container to run";
                return Err(DemoError::Silent { what, within: DEPLOY_PATIENCE });
            }
        };
        clock.note(|timings| &mut timings.deploy, after);
        let url = urls.into_values().next().ok_or(DemoError::NoPort)?;
        let answer = timeout(PATIENCE, call(&url)).await;
        let silent = |what| DemoError::Silent { what, within: PATIENCE };
        let answer = answer.unwrap_or(Err(silent("did not let the service be called")))?;
        report(DemoEvent::Answered { url: url.clone(), answer: answer.clone() });
        clock.lap(|timings| &mut timings.first_response);

        let paid = async {
            while self.ports.reader.job(job).await?.paid < terms.start_fee {
                sleep(self.ports.poll_interval).await;
            }
            Ok(())
        };
        let silent = silent("did not take its start fee");
        timeout(PATIENCE, paid).await.unwrap_or(Err(silent))?;
        clock.lap(|timings| &mut timings.start_fee);
        Ok((url, answer))
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
        match close(&self.ports, terms, self.market.from_block, within).await? {
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

    /// Ends the service of its blocks.
    pub(super) async fn shutdown(self) {
        self.gateway.shutdown().await;
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
