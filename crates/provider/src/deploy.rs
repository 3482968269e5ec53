//! Bringing one job to run, and removing it again.
//!
//! ```text
//!  bundle fetched ─> opened ─> admitted ─> image fetched ─> opened ─> prepared ─> applied ─> exposed
//! ```
//!
//! Every step finds what an earlier attempt left and goes on from there, so a deployment that was cut off, by an error
//! or by the end of the process, is repeated from its beginning.
//!
//! A job that ran before was admitted then: it is adopted or started anew, never judged again and never refused, whatever
//! the offer says by now. One that runs needs no image, so it is adopted even where its image can be had no more.

use std::{collections::BTreeMap, str, sync::Arc};

use roadstead_core::{
    Offer, Refusal, admit,
    ports::{
        BlockSource, ContentError, EngineError, ExposeError, InstanceSpec, Limits, Network,
        OpenError, Phase,
    },
    with_causes,
};
use roadstead_crypto::BundleRecipient;
use roadstead_image::{OpenLimits, open};
use roadstead_store::{FetchLimits, FetchProgress, fetch, fetch_block};
use roadstead_types::{
    Bundle, BundleBinding, BundleFormatError, ImageKey, ImageReference, InstanceId, JobId, Terms,
    TokenAmount,
    content::{RAW, content_id},
};

use crate::{
    Keys, Ports,
    event::ProviderEvent,
    holdings::{Holdings, ReleaseError},
    ledger::{Ledger, LedgerError, Life},
};

/// What the blocks of an image may have more than its plain layers, in bytes: index, graph and seals.
const IMAGE_OVERHEAD: u64 = 64 << 20;

/// The blocks of an honest image are larger on average, in bytes.
const MEAN_BLOCK: u64 = 16 << 10;

/// Levels of an honest image's graph, at most.
const MAX_DEPTH: usize = 8;

/// All that it takes to look after jobs.
pub(crate) struct Host {
    pub(crate) ports: Ports,
    pub(crate) keys: Keys,
    pub(crate) offer: Offer,
    pub(crate) ledger: Ledger,
    pub(crate) holdings: Holdings,
    pub(crate) report: Arc<dyn Fn(ProviderEvent) + Send + Sync>,
}

/// A job as the chain has it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) job: JobId,
    pub(crate) terms: Terms,
    pub(crate) deposit: TokenAmount,
    pub(crate) paid: TokenAmount,
    /// Where the bundle may be: a stranger's input.
    pub(crate) source: Vec<u8>,
}

/// Why a job does not run.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The provider does not take it.
    #[error("the job is refused")]
    Refused(#[source] Refusal),
    /// Its bundle cannot be fetched.
    #[error("its bundle cannot be fetched")]
    Bundle(#[source] ContentError),
    /// Its image cannot be fetched.
    #[error("its image cannot be fetched")]
    Image(#[source] ContentError),
    /// Its image cannot be opened.
    #[error("its image cannot be opened")]
    Open(#[source] OpenError),
    /// The engine does not run it.
    #[error("the engine does not run it")]
    Engine(#[from] EngineError),
    /// It cannot be called.
    #[error(transparent)]
    Expose(#[from] ExposeError),
    /// It runs, and cannot be billed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It ran before, so it is not refused for this.
    #[error("what ran before cannot be taken over")]
    Adopt(#[source] Box<Self>),
    /// The blocks that it has are too slow in coming.
    #[error("it was not brought to run within {} minutes", crate::daemon::PATIENCE.as_secs() / 60)]
    TooSlow,
}

impl DeployError {
    /// The reason to give the job back, where trying again cannot help.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self {
            // Others leave.
            Self::Refused(Refusal::NoRoom { .. }) => None,
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Bundle(error) if !error.is_retryable() => {
                Some(Refusal::BadBundle { reason: with_causes(error) })
            }
            Self::Image(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: with_causes(error) })
            }
            Self::Open(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: with_causes(error) })
            }
            // What is wrong with the engine is not the job's fault.
            Self::Engine(
                EngineError::Unusable { .. } | EngineError::NeedsRoot | EngineError::Absent { .. },
            ) => None,
            Self::Engine(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: with_causes(error) })
            }
            _ => None,
        }
    }
}

impl Host {
    /// Tells what happened, to whoever runs the daemon and to whoever asks about the job.
    pub(crate) fn tell(&self, event: ProviderEvent) {
        self.ledger.hear(&event);
        (self.report)(event);
    }

