//! What each hosted job holds of this machine: its reservation, its blocks in the cache, its images at the engine.
//!
//! In memory only. A new process learns all of it again by deploying the jobs that are still open, which finds
//! everything in its place. Until it has, nothing is swept away.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use roadstead_core::{
    Refusal,
    ports::{ContentError, ContentStore, Engine, EngineError},
};
use roadstead_types::{Cid, ImageKey, InstanceId, JobId, Resource, Resources};
use tokio::sync::{RwLock, RwLockReadGuard};

/// The holdings of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    jobs: Mutex<BTreeMap<JobId, Holding>>,
    /// Read while blocks are in the cache that no pin protects yet; written while such blocks are collected.
    fetching: RwLock<()>,
}

#[derive(Debug, Default)]
struct Holding {
    reservation: Resources<u64>,
    pins: BTreeSet<Cid>,
    images: BTreeSet<ImageKey>,
    /// Whether all that the job needs is noted.
    is_complete: bool,
}

impl Holdings {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<JobId, Holding>> {
        // A map of plain values is whole whoever panicked.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves for a job what `admit` lets pass, given what the other jobs have reserved.
    pub(crate) fn reserve(
        &self,
        job: JobId,
        reservation: Resources<u64>,
        admit: impl FnOnce(&Resources<u64>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut jobs = self.jobs();
        let used = |resource: Resource| {
            let others = jobs.iter().filter(|(other, _)| **other != job);
            others.fold(0, |sum: u64, (_, holding)| {
                sum.saturating_add(holding.reservation.get(resource))
            })
        };
        admit(&Resources::from_fn(used))?;
        jobs.entry(job).or_default().reservation = reservation;
        Ok(())
    }

    /// Notes that the job needs its bundle in the cache. To be called before the bundle is pinned.
    pub(crate) fn needs_bundle(&self, job: JobId, bundle: Cid) {
        self.jobs().entry(job).or_default().pins.insert(bundle);
    }

    /// Notes the graphs that the job needs in the cache and the images that it needs at the engine, besides its bundle
    /// all that it ever will. To be called before any of them is pinned or prepared.
    pub(crate) fn needs_images(&self, job: JobId, images: &[(Cid, ImageKey)]) {
        let mut jobs = self.jobs();
        let holding = jobs.entry(job).or_default();
        holding.pins.extend(images.iter().map(|(root, _)| *root));
        holding.images.extend(images.iter().map(|(_, key)| *key));
        holding.is_complete = true;
    }

    /// Forgets a job.
    pub(crate) fn release(&self, job: JobId) {
        self.jobs().remove(&job);
    }

    /// Keeps what is fetched from being collected while the guard lives.
    pub(crate) async fn fetching(&self) -> RwLockReadGuard<'_, ()> {
        self.fetching.read().await
    }

    /// Removes the images and the blocks that no job needs. Leaves all as it is while there is an instance whose needs
    /// are not known yet.
    pub(crate) async fn sweep(
        &self,
        engine: &dyn Engine,
        cache: &dyn ContentStore,
    ) -> Result<(), SweepError> {
        // What is there is listed before what is needed: what was made in between was noted before it was made.
        let instances = engine.instances().await?;
        let images = engine.images().await?;
        let pins = cache.pins().await?;
        let (unneeded_images, unneeded_pins) = {
            let jobs = self.jobs();
            let is_complete =
                |id: &InstanceId| jobs.get(&id.job).is_some_and(|holding| holding.is_complete);
            if !instances.iter().all(is_complete) {
                return Ok(());
            }
            let is_image_needed =
                |image: &ImageKey| jobs.values().any(|job| job.images.contains(image));
            let is_pin_needed = |root: &Cid| jobs.values().any(|job| job.pins.contains(root));
            let images: Vec<_> = images.into_iter().filter(|key| !is_image_needed(key)).collect();
            let pins: Vec<_> = pins.into_iter().filter(|root| !is_pin_needed(root)).collect();
            (images, pins)
        };
        for image in &unneeded_images {
            engine.remove_image(image).await?;
        }
        for root in &unneeded_pins {
            cache.unpin(root).await?;
        }
        // Where something is being fetched, the next sweep collects.
        if let Ok(_alone) = self.fetching.try_write() {
            cache.collect().await?;
        }
        Ok(())
    }
}

/// Why something that nobody needs is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Cache(#[from] ContentError),
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use async_trait::async_trait;
    use roadstead_core::ports::{
        InstanceSpec, Layer, LayerReader, LayerSource, Limits, Network, OpenError,
    };
    use roadstead_crypto::sha256;
    use roadstead_testkit::{FakeEngine, MemoryStore};
    use roadstead_types::{ImageId, content};

