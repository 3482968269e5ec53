//! What each hosted job holds of this machine: its reservation, its blocks in the cache, its images at the engine.
//!
//! In memory only. A new process learns all of it again by deploying the jobs that are still open, which finds
//! everything in its place. Until it has, nothing is swept away.
//!
//! Something is removed only while the table of needs is held, so whoever notes a need in time keeps what is there, and
//! whoever comes later finds that it is gone and fetches it again.

use std::collections::{BTreeMap, BTreeSet};

use roadstead_core::{
    Refusal,
    ports::{ContentError, ContentStore, Engine, EngineError},
};
use roadstead_types::{Cid, ImageKey, InstanceId, JobId, Resource, Resources};
use tokio::sync::Mutex;

/// The holdings of all jobs.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    jobs: Mutex<BTreeMap<JobId, Holding>>,
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
    /// Reserves for a job what `admit` lets pass, given what the other jobs have reserved.
    pub(crate) async fn reserve(
        &self,
        job: JobId,
        reservation: Resources<u64>,
        admit: impl FnOnce(&Resources<u64>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut jobs = self.jobs.lock().await;
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

    /// Lets others have what a job has reserved and does not use.
    pub(crate) async fn unreserve(&self, job: JobId) {
        if let Some(holding) = self.jobs.lock().await.get_mut(&job) {
            holding.reservation = Resources::default();
        }
    }

    /// Notes that the job needs its bundle in the cache. To be called before the bundle is pinned.
    pub(crate) async fn needs_bundle(&self, job: JobId, bundle: Cid) {
        self.jobs.lock().await.entry(job).or_default().pins.insert(bundle);
    }

    /// Notes the graphs that the job needs in the cache and the images that it needs at the engine, besides its bundle
    /// all that it ever will. To be called before any of them is looked for.
    pub(crate) async fn needs_images(&self, job: JobId, images: &[(Cid, ImageKey)]) {
        let mut jobs = self.jobs.lock().await;
        let holding = jobs.entry(job).or_default();
        holding.pins.extend(images.iter().map(|(root, _)| *root));
        holding.images.extend(images.iter().map(|(_, key)| *key));
        holding.is_complete = true;
    }

    /// Removes the images and the blocks that this job alone needs, whether or not they ever became whole, and forgets
    /// it. Where its needs were not all known, what nobody needs is swept away instead. After an error it is still known,
    /// so that the same call goes on where it ended.
    pub(crate) async fn release(
        &self,
        job: JobId,
        engine: &dyn Engine,
        cache: &dyn ContentStore,
    ) -> Result<(), ReleaseError> {
        let is_complete = {
            let mut jobs = self.jobs.lock().await;
            let unknown = Holding::default();
            let holding = jobs.get(&job).unwrap_or(&unknown);
            let others = || jobs.iter().filter(|(other, _)| **other != job).map(|(_, other)| other);
            for image in &holding.images {
                if !others().any(|other| other.images.contains(image)) {
                    engine.remove_image(image).await?;
                }
            }
            for root in &holding.pins {
                if !others().any(|other| other.pins.contains(root)) {
                    cache.unpin(root).await?;
                }
            }
            let is_complete = holding.is_complete;
            jobs.remove(&job);
            is_complete
        };
        if !is_complete && self.sweep(engine, cache).await? {
            return Ok(());
        }
        cache.collect().await?;
        Ok(())
    }

    /// Removes the images and the blocks that no job needs: what a process left that ended in the middle. Does nothing,
    /// and says so, while there is an instance whose needs are not known yet.
    pub(crate) async fn sweep(
        &self,
        engine: &dyn Engine,
        cache: &dyn ContentStore,
    ) -> Result<bool, ReleaseError> {
        {
            let jobs = self.jobs.lock().await;
            let is_complete =
                |id: &InstanceId| jobs.get(&id.job).is_some_and(|holding| holding.is_complete);
            if !engine.instances().await?.iter().all(is_complete) {
                return Ok(false);
            }
            for image in engine.images().await? {
                if !jobs.values().any(|holding| holding.images.contains(&image)) {
                    engine.remove_image(&image).await?;
                }
            }
            for root in cache.pins().await? {
                if !jobs.values().any(|holding| holding.pins.contains(&root)) {
                    cache.unpin(&root).await?;
                }
            }
        }
        cache.collect().await?;
        Ok(true)
    }
}

/// Why something that nobody needs is still there.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The engine does not let it go.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The cache does not let it go.
    #[error(transparent)]
    Cache(#[from] ContentError),
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use roadstead_core::ports::{InstanceSpec, Limits, Network};
    use roadstead_crypto::sha256;
    use roadstead_testkit::{FakeEngine, MemoryStore};
    use roadstead_types::{ImageId, content};

    use super::*;
    use crate::fixture::NoLayers;

    fn job(number: u8) -> JobId {
        JobId(B256::repeat_byte(number))
    }

    fn image(number: u8) -> ImageKey {
        ImageKey { tenant: Address::ZERO, image: ImageId(B256::repeat_byte(number)) }
    }

    fn cpu(cpu: u64) -> Resources<u64> {
        Resources { cpu, ..Resources::default() }
    }

    async fn pinned(cache: &MemoryStore, text: &'static str) -> Cid {
        let cid = content::content_id(content::RAW, sha256(text.as_bytes()));
        cache.put(&cid, text.into()).await.unwrap();
        cache.pin(&cid).await.unwrap();
        cid
    }

    #[tokio::test]
    async fn a_reservation_counts_once_and_for_others_alone() {
        let holdings = Holdings::default();
        let seen = async |number: u8, wanted: u64| {
            let mut seen = None;
            let admit = |used: &Resources<u64>| {
                seen = Some(used.cpu);
                Ok(())
            };
            holdings.reserve(job(number), cpu(wanted), admit).await.unwrap();
            seen.unwrap()
        };
        assert_eq!(seen(1, 100).await, 0);
        assert_eq!(seen(1, 100).await, 0);
        assert_eq!(seen(2, 50).await, 100);
        let refusal = Refusal::Version { found: 7 };
        let refused = holdings.reserve(job(3), cpu(1), |_| Err(refusal.clone())).await;
        assert_eq!(refused, Err(refusal));
        assert_eq!(seen(1, 100).await, 50);
        holdings.unreserve(job(2)).await;
        assert_eq!(seen(3, 1).await, 100);
    }

    struct World {
        holdings: Holdings,
        engine: FakeEngine,
        cache: MemoryStore,
    }

    impl World {
        fn new() -> Self {
            Self {
                holdings: Holdings::default(),
                engine: FakeEngine::default(),
                cache: MemoryStore::default(),
            }
        }

        async fn start(&self, number: u8) {
            let spec = InstanceSpec {
                id: InstanceId::first(job(number)),
                containers: Vec::new(),
                limits: Limits { cpu: 1, memory: 1, storage: 1, pids: 1 },
                network: Network::Isolated,
            };
            self.engine.apply(&spec).await.unwrap();
        }

        async fn release(&self, number: u8) {
            self.holdings.release(job(number), &self.engine, &self.cache).await.unwrap();
        }

        async fn sweep(&self) -> bool {
            self.holdings.sweep(&self.engine, &self.cache).await.unwrap()
        }

        async fn left(&self) -> (Vec<Cid>, Vec<ImageKey>) {
            (self.cache.pins().await.unwrap(), self.engine.images().await.unwrap())
        }
    }

    #[tokio::test]
    async fn a_job_takes_with_it_what_it_alone_needs() {
        let world = World::new();
        let shared = pinned(&world.cache, "shared").await;
        let own = pinned(&world.cache, "own").await;
        for number in [1, 2] {
            world.engine.prepare(&image(number), &NoLayers).await.unwrap();
        }
        let holdings = &world.holdings;
        holdings.needs_images(job(1), &[(shared, image(1))]).await;
        holdings.needs_bundle(job(2), own).await;
        holdings.needs_images(job(2), &[(shared, image(1)), (shared, image(2))]).await;
        world.release(2).await;
        assert_eq!(world.left().await, (vec![shared], vec![image(1)]));
        assert_eq!(world.cache.collections(), 1);
        world.release(1).await;
        assert_eq!(world.left().await, (vec![], vec![]));
        world.release(1).await;
    }

    #[tokio::test]
    async fn an_image_that_never_became_whole_is_removed_as_well() {
        let world = World::new();
        world.holdings.needs_images(job(1), &[(Cid::default(), image(1))]).await;
        world.release(1).await;
        assert_eq!(world.engine.removed_images(), [image(1)]);
    }

    #[tokio::test]
    async fn nothing_is_swept_while_the_needs_of_an_instance_are_unknown() {
        let world = World::new();
        let stray = pinned(&world.cache, "left by a crash").await;
        let bundle = pinned(&world.cache, "its bundle").await;
        world.start(1).await;
        assert!(!world.sweep().await);
        world.holdings.needs_bundle(job(1), bundle).await;
        assert!(!world.sweep().await);
        assert!(world.left().await.0.contains(&stray));
        world.holdings.needs_images(job(1), &[]).await;
        assert!(world.sweep().await);
        assert_eq!(world.left().await, (vec![bundle], vec![]));
    }
}
