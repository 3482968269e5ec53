//! Which job a request stands for, so that what was interrupted is found again and never opened twice.
//!
//! ```text
//!  request ── salt(request, 0) ──> no plan: new ┐
//!     │                            not opened: prepared, or new where the offer changed
//!     │                            lives: this is the job
//!     └── closed: salt(request, 1), and so on
//! ```
//!
//! The salt of the terms is a keyed digest of what is asked for, so the plans in the journal are all the memory that it
//! takes. It tells nobody anything about the request. A plan that was prepared and opened by other means, or by a process
//! that ended before it could say so, is found by what the chain says of its job.

use alloy_primitives::Address;
use roadstead_crypto::sha256;
use roadstead_types::{BundledContainer, JobPlan, JobStatus, Seconds, TokenAmount, Workload};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{Deal, Keys, Ports, PublishError, SealedWorkload};

/// What stands before all else that the salt is a digest of.
const DOMAIN: &[u8] = b"roadstead publication v1";

/// What a request stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publication {
    /// A job that is still to be prepared.
    New {
        /// The salt of its terms.
        salt: u64,
    },
    /// A job that was prepared and not opened.
    Prepared(Box<JobPlan>),
    /// A job that lives.
    Live(Box<JobPlan>),
}

/// What is asked for, besides the workload. Neither the provider's prices, and a deposit that follows from them, nor where
/// the blocks are makes a difference, because these change by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whom; any provider where it is `None`.
    pub provider: Option<Address>,
    /// Who accepts the bills.
    pub signer: Address,
    /// The length of one metering interval.
    pub interval: Seconds,
    /// What the provider may take without a signature.
    pub start_fee: TokenAmount,
    /// Between the publisher's wish to leave and the refund.
    pub notice: Seconds,
    /// How long an unsigned claim can be challenged.
    pub window: Seconds,
}

impl From<&Deal> for Wish {
    fn from(deal: &Deal) -> Self {
        let Deal { provider, signer, interval, start_fee, notice, window, .. } = *deal;
        Self { provider: Some(provider), signer, interval, start_fee, notice, window }
    }
}

impl Wish {
    fn is_of(&self, plan: &JobPlan, publisher: Address, salt: u64) -> bool {
        let terms = &plan.terms;
        let has_provider = self.provider.is_none_or(|provider| provider == terms.provider);
        has_provider
            && (terms.salt, terms.publisher, terms.signer) == (salt, publisher, self.signer)
    }
}

/// What the salt is a digest of.
#[derive(Serialize)]
struct Request<'a> {
    workload: &'a Workload<BundledContainer>,
    signer: Address,
    interval: Seconds,
    start_fee: TokenAmount,
    notice: Seconds,
    window: Seconds,
    /// How many jobs for the same request came before.
    number: u64,
}

/// Finds a job that lives and is what is asked for. No provider is asked anything.
pub async fn find_live(
    ports: &Ports,
    keys: &Keys,
    sealed: &SealedWorkload,
    wish: &Wish,
) -> Result<Option<JobPlan>, PublishError> {
    let publisher = ports.writer.account();
    let plans = ports.journal.plans().await?;
    for number in 0.. {
        let salt = salt(keys, sealed, wish, number);
        let mut is_over = false;
        for plan in plans.iter().filter(|plan| wish.is_of(plan, publisher, salt)) {
            match ports.reader.job(plan.key.job).await?.status() {
                JobStatus::Open | JobStatus::Closing => return Ok(Some(plan.clone())),
                JobStatus::Closed => is_over = true,
                JobStatus::Absent => {}
            }
        }
        if !is_over {
            break;
        }
    }
    Ok(None)
}

/// Finds what a request stands for. The salt of `deal` does not count. With `another`, a job that lives is left alone and
/// the next one is meant.
pub async fn find_publication(
    ports: &Ports,
    keys: &Keys,
    sealed: &SealedWorkload,
    deal: &Deal,
    another: bool,
) -> Result<Publication, PublishError> {
    let publisher = ports.writer.account();
    let wish = Wish::from(deal);
    let plans = ports.journal.plans().await?;
    for number in 0.. {
        let salt = salt(keys, sealed, &wish, number);
        let (mut is_over, mut prepared) = (false, None);
        for plan in plans.iter().filter(|plan| wish.is_of(plan, publisher, salt)) {
            match ports.reader.job(plan.key.job).await?.status() {
                JobStatus::Open | JobStatus::Closing if !another => {
                    return Ok(Publication::Live(Box::new(plan.clone())));
                }
                JobStatus::Open | JobStatus::Closing | JobStatus::Closed => is_over = true,
                JobStatus::Absent => {
                    let is_current = plan.tariff.prices == deal.prices
                        && plan.source == deal.source
                        && plan.deposit == deal.deposit;
                    prepared = prepared.or(is_current.then(|| plan.clone()));
                }
            }
        }
        if is_over {
            continue;
        }
        return Ok(match prepared {
            Some(plan) => Publication::Prepared(Box::new(plan)),
            None => Publication::New { salt },
        });
    }
    unreachable!("each number that was used has a plan, and plans are finite")
}

fn salt(keys: &Keys, sealed: &SealedWorkload, wish: &Wish, number: u64) -> u64 {
    let Wish { signer, interval, start_fee, notice, window, .. } = *wish;
    let workload = &sealed.workload;
    let request = Request { workload, signer, interval, start_fee, notice, window, number };
    let mut text = Zeroizing::new(DOMAIN.to_vec());
    text.extend_from_slice(&keys.dedupe.to_bytes());
    // The workload holds secrets; a vector that grows leaves copies behind, so it is written apart and wiped.
    let json = serde_json::to_vec(&request).expect("every field of a request has a JSON form");
    let json = Zeroizing::new(json);
    text.extend_from_slice(&json);
    let digest = sha256(&text);
    let first = digest.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first)
}
