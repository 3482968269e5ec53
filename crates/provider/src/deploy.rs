//! Bringing one job to run, and removing it again.
//!
//! ```text
//!  bundle fetched ─> opened ─> admitted ─> image fetched ─> opened ─> prepared ─> applied ─> exposed
//! ```
//!
//! Every step finds what an earlier attempt left and goes on from there, so a deployment that was cut off, by an error
//! or by the end of the process, is repeated from its beginning.
//!
//! Where the engine has an instance of the job, the job was admitted before: it is adopted or started anew, never judged
//! again and never refused, whatever the offer says by now. One that runs needs no image, so it is adopted even where
//! its image can be had no more.

use std::{collections::BTreeMap, str, sync::Arc};

use alloy_primitives::Address;
use roadstead_core::{
    Offer, Refusal, admit,
    ports::{
        BlockSource, ContentError, EngineError, ExposeError, InstanceSpec, Limits, Network,
        OpenError, Phase,
    },
};
use roadstead_crypto::BundleRecipient;
use roadstead_image::{OpenLimits, open};
use roadstead_store::{FetchLimits, FetchProgress, fetch, fetch_block};
use roadstead_types::{
    Bundle, BundleBinding, BundleFormatError, BundledContainer, ImageKey, ImageReference,
    InstanceId, JobId, Terms, TokenAmount,
    content::{RAW, content_id},
};

use crate::{Keys, Ports, event::ProviderEvent, holdings::Holdings};

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
    /// EIP-155 id of the chain.
    pub(crate) chain: u64,
    /// The payment contract.
    pub(crate) contract: Address,
    pub(crate) holdings: Holdings,
    pub(crate) report: Arc<dyn Fn(ProviderEvent) + Send + Sync>,
}

/// A job as the chain has it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) job: JobId,
    pub(crate) terms: Terms,
    pub(crate) deposit: TokenAmount,
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
        let reason = |error: &dyn std::error::Error| with_sources(error);
        match self {
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Bundle(error) if !error.is_retryable() => {
                Some(Refusal::BadBundle { reason: reason(error) })
            }
            Self::Image(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: reason(error) })
            }
            // Its whole graph was fetched, so a block that is not there is none of its graph.
            Self::Open(OpenError::Content(error @ ContentError::Absent { .. })) => {
                Some(Refusal::BadImage { reason: reason(error) })
            }
            Self::Open(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: reason(error) })
            }
            // What is wrong with the engine is not the job's fault.
            Self::Engine(EngineError::Unusable { .. } | EngineError::Absent { .. }) => None,
            Self::Engine(error) if !error.is_retryable() => {
                Some(Refusal::BadImage { reason: reason(error) })
            }
            _ => None,
        }
    }
}

/// An error with its causes, for a reason that is kept as text.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Host {
    fn tell(&self, event: ProviderEvent) {
        (self.report)(event);
    }

    /// Makes the job run; returns where its ports can be called.
    pub(crate) async fn deploy(&self, order: &Order) -> Result<BTreeMap<u16, String>, DeployError> {
        let found = self.ports.engine.observe(&InstanceId::first(order.job)).await?;
        match found.map(|found| found.phase) {
            None => self.deploy_from(order, None).await,
            Some(phase) => self
                .deploy_from(order, Some(phase))
                .await
                .map_err(|error| DeployError::Adopt(Box::new(error))),
        }
    }

    async fn deploy_from(
        &self,
        order: &Order,
        found: Option<Phase>,
    ) -> Result<BTreeMap<u16, String>, DeployError> {
        let (job, tenant) = (order.job, order.terms.publisher);
        let bundle = self.fetch_bundle(order).await?;
        self.reserve(order, &bundle, found.is_some())?;
        self.tell(ProviderEvent::Admitted { job });

        let images: Vec<_> = bundle.workload.containers.iter().map(|each| &each.image).collect();
        let key = |image: &ImageReference| ImageKey { tenant, image: image.image };
        let needs: Vec<_> = images.iter().map(|image| (image.root, key(image))).collect();
        self.holdings.needs_images(job, &needs);
        if !matches!(found, Some(Phase::Running | Phase::Frozen)) {
            self.fetch_images(order, &bundle).await?;
            self.tell(ProviderEvent::Starting { job });
            for image in images {
                let blocks: Arc<dyn BlockSource> = self.ports.cache.clone();
                let limits = OpenLimits::for_bytes(self.offer.image_size);
                let opened = open(image, blocks, &limits).await.map_err(DeployError::Open)?;
                self.ports.engine.prepare(&key(image), &opened).await?;
            }
        }
        self.apply(order, &bundle).await
    }

    async fn fetch_images(&self, order: &Order, bundle: &Bundle) -> Result<(), DeployError> {
        let job = order.job;
        let sources = self.sources(order, &bundle.sources).map_err(DeployError::Image)?;
        let progress = |FetchProgress { done, total, .. }| {
            self.tell(ProviderEvent::Fetching { job, done, total });
        };
        for BundledContainer { image, .. } in &bundle.workload.containers {
            let _fetching = self.holdings.fetching().await;
            fetch(&image.root, &sources, &*self.ports.cache, &self.fetch_limits(), &progress)
                .await
                .map_err(DeployError::Image)?;
        }
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
        let sources = self.sources(order, &[]).map_err(DeployError::Bundle)?;
        self.holdings.needs_bundle(order.job, cid);
        let block = {
            let _fetching = self.holdings.fetching().await;
            let fetched = fetch_block(&cid, &sources, &*self.ports.cache).await;
            fetched.map_err(DeployError::Bundle)?
        };
        let binding = BundleBinding {
            chain: self.chain,
            contract: self.contract,
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

    /// Whom to ask for blocks: first where the event says, then where the bundle says.
    fn sources(
        &self,
        order: &Order,
        more: &[String],
    ) -> Result<Vec<Arc<dyn BlockSource>>, ContentError> {
        let hint = str::from_utf8(&order.source).unwrap_or_default();
        let mut sources: Vec<Arc<dyn BlockSource>> = Vec::new();
        let mut refused = None;
        for address in [hint].into_iter().chain(more.iter().map(String::as_str)) {
            match self.ports.sources.open(address) {
                Ok(source) => sources.push(source),
                Err(error) if !address.is_empty() => refused = Some(error),
                Err(_) => {}
            }
        }
        match refused {
            Some(error) if sources.is_empty() => Err(error),
            _ => Ok(sources),
        }
    }

    /// Takes the job, unless it was taken before.
    fn reserve(
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
        self.holdings.reserve(order.job, reservation, admit).map_err(DeployError::Refused)
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
    pub(crate) async fn remove(&self, job: JobId) -> Result<(), EngineError> {
        self.ports.endpoints.conceal(job).await;
        for id in self.ports.engine.instances().await?.into_iter().filter(|id| id.job == job) {
            self.ports.engine.remove(&id).await?;
        }
        self.holdings.release(job);
        if let Err(error) = self.holdings.sweep(&*self.ports.engine, &*self.ports.cache).await {
            // Nothing depends on it, and the next job that ends sweeps again.
            tracing::warn!(%job, error = %with_sources(&error), "some of what it held is still here");
        }
        Ok(())
    }
}