    /// An instance has ended by itself.
    pub(crate) async fn stopped(&self, job: JobId) {
        let usage = self.ports.engine.usage(&InstanceId::first(job)).await.ok();
        if let Err(error) = self.ledger.stopped(job, usage).await {
            tracing::warn!(%job, %error, "its last readings are not counted");
        }
    }

    /// Makes the job run; returns where its ports can be called. `has_run` says that it ran before.
    pub(crate) async fn deploy(
        &self,
        order: &Order,
        has_run: bool,
    ) -> Result<BTreeMap<u16, String>, DeployError> {
        let found = self.ports.engine.observe(&InstanceId::first(order.job)).await?;
        let is_running = found
            .as_ref()
            .is_some_and(|found| matches!(found.phase, Phase::Running | Phase::Frozen));
        let is_here = found.is_some();
        if found.as_ref().is_some_and(|found| matches!(found.phase, Phase::Exited { .. })) {
            self.stopped(order.job).await;
        }
        // A start fee is taken only from what runs.
        let has_begun = self.ledger.has_begun(order.job);
        let is_admitted = has_run || has_begun || is_here || !order.paid.is_zero();
        let deployed = self.deploy_from(order, is_admitted, is_here, is_running).await;
        deployed.map_err(|error| match is_admitted {
            true => DeployError::Adopt(Box::new(error)),
            false => error,
        })
    }

    async fn deploy_from(
        &self,
        order: &Order,
        is_admitted: bool,
        is_here: bool,
        is_running: bool,
    ) -> Result<BTreeMap<u16, String>, DeployError> {
        let (job, tenant) = (order.job, order.terms.publisher);
        let bundle = self.fetch_bundle(order).await?;
        self.reserve(order, &bundle, is_admitted).await?;
        self.tell(ProviderEvent::Admitted { job });

        let key = |image: &ImageReference| ImageKey { tenant, image: image.image };
        let images: Vec<_> = bundle.workload.containers.iter().map(|each| &each.image).collect();
        let needs: Vec<_> = images.iter().map(|image| (image.root, key(image))).collect();
        self.holdings.needs_images(job, &needs).await;
        let here = self.ports.engine.images().await?;
        for image in images.into_iter().filter(|image| !is_running && !here.contains(&key(image))) {
            self.fetch_image(order, image, &bundle.sources).await?;
            self.tell(ProviderEvent::Starting { job });
            let blocks: Arc<dyn BlockSource> = self.ports.cache.clone();
            let limits = OpenLimits::for_bytes(self.offer.image_size);
            let opened = open(image, blocks, &limits).await.map_err(DeployError::Open)?;
            self.ports.engine.prepare(&key(image), &opened).await?;
        }
        // Before it runs: a process that ends after the start still knows that nothing was signed.
        self.ledger.prepare(job, bundle.tariff(), is_here).await?;
        let urls = self.apply(order, &bundle).await?;
        self.ledger.ready(job, if is_running { Life::Adopted } else { Life::New }).await?;
        Ok(urls)
    }

    async fn fetch_image(
        &self,
        order: &Order,
        image: &ImageReference,
        more: &[String],
    ) -> Result<(), DeployError> {
        let job = order.job;
        let progress = |FetchProgress { done, total, .. }| {
            self.tell(ProviderEvent::Fetching { job, done, total });
        };
        let (sources, refused) = self.sources(order, more);
        fetch(&image.root, &sources, &*self.ports.cache, &self.fetch_limits(), &progress)
            .await
            .map_err(|error| {
                DeployError::Image(refused.filter(|_| sources.is_empty()).unwrap_or(error))
            })?;
        Ok(())
    }

    fn fetch_limits(&self) -> FetchLimits {
        let bytes = self.offer.image_size.saturating_add(IMAGE_OVERHEAD);
        FetchLimits {
            bytes,
            blocks: usize::try_from(bytes / MEAN_BLOCK).unwrap_or(usize::MAX),
            depth: MAX_DEPTH,
        }
    }

