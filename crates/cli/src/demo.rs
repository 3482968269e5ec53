//! `roadstead demo`: draws the demonstration while it plays.

use std::{
    pin::pin,
    sync::{Arc, OnceLock},
};

use comfy_table::Table;
use roadstead_devnet::{
    ChainChoice, SHIM, StoreChoice,
    demo::{self, DemoConfig, DemoError, DemoEvent, DemoReport, DemoStop},
};
use roadstead_provider::ProviderEvent;
use roadstead_publisher::{AgentEvent, CloseEvent};
use roadstead_types::{Token, TokenAmount};

use crate::{
    arguments,
    context::Context,
    failure::{Interrupted, plain, with_causes},
    output::Progress,
    signals::Signals,
    table::{self, size},
};

const PREFACE: &str = "\
This plays a market on this machine: a chain, its contracts, a publisher and a provider. The publisher
encrypts a container image and opens a job with test money; the provider fetches, decrypts and runs it; the
service is called; the provider meters it every 2 seconds and is paid for what the publisher's agent accepts;
the job is closed, the rest refunded and the bill recomputed. It takes about 20 seconds; Ctrl-C closes the
job and cleans up.
";

pub(crate) async fn run(command: arguments::Demo, context: &Context) -> anyhow::Result<()> {
    let progress = Progress::start();
    let mut signals = Signals::listen()?;
    progress.line(PREFACE);
    if let ChainChoice::Url(url) = &command.chain {
        progress.line(format!("What it deploys stays on the chain at {url}.\n"));
    }
    if let StoreChoice::Url(url) = &command.store {
        progress.line(format!(
            "What it puts into the Kubo daemon at {url} is not pinned any more in the end; `ipfs repo gc` there removes \
             it.\n"
        ));
    }
    let folder = context.home.demo_folder()?;

    progress.wait_for("starting the chain, deploying the contracts");
    let picture = Arc::new(Picture { progress: progress.clone(), token: OnceLock::new() });
    let drawn = picture.clone();
    let config = DemoConfig {
        chain: command.chain.clone(),
        store: command.store.clone(),
        engine: command.engine,
        workload: command.workload(),
        folder: folder.path().to_owned(),
        shim: SHIM.into(),
    };
    let stop = DemoStop::default();
    let mut playing = pin!(demo::run(config, stop.clone(), move |event| drawn.draw(&event)));
    let played = loop {
        // Cancel-safe: the demonstration goes on where it was, and a signal is not lost by not being waited for.
        tokio::select! {
            played = &mut playing => break played,
            () = signals.next() => {}
        }
        if stop.abandon.is_cancelled() {
            let left = folder.keep();
            let what =
                format!("containers that were being removed may be left; see {}", left.display());
            return Err(Interrupted { what }.into());
        } else if stop.interrupt.is_cancelled() {
            progress
                .line("Giving up: only the containers are removed. Once more to leave even these.");
            stop.abandon.cancel();
        } else {
            progress.line("Interrupted: closing what is open. Once more to give that up.");
            stop.interrupt.cancel();
        }
    };
    progress.finish();
    let cleaned = folder.clean_up(command.keep, &progress);
    if let Err(error) = &cleaned
        && played.is_err()
    {
        progress.line(with_causes(error.as_ref()));
    }

    let report = match played {
        Err(DemoError::Interrupted { refund }) => {
            progress.line(match refund {
                Some(refund) => format!("The job was closed, {} came back.", picture.show(refund)),
                None => "No job was open.".to_owned(),
            });
            return Err(DemoError::Interrupted { refund }.into());
        }
        played => played?,
    };
    cleaned?;
    context.print(&report, || summary(&report))
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
                line(format!("[2/7] Provider {provider} is registered."));
                line(format!("      It listens at {endpoint}"));
            }
            DemoEvent::Sealing(sealing) => self.progress.wait_for(format!(
                "the publisher seals layer {} of {}, {}",
                sealing.layer.saturating_add(1),
                sealing.layers,
                size(sealing.read),
            )),
            DemoEvent::Sealed(image) => {
                let (plain, sealed) = (size(image.raw_bytes), size(image.sealed_bytes));
                line(format!("[3/7] The publisher encrypted image {}", image.image));
                let (blocks, root) = (image.blocks, image.root);
                line(format!("      {plain} of layers in {blocks} blocks, {sealed} in all:"));
                line(format!("      {root}"));
                self.progress.wait_for("the bundle is sealed to the provider");
            }
            DemoEvent::Opening { job, deposit } => {
                let deposit = self.show(*deposit);
                line(format!("      It opens job {job}"));
                line(format!("      with a deposit of {deposit}."));
                self.progress.wait_for("the deposit moves into the escrow");
            }
            DemoEvent::Provider(event) => self.draw_provider(event),
            DemoEvent::Answered { url, answer } => {
                line(format!("[5/7] The publisher called {url}: HTTP {}", answer.status));
                if let Some(first) = answer.beginning.lines().next() {
                    line(format!("      {}", plain(first)));
                }
                self.progress.wait_for("the provider reads its meter");
            }
            DemoEvent::Agent(event) => self.draw_agent(event),
            DemoEvent::Closing => {
                line("[7/7] The publisher closes the job.".into());
                self.progress.wait_for("the last bill");
            }
            DemoEvent::Leaving(CloseEvent::Ordered) => {
                self.progress.wait_for("the provider stops the container and closes");
            }
            DemoEvent::Leaving(CloseEvent::NoticeGiven { why }) => {
                line(format!("      It gave notice on chain: {}", with_causes(why)));
            }
            DemoEvent::Verified(bill) => {
                let (receipts, due) = (bill.receipts, self.show(bill.due));
                line(format!("      Recomputed from {receipts} receipts, the bill is {due}."));
            }
            DemoEvent::Refunded { amount } => {
                line(format!("      The publisher withdrew {}.", self.show(*amount)));
            }
        }
    }

    fn draw_agent(&self, event: &AgentEvent) {
        let line = |text: String| self.progress.line(text);
        match event {
            AgentEvent::Accepted { receipt, accepted, .. } => {
                let (number, sum) = (receipt.seq.saturating_add(1), self.show(*accepted));
                if receipt.seq == 0 {
                    line("[6/7] The provider meters, the publisher's agent recomputes.".into());
                }
                line(format!("      Receipt {number} is right; the agent accepted {sum} in all."));
            }
            AgentEvent::Refused { refusal, .. } => {
                let (number, code) = (refusal.seq.saturating_add(1), refusal.code);
                line(format!("      The agent does not accept receipt {number}: {code}"));
            }
            AgentEvent::Equivocation { seq, .. } => {
                let number = seq.saturating_add(1);
                line(format!("      There are two receipts {number}; the agent signs no more."));
            }
            AgentEvent::State { state, .. } => {
                if let Some(note) = &state.note {
                    line(format!("      The provider says: {}", plain(note)));
                }
            }
            AgentEvent::Lost { error, .. } => {
                line(format!("      The agent will ask again: {}", with_causes(error)));
            }
            AgentEvent::ChainLost { error } => {
                line(format!("      The agent waits for the chain: {}", with_causes(error)));
            }
            AgentEvent::Following { .. }
            | AgentEvent::MadeUp { .. }
            | AgentEvent::Ignored { .. }
            | AgentEvent::Connected { .. }
            | AgentEvent::Restored { .. }
            | AgentEvent::Finished { .. }
            | AgentEvent::ChainBack => {}
        }
    }

    fn draw_provider(&self, event: &ProviderEvent) {
        let line = |text: String| self.progress.line(text);
        match event {
            ProviderEvent::JobSeen { .. } => {
                line("[4/7] The provider learned of the job from its event.".into());
                self.progress.wait_for("the provider fetches the bundle");
            }
            ProviderEvent::Admitted { .. } => {
                line("      It opened the bundle and takes the job.".into());
                self.progress.wait_for("the provider fetches the image");
            }
            ProviderEvent::Fetching { done, total, .. } => {
                let percent = total
                    .filter(|total| *total > 0)
                    .map(|total| format!(" ({} %)", done.saturating_mul(100) / total));
                let percent = percent.unwrap_or_default();
                let done = size(*done);
                self.progress.wait_for(format!("the provider fetches the image: {done}{percent}"));
            }
            ProviderEvent::Starting { .. } => {
                line("      It fetched and verified the image.".into());
                self.progress.wait_for("the provider unpacks and starts the container");
            }
            ProviderEvent::Running { .. } => {
                line("      The container runs.".into());
                self.progress.wait_for("the service answers");
            }
            ProviderEvent::Exited { status, .. } => {
                let status = status.map_or_else(|| "unknown".to_owned(), |code| code.to_string());
                line(format!("      The container ended (status {status}); it is started anew."));
            }
            ProviderEvent::Refused { refusal, .. } => {
                line(format!("      The provider refuses the job: {}", with_causes(refusal)));
            }
            ProviderEvent::DeployFailed { error, .. } => {
                line(format!("      The provider will try again: {}", with_causes(error)));
            }
            ProviderEvent::Removed { .. } => {
                line("      The container and its image are gone.".into());
            }
            ProviderEvent::RemoveFailed { error, .. } => {
                line(format!("      The provider will try again: {}", with_causes(error)));
            }
            ProviderEvent::StartFeePaid { paid, .. } => {
                line(format!("      It took its start fee: {}.", self.show(*paid)));
            }
            ProviderEvent::Settled { paid, .. } => {
                line(format!("      The provider was paid: {} in all.", self.show(*paid)));
            }
            ProviderEvent::Paused { .. } => line("      The provider froze the container.".into()),
            ProviderEvent::Resumed { .. } => line("      The container runs again.".into()),
            ProviderEvent::Draining { .. } => {
                line("      The provider made its last receipt; it bills nothing more.".into());
            }
            ProviderEvent::ReceiptRefused { refusal, .. } => {
                let number = refusal.seq.saturating_add(1);
                line(format!("      The provider hears: receipt {number} is not accepted."));
            }
            ProviderEvent::ReceiptSigned { .. }
            | ProviderEvent::VoucherAccepted { .. }
            | ProviderEvent::ToppedUp { .. }
            | ProviderEvent::Ordered { .. }
            | ProviderEvent::ReceiptsLost { .. }
            | ProviderEvent::ReceiptsRestored { .. } => {}
            ProviderEvent::ResumeFailed { error } => {
                line(format!("      The provider will try again: {}", with_causes(error)));
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

/// What happened.
fn summary(report: &DemoReport) -> Table {
    let show = |amount| report.token.format(amount);
    let (deposit, paid, refunded) =
        (show(report.deposit), show(report.paid), show(report.refunded));
    let rows = [
        ("chain and contracts", format!("chain {} ({})", report.chain_id, report.chain)),
        ("provider", "registered, listens, follows the chain".to_owned()),
        (
            "publisher opens the job",
            format!("image {}\nin store {}\ndeposit {deposit}", report.image_root, report.store),
        ),
        (
            "provider serves the job",
            format!("seen by its event alone, runs in a container (engine {})", report.engine),
        ),
        (
            "publisher calls the service",
            format!("{} answered HTTP {}", report.url, report.http_status),
        ),
        (
            "metering and settlement",
            format!(
                "{} receipts, {} vouchers, paid {} times",
                report.receipts, report.vouchers, report.settlements
            ),
        ),
        (
            "publisher closes",
            format!(
                "paid {paid} + refunded {refunded} = deposit\nthe bill follows from its receipts"
            ),
        ),
    ];
    let rows = (1u8..)
        .zip(rows)
        .map(|(number, (step, happened))| [number.to_string(), step.to_owned(), happened]);
    table::rows(["", "step", "what happened"], rows)
}
