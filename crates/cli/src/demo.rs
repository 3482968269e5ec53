//! `roadstead demo`: draws the demonstration while it plays.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use anyhow::Context;
use comfy_table::{ContentArrangement, Table, presets};
use roadstead_devnet::demo::{self, DemoConfig, DemoError, DemoEvent, DemoReport};
use roadstead_provider::ProviderEvent;
use roadstead_types::{Token, TokenAmount};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    arguments,
    failure::with_causes,
    output::{self, Progress},
};

const PREFACE: &str = "\
This plays a market on this machine: a chain, its contracts, a publisher and a provider. It opens a job with
test money, lets the provider take its start fee, closes the job and refunds the rest. It changes nothing
outside a folder of its own and takes about 15 seconds; Ctrl-C closes the job and cleans up.
";

/// Some terminals say that they have no columns; below this, wrapping helps nobody.
const MIN_TABLE_WIDTH: u16 = 60;

pub(crate) async fn run(command: arguments::Demo, home: Option<PathBuf>) -> anyhow::Result<()> {
    let home = home_folder(home)?;
    fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    let folder = tempfile::Builder::new()
        .prefix("demo-")
        .tempdir_in(&home)
        .with_context(|| format!("cannot create a folder in {}", home.display()))?;

    let progress = Progress::start();
    let stop = stop_on_signals(progress.clone())?;
    progress.line(PREFACE);
    progress.wait_for("starting the chain, deploying the contracts");
    let config = DemoConfig { chain: command.chain, folder: folder.path().to_owned() };
    let picture = Arc::new(Picture { progress: progress.clone(), token: OnceLock::new() });
    let drawn = picture.clone();
    let played = demo::run(config, stop, move |event| drawn.draw(&event)).await;
    progress.finish();
    if let Err(DemoError::Interrupted { refund }) = &played {
        progress.line(match refund {
            Some(refund) => format!("The job was closed, {} came back.", picture.show(*refund)),
            None => "No job was open.".to_owned(),
        });
    }
    clean_up(folder, command.keep, &progress)?;

    let report = played?;
    if command.json { output::print_json(&report) } else { Ok(output::print(table(&report))?) }
}

/// The user's choice, else the place for data by the XDG rules.
fn home_folder(chosen: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    chosen
        .or_else(|| Some(dirs::data_dir()?.join("roadstead")))
        .context("there is no home folder; name one by --home or ROADSTEAD_HOME")
}

/// A token that Ctrl-C and SIGTERM cancel.
fn stop_on_signals(progress: Progress) -> io::Result<CancellationToken> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        // Cancel-safe, both: a signal is not lost by not being waited for.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        progress.line("Interrupted: closing what is open.");
        cancelled.cancel();
    });
    Ok(stop)
}

fn clean_up(folder: TempDir, keep: bool, progress: &Progress) -> anyhow::Result<()> {
    if keep {
        progress.line(format!("Kept: {}", folder.keep().display()));
        return Ok(());
    }
    let path = folder.path().to_owned();
    folder.close().with_context(|| format!("cannot remove {}", path.display()))
}

/// Draws what happens.
struct Picture {
    progress: Progress,
    token: OnceLock<Token>,
}

impl Picture {
    fn show(&self, amount: TokenAmount) -> String {
        self.token.get().map_or_else(|| amount.to_string(), |token| token.format(amount))
    }

    fn draw(&self, event: &DemoEvent) {
        let line = |text: String| self.progress.line(text);
        match event {
            DemoEvent::MarketReady { market, market_file } => {
                self.token.get_or_init(|| market.token.clone());
                let (id, url) = (market.chain_id, market.rpc.join(", "));
                line(format!("[1/7] Chain {id} runs at {url}; the contracts are deployed."));
                line(format!("      Market file: {}", market_file.display()));
                self.progress.wait_for("the provider registers");
            }
            DemoEvent::Registered(registered) => {
                let (provider, endpoint) = (registered.provider, &registered.endpoint);
                line(format!("[2/7] Provider {provider} is registered; its daemon runs."));
                line(format!("      Endpoint: {endpoint}"));
            }
            DemoEvent::Opening { job, deposit } => {
                let deposit = self.show(*deposit);
                line(format!("[3/7] The publisher opens job {job}"));
                line(format!("      with a deposit of {deposit}."));
                self.progress.wait_for("the deposit moves into the escrow");
            }
            DemoEvent::Provider(event) => self.draw_provider(event),
            DemoEvent::Closing => {
                line("[7/7] The publisher gives notice.".into());
                self.progress.wait_for("the provider gives back what it did not earn");
            }
            DemoEvent::Refunded { amount } => {
                line(format!("      The publisher withdrew {}.", self.show(*amount)));
            }
        }
    }

    fn draw_provider(&self, event: &ProviderEvent) {
        let line = |text: String| self.progress.line(text);
        match event {
            ProviderEvent::JobSeen { .. } => {
                line("[4/7] The provider learned of the job from its event.".into());
                self.progress.wait_for("the provider takes the start fee");
            }
            ProviderEvent::StartFeePaid { paid, .. } => {
                line(format!("      It took its start fee: {}.", self.show(*paid)));
            }
            ProviderEvent::Closing { .. } => line("      The provider saw the notice.".into()),
            ProviderEvent::Closed { .. } => line("      It closed the job.".into()),
            ProviderEvent::Reorganised { from_block } => {
                line(format!("      The chain was reorganised from block {from_block} on."));
            }
            ProviderEvent::CallFailed { error, .. } => {
                line(format!("      The provider will try again: {}", with_causes(error)));
            }
            ProviderEvent::ChainLost { error } => {
                line(format!("      The provider waits for the chain: {}", with_causes(error)));
            }
            ProviderEvent::ChainBack => line("      The chain answers again.".into()),
        }
    }
}

/// What happened, and what of a whole market is not there yet.
fn table(report: &DemoReport) -> Table {
    let show = |amount| report.token.format(amount);
    let rows = [
        ("chain and contracts", format!("chain {} ({})", report.chain_id, report.chain), ""),
        (
            "provider",
            "registered; its daemon follows the chain".into(),
            "answering at its endpoint",
        ),
        (
            "publisher opens the job",
            format!("deposit {}", show(report.deposit)),
            "image, content store, bundle",
        ),
        (
            "provider serves the job",
            format!("seen by its event alone; start fee {}", show(report.paid)),
            "container",
        ),
        ("publisher calls the service", String::new(), "all of it"),
        ("metering and settlement", String::new(), "all of it"),
        (
            "publisher closes",
            format!("paid {} + refunded {} = deposit", show(report.paid), show(report.refunded)),
            "last voucher, bill",
        ),
    ];
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if table.width().is_some_and(|width| width >= MIN_TABLE_WIDTH) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(["", "step", "what happened", "not there yet"]);
    for (number, (step, happened, missing)) in (1..).zip(rows) {
        table.add_row([&format!("{number}"), step, &happened, missing]);
    }
    table
}