    async fn fetch_bundle(&self, order: &Order) -> Result<Bundle, DeployError> {
        let cid = content_id(RAW, order.terms.bundle);
        self.holdings.needs_bundle(order.job, cid).await;
        let (sources, refused) = self.sources(order, &[]);
        let fetched = fetch_block(&cid, &sources, &*self.ports.cache).await;
        let block = fetched.map_err(|error| {
            DeployError::Bundle(refused.filter(|_| sources.is_empty()).unwrap_or(error))
        })?;
        let binding = BundleBinding {
            chain: self.ledger.domain.chain,
            contract: self.ledger.domain.contract,
            publisher: order.terms.publisher,
            provider: order.terms.provider,
        };
        let unreadable = |reason| DeployError::Refused(Refusal::BadBundle { reason });
        let opened = self.keys.encryption.open_bundle(&block, &binding, BundleRecipient::Provider);
        let opened = opened.map_err(|error| unreadable(error.to_string()))?;
        Bundle::from_json(&opened).map_err(|error| match error {
            BundleFormatError::Version { found } => {
                DeployError::Refused(Refusal::Version { found })
            }
            error @ BundleFormatError::Malformed { .. } => unreadable(error.to_string()),
        })
    }

    /// Whom to ask for blocks that are not in the cache: first where the event says, then where the bundle says. And why
    /// one of these must not be asked.
    fn sources(
        &self,
        order: &Order,
        more: &[String],
    ) -> (Vec<Arc<dyn BlockSource>>, Option<ContentError>) {
        let hint = str::from_utf8(&order.source).unwrap_or_default();
        let (mut sources, mut refused) = (Vec::new(), None);
        for address in [hint].into_iter().chain(more.iter().map(String::as_str)) {
            match self.ports.sources.open(address) {
                Ok(source) => sources.push(source),
                Err(error) if !address.is_empty() => refused = Some(error),
                Err(_) => {}
            }
        }
        (sources, refused)
    }

    /// Takes the job, unless it was taken before.
    async fn reserve(
        &self,
        order: &Order,
        bundle: &Bundle,
        is_admitted: bool,
    ) -> Result<(), DeployError> {
        let capabilities = self.ports.engine.capabilities();
        let judge =
            |used: &_| admit(&order.terms, order.deposit, bundle, &self.offer, &capabilities, used);
        let admit = |used: &_| if is_admitted { Ok(()) } else { judge(used) };
        let reservation = bundle.workload.reservation;
        self.holdings.reserve(order.job, reservation, admit).await.map_err(DeployError::Refused)
    }

    async fn apply(
        &self,
        order: &Order,
        bundle: &Bundle,
    ) -> Result<BTreeMap<u16, String>, DeployError> {
        let (job, tenant) = (order.job, order.terms.publisher);
        let containers = bundle
            .workload
            .containers
            .iter()
            .map(|each| (ImageKey { tenant, image: each.image.image }, each.container.clone()));
        let reservation = &bundle.workload.reservation;
        let spec = InstanceSpec {
            id: InstanceId::first(job),
            containers: containers.collect(),
            limits: Limits {
                cpu: reservation.cpu,
                memory: reservation.memory,
                storage: reservation.storage,
                pids: bundle.workload.pids_limit,
            },
            network: Network::Isolated,
        };
        let observed = self.ports.engine.apply(&spec).await?;
        let mut urls = BTreeMap::new();
        for (port, target) in observed.ports {
            urls.insert(port, self.ports.endpoints.expose(job, port, target).await?);
        }
        Ok(urls)
    }

    /// Removes everything of a job from this machine.
    pub(crate) async fn remove(&self, job: JobId) -> Result<(), RemoveError> {
        self.ports.endpoints.conceal(job).await;
        // Asked for even where none is seen: a start that was cut off may be about to make one, and is waited for.
        self.ports.engine.remove(&InstanceId::first(job)).await?;
        for id in self.ports.engine.instances().await?.into_iter().filter(|id| id.job == job) {
            self.ports.engine.remove(&id).await?;
        }
        Ok(self.holdings.release(job, &*self.ports.engine, &*self.ports.cache).await?)
    }

    /// Removes what no job needs; `false` where it cannot be told yet.
    pub(crate) async fn sweep(&self) -> Result<bool, ReleaseError> {
        self.holdings.sweep(&*self.ports.engine, &*self.ports.cache).await
    }
}

/// Why something of a job is still on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Its container.
    #[error("its container cannot be removed")]
    Container(#[from] EngineError),
    /// Its image or its blocks.
    #[error("its image cannot be removed")]
    Image(#[from] ReleaseError),
}

#[cfg(test)]
mod tests;
