//! `roadstead provider run`.

use std::{pin::pin, process, sync::Arc};

use alloy_primitives::Address;
use roadstead_core::ports::Engine;
use roadstead_net::JobServer;
use roadstead_provider::{
    Daemon, DaemonError, Keys, ProviderEvent, StatusPorts, check_registered, count_living,
    registration, status, wire,
};
use roadstead_types::{JobId, Token};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    ProviderError, engine, lines, open,
    status::{Answer, Daemon as DaemonInfo, Request},
    wallet,
};
use crate::{
    arguments::ProviderRun,
    context::Context,
    control::{self, Replies},
    failure::Interrupted,
    output::Progress,
    signals::Signals,
    table::{facts, short, size},
};

/// A provider that runs.
#[derive(Serialize)]
struct Ready {
    account: Address,
    pid: u32,
    engine: String,
    chain_id: u64,
    listening: Vec<String>,
    /// As the registry has it.
    endpoint: String,
    /// Containers that an earlier run left, to be adopted.
    containers: usize,
}

pub(super) async fn run(command: &ProviderRun, context: &Context) -> anyhow::Result<()> {
    let (folder, market) = open(context)?;
    if !market.devnet && !command.i_know_this_is_early {
        return Err(ProviderError::Early.into());
    }
    let profile = command.offer.profile(&market)?;
    let offer = command.offer.offer(&market, &context.home)?;
    let wallet = wallet::load(&folder, command.password.password_file.clone())?;
    let account = wallet.address();
    let keys = Keys::load_or_create(&folder)?;
    let wanted = registration(&keys, command.offer.announced().clone(), &profile)?;

    let (choice, engine) = engine::choose(&folder, command.engine).await?;
    let ports = wire(market.clone(), wallet, &folder, engine.clone()).await?;
    check_registered(&*ports.reader, account, &wanted).await?;

    // Before this, nothing is under way that a signal would cut off.
    let mut signals = Signals::listen()?;
    let progress = Progress::start();
    let told = Told { progress: progress.clone(), token: market.token.clone() };
    let (asked, containers) = (StatusPorts::from(&ports), count_living(&*engine).await?);
    let daemon = Daemon::new(ports, &market, keys, offer, &profile, move |event| told.hear(&event));
    let server = daemon.listen(command.offer.listen.clone()).await?;
    let listening: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    let pid = process::id();
    let info = DaemonInfo { pid, engine: choice.to_string(), listening: listening.clone() };
    let known = Arc::new((asked, info));
    let control = control::serve(&folder, move |Request::Status, replies| {
        let known = known.clone();
        async move { answer(&known, replies).await }
    })?;
    let stop = CancellationToken::new();
    let running = tokio::spawn(daemon.run(stop.clone()));

    let ready = Ready {
        account,
        pid,
        engine: choice.to_string(),
        chain_id: market.chain_id,
        listening,
        endpoint: wanted.endpoint.to_string(),
        containers,
    };
    context.print(&ready, || described(&ready))?;
    progress.wait_for("jobs are hosted; Ctrl-C ends this, and not them");

    until_ended(running, &stop, &server, &mut signals, &progress).await?;
    drop(control);
    say_what_goes_on(&*engine, &progress).await;
    Ok(())
}

/// Waits until the daemon ends, by itself or because a signal asks for it.
async fn until_ended(
    running: JoinHandle<Result<(), DaemonError>>,
    stop: &CancellationToken,
    server: &JobServer,
    signals: &mut Signals,
    progress: &Progress,
) -> anyhow::Result<()> {
    let mut running = pin!(running);
    let ended = loop {
        // Cancel-safe: the daemon goes on where it was, and a signal is not lost by not being waited for.
        tokio::select! {
            ended = &mut running => break ended,
            () = signals.next() => {}
        }
        if stop.is_cancelled() {
            let what = "what was under way may not be written down; containers go on".to_owned();
            return Err(Interrupted { what }.into());
        }
        progress.wait_for("the last steps are written down; Ctrl-C gives that up");
        server.shutdown().await;
        stop.cancel();
    };
    progress.finish();
    match ended {
        Ok(ended) => Ok(ended?),
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Answers whoever asks the process that holds the folder.
async fn answer(known: &(StatusPorts, DaemonInfo), replies: Replies) {
    let (ports, daemon) = known;
    match status(ports).await {
        Ok(status) => replies.send(&Answer { daemon: daemon.clone(), status }).await,
        Err(error) => replies.refuse(&error).await,
    }
}

/// Draws what happens.
struct Told {
    progress: Progress,
    token: Token,
}

impl Told {
    fn hear(&self, event: &ProviderEvent) {
        if let ProviderEvent::Fetching { job, done, total } = event {
            self.progress.wait_for(fetching(*job, *done, *total));
        }
        if let Some(line) = lines::line(event, &self.token) {
            self.progress.line(line);
        }
    }
}

fn fetching(job: JobId, done: u64, total: Option<u64>) -> String {
    let percent = total.filter(|total| *total > 0).map(|total| done.saturating_mul(100) / total);
    let percent = percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    format!("{}  its image is fetched: {}{percent}", short(job), size(done))
}

async fn say_what_goes_on(engine: &dyn Engine, progress: &Progress) {
    progress.line(match count_living(engine).await {
        Ok(0) => "Ended. No container runs.".to_owned(),
        Ok(1) => "Ended. One container goes on; `roadstead provider run` adopts it.".to_owned(),
        Ok(number) => {
            format!("Ended. {number} containers go on; `roadstead provider run` adopts them.")
        }
        Err(error) => {
            format!("Ended. Containers go on, {error}; `roadstead provider run` adopts them.")
        }
    });
}

fn described(ready: &Ready) -> String {
    let table = facts([
        ("account", ready.account.to_string()),
        ("market", format!("chain {}", ready.chain_id)),
        ("engine", ready.engine.clone()),
        ("listens at", ready.listening.join("\n")),
        ("is reached at", ready.endpoint.clone()),
        ("to be adopted", format!("{} containers", ready.containers)),
    ]);
    table.to_string()
}
