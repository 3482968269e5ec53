//! Everything before the transaction: the provider's key, the sealed bundle, the terms.
//!
//! What is sealed here, and the plan of the job, are durable before the plan is returned: a job that was opened can
//! always be fetched, is found again when it is opened again, and its bills can be checked.

use alloy_primitives::Address;
use bytes::Bytes;
use roadstead_core::{
    ports::{ChainError, ContentError},
    rate_per_hour,
};
use roadstead_crypto::{BundleError, MAX_BUNDLE, seal_bundle, sha256};
use roadstead_journal::JournalError;
use roadstead_types::{
    BUNDLE_VERSION, Bundle, BundleBinding, Cid, EncryptionKey, JobKey, JobPlan, KeyKind, Market,
    Resources, Seconds, Start, Tariff, Terms, TokenAmount,
    content::{RAW, content_id},
};
use zeroize::Zeroizing;

use crate::{Keys, Ports, SealedWorkload, registry::registration_of};

/// What the publisher offers to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deal {
    /// Whom.
    pub provider: Address,
    /// Who accepts the bills.
    pub signer: Address,
    /// What the job may cost at most.
    pub deposit: TokenAmount,
    /// Token base units per 10^12 units of usage.
    pub prices: Resources<u128>,
    /// The length of one metering interval.
    pub interval: Seconds,
    /// What the provider may take without a signature.
    pub start_fee: TokenAmount,
    /// Between the publisher's wish to leave and the refund.
    pub notice: Seconds,
    /// How long an unsigned claim can be challenged; zero means that there are none.
    pub window: Seconds,
    /// Tells apart jobs with equal terms.
    pub salt: u64,
    /// Where the publisher's blocks can be fetched.
    pub source: String,
}

/// A job that only has to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// All that it takes to open it and to follow it. The journal has it as well.
    pub plan: JobPlan,
    /// The sealed bundle.
    pub bundle: Cid,
}

/// Why a job was not prepared.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Nobody knows how to reach it.
    #[error("{provider} is not registered as a provider")]
    NotRegistered {
        /// Who.
        provider: Address,
    },
    /// Nothing can be sealed to it.
    #[error("the registry has no X25519 key of provider {provider}")]
    NoKey {
        /// Who.
        provider: Address,
    },
    /// The rate is beyond 96 bits.
    #[error("what is reserved costs more than can be paid")]
    TooExpensive,
    /// The registry could not be read.
    #[error("the registry could not be read")]
    Read(#[from] ChainError),
    /// The bundle could not be sealed.
    #[error("the bundle cannot be sealed")]
    Bundle(#[from] BundleError),
    /// The publisher's store does not keep it.
    #[error("the content store does not keep what was sealed")]
    Store(#[from] ContentError),
    /// Its plan is not kept.
    #[error("the plan of the job cannot be kept")]
    Journal(#[from] JournalError),
}

/// The key to which bundles for a provider are sealed.
pub async fn provider_key(ports: &Ports, provider: Address) -> Result<EncryptionKey, PublishError> {
    let entry = registration_of(&*ports.reader, provider).await?;
    let entry = entry.ok_or(PublishError::NotRegistered { provider })?;
    let usable = entry.keys.into_iter().find(|key| key.kind == KeyKind::X25519);
    usable.ok_or(PublishError::NoKey { provider })
}

/// Keeps the sealed images, seals the bundle to `key` and keeps it and the plan as well. The rate in the terms is what
/// the reservation costs at the prices of the deal, and one unit more for each interval: so much may the contract round
/// away of each payment.
pub async fn publish(
    ports: &Ports,
    keys: &Keys,
    market: &Market,
    sealed: &SealedWorkload,
    key: &EncryptionKey,
    deal: &Deal,
) -> Result<Prepared, PublishError> {
    let rate = rate_per_hour(&sealed.workload.reservation, &deal.prices);
    let rounding = u128::from(3_600_u32.div_ceil(deal.interval.0.max(1)));
    let rounding = TokenAmount::new(rounding).ok();
    let rate = rate.and_then(|rate| rate.checked_add(rounding?));
    let rate_per_hour = rate.ok_or(PublishError::TooExpensive)?;
    for image in &sealed.images {
        ports.store.pin(&image.root).await?;
    }
    let publisher = ports.writer.account();
    let bundle = Bundle {
        version: BUNDLE_VERSION,
        workload: sealed.workload.clone(),
        sources: vec![deal.source.clone()],
        interval: deal.interval,
        prices: deal.prices,
        start: Start::AtOnce,
    };
    // Large enough from the start: what a vector leaves behind when it grows is not wiped.
    let mut plain = Zeroizing::new(Vec::with_capacity(MAX_BUNDLE));
    serde_json::to_writer(&mut *plain, &bundle).expect("every field of a bundle has a JSON form");
    let binding = BundleBinding {
        chain: market.chain_id,
        contract: market.contracts.payment,
        publisher,
        provider: deal.provider,
    };
    let block = seal_bundle(&plain, &binding, key, &keys.recovery.public_key())?;
    let digest = sha256(&block);
    let bundle = content_id(RAW, digest);
    ports.store.put(&bundle, Bytes::from(block)).await?;
    ports.store.pin(&bundle).await?;
    let terms = Terms {
        publisher,
        provider: deal.provider,
        signer: deal.signer,
        rate_per_hour,
        start_fee: deal.start_fee,
        notice: deal.notice,
        window: deal.window,
        salt: deal.salt,
        bundle: digest,
    };
    let Deal { interval, prices, deposit, .. } = *deal;
    let tariff = Tariff { interval, reservation: sealed.workload.reservation, prices };
    let (chain, contract) = (market.chain_id, market.contracts.payment);
    let key = JobKey { chain, contract, job: ports.reader.job_id(&terms) };
    let plan = JobPlan { key, terms, deposit, source: deal.source.clone(), tariff };
    ports.journal.save_plan(&plan).await?;
    Ok(Prepared { plan, bundle })
}
