//! The publisher's side of the demonstration.

use alloy_primitives::{Address, B256, Bytes, U256};
use roadstead_core::ports::ChainError;
use roadstead_publisher::{Closed, OpenRequest, Ports, close, open, wire, withdraw};
use roadstead_types::{JobId, JobStatus, Seconds, Terms, TokenAmount};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{DemoError, DemoEvent, PATIENCE, report::Stopwatch};
use crate::market::LocalMarket;

/// Token base units: two test dollars.
const DEPOSIT: u128 = 2_000_000;
/// Token base units: five cents.
const START_FEE: u128 = 50_000;
/// Token base units: 36 cents.
const RATE_PER_HOUR: u128 = 360_000;

/// A publisher with its wallet.
pub(super) struct Renter {
    ports: Ports,
    terms: Terms,
    from_block: u64,
}

/// What a job cost, from its opening to the withdrawal of the rest.
pub(super) struct Rented {
    pub(super) job: JobId,
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
    /// Connects the publisher to the market.
    pub(super) async fn connect(local: &LocalMarket) -> Result<Self, ChainError> {
        let ports = wire(local.market.clone(), local.publisher.clone()).await?;
        let amount = |units| TokenAmount::new(units).expect("far below 2^96");
        let publisher = local.publisher.address();
        let terms = Terms {
            publisher,
            provider: local.provider.address(),
            signer: publisher,
            rate_per_hour: amount(RATE_PER_HOUR),
            start_fee: amount(START_FEE),
            notice: Seconds::from_hours(24),
            window: Seconds(0),
            salt: 0,
            // There is no bundle yet that it could be the digest of.
            bundle: B256::ZERO,
        };
        Ok(Self { ports, terms, from_block: local.market.from_block })
    }

    /// Opens a job, waits until the provider took its start fee, closes the job and takes the rest back. Whatever
    /// happens in between, a job that was opened is closed.
    pub(super) async fn rent(
        &self,
        stop: &CancellationToken,
        clock: &mut Stopwatch,
        report: &impl Fn(DemoEvent),
    ) -> Result<Rented, DemoError> {
        let before = self.wallets().await?;
        if stop.is_cancelled() {
            return Err(DemoError::Interrupted { refund: None });
        }
        let deposit = TokenAmount::new(DEPOSIT).expect("far below 2^96");
        let job = self.ports.reader.job_id(&self.terms);
        report(DemoEvent::Opening { job, deposit });
        let request = OpenRequest { terms: self.terms.clone(), deposit, source: Bytes::new() };
        if let Err(error) = open(&self.ports, request).await {
            // What went wrong may have gone wrong after the job was opened.
            if self.ports.reader.job(job).await?.status() == JobStatus::Open {
                self.leave(report).await?;
            }
            return Err(error.into());
        }
        clock.lap(|timings| &mut timings.open);

        let served = stop.run_until_cancelled(self.wait_for_start_fee(job)).await;
        clock.lap(|timings| &mut timings.start_fee);

        let (paid, refunded) = self.leave(report).await?;
        clock.lap(|timings| &mut timings.close);
        if stop.is_cancelled() {
            return Err(DemoError::Interrupted { refund: Some(refunded) });
        }
        if let Some(Err(error)) = served {
            return Err(error);
        }
        let after = self.wallets().await?;
        let rented = Rented { job, deposit, paid, refunded };
        rented.check(&before, &after)?;
        Ok(rented)
    }

    async fn wait_for_start_fee(&self, job: JobId) -> Result<(), DemoError> {
        let paid = async {
            while self.ports.reader.job(job).await?.paid < self.terms.start_fee {
                sleep(self.ports.poll_interval).await;
            }
            Ok(())
        };
        let silent = DemoError::Silent { what: "did not take its start fee" };
        timeout(PATIENCE, paid).await.unwrap_or(Err(silent))
    }

    /// Closes the job and withdraws the refund.
    async fn leave(
        &self,
        report: &impl Fn(DemoEvent),
    ) -> Result<(TokenAmount, TokenAmount), DemoError> {
        report(DemoEvent::Closing);
        match close(&self.ports, &self.terms, self.from_block, PATIENCE).await? {
            Closed::NoticeRuns { .. } => {
                Err(DemoError::Silent { what: "did not end the job after the notice" })
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
            publisher: balance(self.terms.publisher).await?,
            provider: balance(self.terms.provider).await?,
        })
    }
}

impl Rented {
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
        let rented = |paid, refunded| Rented {
            job: JobId::default(),
            deposit: amount(100),
            paid: amount(paid),
            refunded: amount(refunded),
        };
        let before = wallets(1_000, 7);
        rented(30, 70).check(&before, &wallets(970, 37)).unwrap();
        for (rented, after) in [
            (rented(30, 69), wallets(970, 37)),
            (rented(30, 70), wallets(969, 37)),
            (rented(30, 70), wallets(970, 38)),
            (rented(30, 70), wallets(1_030, 37)),
        ] {
            assert!(matches!(rented.check(&before, &after), Err(DemoError::Books { .. })));
        }
    }
}
