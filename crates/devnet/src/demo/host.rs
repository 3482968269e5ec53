//! The provider's side of the demonstration.

use std::path::Path;

use roadstead_journal::StateFolder;
use roadstead_provider::{Daemon, DaemonError, Keys, register, wire};
use roadstead_types::{PROFILE_VERSION, Profile, Resources};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    demo::{DemoError, DemoEvent},
    market::LocalMarket,
};

/// Where the provider will listen for its publishers.
const ADDRESS: &str = "/ip4/127.0.0.1/tcp/4150";

/// A registered provider whose daemon runs.
pub(super) struct Host {
    daemon: JoinHandle<Result<(), DaemonError>>,
    stop: CancellationToken,
    _folder: StateFolder,
}

impl Host {
    /// Makes the provider's keys, registers it and starts its daemon.
    pub(super) async fn start(
        local: &LocalMarket,
        folder: &Path,
        report: impl Fn(DemoEvent) + Send + Sync + 'static,
    ) -> Result<Self, DemoError> {
        let folder = StateFolder::open(folder.join("provider"))?;
        let keys = Keys::load_or_create(&folder)?;
        let ports = wire(local.market.clone(), local.provider.clone()).await?;
        let address = ADDRESS.parse().expect("it is a multiaddr");
        report(DemoEvent::Registered(register(&ports, &keys, address, &profile()).await?));

        let stop = CancellationToken::new();
        let events = move |event| report(DemoEvent::Provider(event));
        let daemon = Daemon::new(ports, local.market.from_block, events);
        let daemon = tokio::spawn(daemon.run(stop.clone()));
        Ok(Self { daemon, stop, _folder: folder })
    }

    /// Ends the daemon and waits for it.
    pub(super) async fn shutdown(self) -> Result<(), DemoError> {
        self.stop.cancel();
        match self.daemon.await {
            Ok(ended) => Ok(ended?),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

/// What the provider offers: cents an hour for a small machine.
fn profile() -> Profile {
    Profile {
        version: PROFILE_VERSION,
        region: "local".into(),
        prices: Resources {
            cpu: 8_000_000_000,
            memory: 20_000_000,
            storage: 200_000,
            network_in: 10_000,
            network_out: 10_000,
            accelerator: 0,
        },
    }
}