    use super::*;

    fn job(number: u8) -> JobId {
        JobId(B256::repeat_byte(number))
    }

    fn image(number: u8) -> ImageKey {
        ImageKey { tenant: Address::ZERO, image: ImageId(B256::repeat_byte(number)) }
    }

    fn cpu(cpu: u64) -> Resources<u64> {
        Resources { cpu, ..Resources::default() }
    }

    /// An image without layers.
    struct NoLayers;

    #[async_trait]
    impl LayerSource for NoLayers {
        fn image(&self) -> ImageId {
            ImageId(B256::ZERO)
        }

        fn config(&self) -> &[u8] {
            b"{}"
        }

        fn layers(&self) -> &[Layer] {
            &[]
        }

        async fn read(&self, _index: usize) -> Result<Box<dyn LayerReader>, OpenError> {
            Err(OpenError::Damaged { reason: "there are no layers".into() })
        }
    }

    async fn pinned(cache: &MemoryStore, text: &'static str) -> Cid {
        let cid = content::content_id(content::RAW, sha256(text.as_bytes()));
        cache.put(&cid, text.into()).await.unwrap();
        cache.pin(&cid).await.unwrap();
        cid
    }

    #[test]
    fn a_reservation_counts_once_and_for_others_alone() {
        let holdings = Holdings::default();
        let seen = |number: u8, wanted: u64| {
            let mut seen = None;
            let admit = |used: &Resources<u64>| {
                seen = Some(used.cpu);
                Ok(())
            };
            holdings.reserve(job(number), cpu(wanted), admit).unwrap();
            seen.unwrap()
        };
        assert_eq!(seen(1, 100), 0);
        assert_eq!(seen(1, 100), 0);
        assert_eq!(seen(2, 50), 100);
        let refusal = Refusal::Version { found: 7 };
        let refused = holdings.reserve(job(3), cpu(1), |_| Err(refusal.clone()));
        assert_eq!(refused, Err(refusal));
        assert_eq!(seen(1, 100), 50);
        holdings.release(job(2));
        assert_eq!(seen(3, 1), 100);
    }

    #[tokio::test]
    async fn only_what_no_job_needs_is_swept_away() {
        let (holdings, engine, cache) =
            (Holdings::default(), FakeEngine::default(), MemoryStore::default());
        let (needed, unneeded) = (pinned(&cache, "one").await, pinned(&cache, "two").await);
        for number in [1, 2] {
            engine.prepare(&image(number), &NoLayers).await.unwrap();
        }
        holdings.needs_images(job(1), &[(needed, image(1))]);
        holdings.needs_bundle(job(2), unneeded);
        holdings.needs_images(job(2), &[(unneeded, image(2))]);
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.pins().await.unwrap().len(), 2);

        holdings.release(job(2));
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.pins().await.unwrap(), [needed]);
        assert_eq!(engine.images().await.unwrap(), [image(1)]);
        assert_eq!(cache.collections(), 2);
    }

    #[tokio::test]
    async fn nothing_is_collected_while_something_is_fetched() {
        let (holdings, engine, cache) =
            (Holdings::default(), FakeEngine::default(), MemoryStore::default());
        let fetching = holdings.fetching().await;
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.collections(), 0);
        drop(fetching);
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.collections(), 1);
    }

    #[tokio::test]
    async fn nothing_is_swept_while_the_needs_of_an_instance_are_unknown() {
        let (holdings, engine, cache) =
            (Holdings::default(), FakeEngine::default(), MemoryStore::default());
        pinned(&cache, "its image").await;
        let spec = InstanceSpec {
            id: InstanceId::first(job(1)),
            containers: Vec::new(),
            limits: Limits { cpu: 1, memory: 1, storage: 1, pids: 1 },
            network: Network::Isolated,
        };
        engine.apply(&spec).await.unwrap();
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.pins().await.unwrap().len(), 1);
        let bundle = pinned(&cache, "its bundle").await;
        holdings.needs_bundle(job(1), bundle);
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.pins().await.unwrap().len(), 2);
        holdings.needs_images(job(1), &[]);
        holdings.sweep(&engine, &cache).await.unwrap();
        assert_eq!(cache.pins().await.unwrap(), [bundle]);
    }
}
