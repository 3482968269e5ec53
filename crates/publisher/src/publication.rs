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

/// What makes two requests the same. Neither the provider's prices, and a deposit that follows from them, nor where the
/// blocks are, because these change by themselves.
#[derive(Serialize)]
struct Request<'a> {
    workload: &'a Workload<BundledContainer>,
    provider: Address,
    signer: Address,
    interval: Seconds,
    start_fee: TokenAmount,
    notice: Seconds,
    window: Seconds,
    /// How many jobs for the same request came before.
    number: u64,
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
    let account = ports.writer.account();
    let plans = ports.journal.plans().await?;
    for number in 0.. {
        let salt = salt(keys, sealed, deal, number);
        let (mut is_over, mut prepared) = (false, None);
        let belongs = |plan: &&JobPlan| {
            let terms = &plan.terms;
            let parties = (terms.publisher, terms.provider, terms.signer);
            terms.salt == salt && parties == (account, deal.provider, deal.signer)
        };
        for plan in plans.iter().filter(belongs) {
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

fn salt(keys: &Keys, sealed: &SealedWorkload, deal: &Deal, number: u64) -> u64 {
    let request = Request {
        workload: &sealed.workload,
        provider: deal.provider,
        signer: deal.signer,
        interval: deal.interval,
        start_fee: deal.start_fee,
        notice: deal.notice,
        window: deal.window,
        number,
    };
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
