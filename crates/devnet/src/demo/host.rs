//! The provider's side of the demonstration.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use roadstead_core::{
    Offer, Refusal,
    ports::{Engine, EngineError},
};
use roadstead_journal::StateFolder;
use roadstead_provider::{Daemon, DaemonError, Keys, Ports, ProviderEvent, register, wire};
use roadstead_types::{PROFILE_VERSION, Profile, Resources, Seconds};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    demo::{DemoError, DemoEvent},
    market::LocalMarket,
};

/// Where the provider will listen for its publishers.
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/4150";

/// The most bytes of an image's plain layers: 16 GiB.
const MAX_IMAGE: u64 = 16 << 30;

/// How far the provider is with the one job of the demonstration.
#[derive(Clone, Debug, Default)]
pub(super) enum Service {
    /// Not there yet.
    #[default]
    Awaited,
    /// It runs.
    Running {
        /// Under which URL each of its ports can be called.
        urls: BTreeMap<u16, String>,
        /// How long the provider took since it had learned of the job.
        after: Duration,
    },
    /// It never will.
    Refused(Refusal),
}

/// A registered provider whose daemon runs.
pub(super) struct Host {
    daemon: JoinHandle<Result<(), DaemonError>>,
    stop: CancellationToken,
    ports: Ports,
    service: watch::Receiver<Service>,
    _folder: StateFolder,
}

impl Host {
    /// Makes the provider's keys, registers it and starts its daemon.
    pub(super) async fn start(
        local: &LocalMarket,
        folder: &Path,
        engine: Arc<dyn Engine>,
        report: impl Fn(DemoEvent) + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        let folder = StateFolder::open(folder.join("provider"))?;
        let keys = Keys::load_or_create(&folder)?;
        let ports = wire(local.market.clone(), local.provider.clone(), &folder, engine).await?;
        let address = ADDRESS.parse().expect("it is a multiaddr");
        let offer = offer();
        let profile =
            Profile { version: PROFILE_VERSION, region: "local".into(), prices: offer.prices };
        report(DemoEvent::Registered(register(&ports, &keys, address, &profile).await?));

        let (tell, service) = watch::channel(Service::Awaited);
        let seen = OnceLock::new();
        let events = move |event| {
            match &event {
                ProviderEvent::JobSeen { .. } => {
                    seen.get_or_init(Instant::now);
                }
                ProviderEvent::Running { urls, .. } => {
                    let after = seen.get().map(Instant::elapsed).unwrap_or_default();
                    tell.send_replace(Service::Running { urls: urls.clone(), after });
                }
                ProviderEvent::Refused { refusal, .. } => {
                    tell.send_replace(Service::Refused(refusal.clone()));
                }
                _ => {}
            }
            report(DemoEvent::Provider(event));
        };
        let stop = CancellationToken::new();
        let daemon = Daemon::new(ports.clone(), &local.market, keys, offer, events);
        let daemon = tokio::spawn(daemon.run(stop.clone()));
        Ok(Self { daemon, stop, ports, service, _folder: folder })
    }

    /// How far the provider is.
    pub(super) fn service(&self) -> watch::Receiver<Service> {
        self.service.clone()
    }

    /// Nothing of the job is at the provider any more.
    pub(super) async fn check_empty(&self) -> Result<(), DemoError> {
        let instances = self.ports.engine.instances().await?;
        let images = self.ports.engine.images().await?;
        let pins = self.ports.cache.pins().await.map_err(DemoError::Store)?;
        if instances.is_empty() && images.is_empty() && pins.is_empty() {
            Ok(())
        } else {
            let (instances, images) = (instances.len(), images.len());
            Err(DemoError::LeftBehind { instances, images, pins: pins.len() })
        }
    }

    /// Ends the daemon, waits for it, and removes what it left running.
    pub(super) async fn shutdown(self) -> Result<(), DemoError> {
        self.stop.cancel();
        let ended = self.daemon.await;
        let removed = remove_all(&*self.ports.engine).await;
        match ended {
            Ok(ended) => ended?,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
        Ok(removed?)
    }
}

/// The engine is the demonstration's own, so whatever it runs may go.
async fn remove_all(engine: &dyn Engine) -> Result<(), EngineError> {
    for instance in engine.instances().await? {
        engine.remove(&instance).await?;
    }
    Ok(())
}

/// What the provider offers: cents an hour for a small machine.
fn offer() -> Offer {
    Offer {
        prices: prices(),
        capacity: Resources {
            cpu: 4_000,
            memory: 4_096,
            storage: 4_096,
            network_in: 1 << 30,
            network_out: 1 << 30,
            accelerator: 0,
        },
        interval: (Seconds(2), Seconds(3_600)),
        notice: Seconds::from_hours(1),
        image_size: MAX_IMAGE,
    }
}

/// Token base units per 10^12 units of usage. The publisher offers the same: it has no other way to learn the
/// provider's prices yet.
pub(super) const fn prices() -> Resources<u128> {
    Resources {
        cpu: 8_000_000_000,
        memory: 20_000_000,
        storage: 200_000,
        network_in: 10_000,
        network_out: 10_000,
        accelerator: 0,
    }
}
