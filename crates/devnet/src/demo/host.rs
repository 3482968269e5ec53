//! The provider's side of the demonstration.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use roadstead_core::{Offer, SettlePolicy, ports::Engine};
use roadstead_journal::StateFolder;
use roadstead_net::JobServer;
use roadstead_provider::{
    Daemon, DaemonError, Keys, Ports, ProviderEvent, clear_engine, register, wire,
};
use roadstead_types::{PROFILE_VERSION, Profile, Resources, Seconds, TokenAmount};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    demo::{DemoError, DemoEvent},
    market::LocalMarket,
};

/// Where the provider listens for its publishers: any free port of this machine.
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/0";

/// The most bytes of an image's plain layers: 16 GiB.
const MAX_IMAGE: u64 = 16 << 30;

/// A registered provider whose daemon runs.
pub(super) struct Host {
    daemon: JoinHandle<Result<(), DaemonError>>,
    server: JobServer,
    stop: CancellationToken,
    ports: Ports,
    deployed: watch::Receiver<Option<Duration>>,
    _folder: StateFolder,
}

impl Host {
    /// Makes the provider's keys, registers it and starts its daemon.
    pub(super) async fn start(
        local: &LocalMarket,
        folder: &Path,
        engine: Arc<dyn Engine>,
        report: impl Fn(DemoEvent) + Clone + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        let folder = StateFolder::open(folder.join("provider"))?;
        let keys = Keys::load_or_create(&folder)?;
        let ports = wire(local.market.clone(), local.provider.clone(), &folder, engine).await?;
        let offer = offer();
        let profile =
            Profile { version: PROFILE_VERSION, region: "local".into(), prices: offer.prices };
        let (tell, deployed) = watch::channel(None);
        let seen = OnceLock::new();
        let told = report.clone();
        let events = move |event| {
            match &event {
                ProviderEvent::JobSeen { .. } => {
                    seen.get_or_init(Instant::now);
                }
                ProviderEvent::Running { .. } => {
                    tell.send_replace(seen.get().map(Instant::elapsed));
                }
                _ => {}
            }
            told(DemoEvent::Provider(event));
        };
        // The keys are read once more: the daemon keeps its own.
        let registered_keys = Keys::load_or_create(&folder)?;
        let daemon = Daemon::new(ports.clone(), &local.market, keys, offer, &profile, events);
        let server = daemon.listen(ADDRESS.parse().expect("it is a multiaddr")).await?;
        let address = server.addresses().into_iter().next().ok_or(DemoError::NoAddress)?;
        let registered = register(&ports, &registered_keys, address, &profile).await?;
        report(DemoEvent::Registered(registered));
        let stop = CancellationToken::new();
        let daemon = tokio::spawn(daemon.run(stop.clone()));
        Ok(Self { daemon, server, stop, ports, deployed, _folder: folder })
    }

    /// How long the provider took to bring the job to run, since it had learned of it; `None` before that.
    pub(super) fn deployed(&self) -> watch::Receiver<Option<Duration>> {
        self.deployed.clone()
    }

    /// Nothing of the job is at the provider any more.
    pub(super) async fn check_empty(&self) -> Result<(), DemoError> {
        let instances = self.ports.engine.instances().await?;
        let images = self.ports.engine.images().await?;
        let pins = self.ports.cache.pins().await.map_err(DemoError::Cache)?;
        if instances.is_empty() && images.is_empty() && pins.is_empty() {
            Ok(())
        } else {
            let (instances, images) = (instances.len(), images.len());
            Err(DemoError::LeftBehind { instances, images, pins: pins.len() })
        }
    }

    /// Ends the daemon, waits for it, and removes what it left running.
    pub(super) async fn shutdown(self) -> Result<(), DemoError> {
        self.server.shutdown().await;
        self.stop.cancel();
        let ended = self.daemon.await;
        // The engine is the demonstration's own, and need not keep in our folder what it runs.
        let removed = clear_engine(&self.ports.engine, |_| {}).await;
        match ended {
            Ok(ended) => ended?,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
        removed?;
        Ok(())
    }
}

/// What the provider offers. A small machine costs a few test dollars an hour, a hundred times of what it is worth, so
/// that seconds can be seen on the bill.
fn offer() -> Offer {
    Offer {
        prices: Resources {
            cpu: 2_000_000_000_000,
            memory: 50_000_000_000_000,
            storage: 10_000_000_000_000,
            network_in: 1_000_000,
            network_out: 1_000_000,
            accelerator: 0,
        },
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
        settle: SettlePolicy { value: TokenAmount::MAX, age: Seconds(3) },
        grace: Seconds::from_hours(24),
        silence: Seconds::from_hours(7 * 24),
    }
}
