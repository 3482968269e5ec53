//! `roadstead publish`: from a manifest to a service that answers.
//!
//! ```text
//!  manifest ── sealed ──> blocks, bundle, plan ── adopted by the agent ──> open ── seen, fetched, started ──> answers
//!                              │ --prepare
//!                              └──> the lines for `cast`, and a file for an agent elsewhere
//! ```
//!
//! The agent knows a job before it is opened, so no bill of it is ever without somebody to accept it. Interrupted at any
//! point, the same command goes on from there and never opens twice. Where no agent runs in the home folder, this
//! process is the agent from its start on until it is ended.

mod follow;
mod prepare;

use std::{
    cell::Cell,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use alloy_primitives::{Address, B256};
use anyhow::Context as _;
use comfy_table::Table;
use roadstead_publisher::{OpenRequest, Purse, open, read_manifest};
use roadstead_types::{JobId, ManifestContainer, Market, TokenAmount, Workload, content};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{
    agent::{Door, RunningAgent, line_of},
    arguments,
    context::Context,
    failure::{Interrupted, plain},
    output::Progress,
    publisher::Publisher,
    signals::Signals,
    table,
};
use follow::Answering;
use prepare::{Job, Standing};

pub(crate) use follow::NoAnswer;
pub(crate) use prepare::ManyProviders;

/// A workload that was read, and the folder of its paths.
type Manifest = (Workload<ManifestContainer>, PathBuf);

/// What was published.
#[derive(Serialize)]
struct Published {
    job: JobId,
    /// Where its lowest port can be called.
    url: Option<String>,
    #[serde(flatten)]
    answering: Answering,
    publisher: Address,
    provider: Address,
    signer: Address,
    deposit: TokenAmount,
    /// The graphs of its images.
    image_roots: Vec<String>,
    bundle: String,
    /// The transaction that opened it, if this command sent it.
    transaction: Option<B256>,
    /// Whether this process is the agent, and has to go on.
    is_agent: bool,
}

pub(crate) async fn run(command: arguments::Publish, context: &Context) -> anyhow::Result<()> {
    let progress = Progress::start();
    let mut signals = Signals::listen()?;
    let manifest = read_manifest(&command.file)?;
    let market = context.market(&command.market)?;
    let purse = purse(&command).await?;
    if command.prepare {
        return prepare::print_lines(&command, context, manifest, &market, purse, &progress).await;
    }
    let is_loud = Arc::new(AtomicBool::new(false));
    let (own, door) = agent(&command, context, &market, &progress, is_loud.clone()).await?;
    let publishing = Publishing {
        command: &command,
        context,
        market: &market,
        door: &door,
        progress: &progress,
        opened: Cell::new(None),
    };
    // Cancel-safe: every step of it may be cut off and repeated, and a signal is not lost by not being waited for.
    let published = tokio::select! {
        published = publishing.publish(manifest, purse) => published,
        () = signals.next() => Err(interrupted(publishing.opened.get())),
    };
    progress.finish();
    let published = match (published, own) {
        (Ok(published), Some(agent)) => {
            let is_agent = true;
            let published = Published { is_agent, ..published };
            context.print(&published, || summary(&published, &market))?;
            is_loud.store(true, Ordering::Relaxed);
            return go_on(agent, &progress, &mut signals).await;
        }
        (published, own) => {
            if let Some(agent) = own {
                agent.shutdown().await;
            }
            published?
        }
    };
    context.print(&published, || summary(&published, &market))
}

/// Whose money it is.
async fn purse(command: &arguments::Publish) -> anyhow::Result<Purse> {
    if let Some(publisher) = command.publisher {
        return Ok(Purse::Closed(publisher));
    }
    // A keystore is made to take its time.
    let account = command.account.clone();
    let wallet = spawn_blocking(move || account.wallet()).await??;
    Ok(if command.prepare { Purse::Closed(wallet.address()) } else { wallet.into() })
}

/// The agent that runs, or one in this process, which says what it does only once `is_loud`.
async fn agent(
    command: &arguments::Publish,
    context: &Context,
    market: &Market,
    progress: &Progress,
    is_loud: Arc<AtomicBool>,
) -> anyhow::Result<(Option<RunningAgent>, Door)> {
    if let Some(door) = Door::running(context, market).await? {
        return Ok((None, door));
    }
    let (token, told) = (market.token.clone(), progress.clone());
    let report = move |event: &_| {
        if is_loud.load(Ordering::Relaxed) {
            told.line_of(line_of(event, &token));
        }
    };
    let agent = RunningAgent::start(&context.home, market, &command.agent, report).await?;
    progress.line("No agent runs in this home folder, so this process is the agent.");
    let door = agent.door();
    Ok((Some(agent), door))
}

/// What it takes to publish.
struct Publishing<'a> {
    command: &'a arguments::Publish,
    context: &'a Context,
    market: &'a Market,
    door: &'a Door,
    progress: &'a Progress,
    /// The job, once it is open.
    opened: Cell<Option<JobId>>,
}

impl Publishing<'_> {
    async fn publish(&self, manifest: Manifest, purse: Purse) -> anyhow::Result<Published> {
        let Self { command, context, market, door, progress, .. } = *self;
        let publisher = Publisher::open(context, market, purse, &command.store).await?;
        let about = door.about();
        let job = prepare::prepare(command, manifest, market, &publisher, about, progress).await?;
        let Job { plan, standing, images } = job;
        let job = plan.key.job;
        // Before it is opened: nobody else could accept its bills.
        door.adopt(&plan).await?;
        let transaction = if standing == Standing::Live {
            progress.line(format!("Job {job} lives already; another one takes --new."));
            None
        } else {
            progress.line(format!("Job {job}"));
            let deposit = market.token.format(plan.deposit);
            progress.wait_for(format!("opening it with a deposit of {deposit}"));
            let opening = open(&publisher.ports, OpenRequest::from(&plan)).await?;
            progress.line(format!("is open, with a deposit of {deposit}."));
            opening.transaction
        };
        self.opened.set(Some(job));
        // Others may use the publisher's folder while this one waits.
        drop(publisher);
        let answering = follow::until_it_answers(door, job, progress).await?;
        Ok(Published {
            job,
            url: answering.urls.values().next().cloned(),
            answering,
            publisher: plan.terms.publisher,
            provider: plan.terms.provider,
            signer: plan.terms.signer,
            deposit: plan.deposit,
            image_roots: images.iter().map(|image| image.root.to_string()).collect(),
            bundle: content::content_id(content::RAW, plan.terms.bundle).to_string(),
            transaction,
            is_agent: false,
        })
    }
}

fn interrupted(opened: Option<JobId>) -> anyhow::Error {
    let what = match opened {
        Some(job) => format!(
            "job {job} is open and goes on; run the same command again to wait for it, `roadstead agent` to accept its \
             bills, `roadstead job close {job}` to end it"
        ),
        None => "run the same command again to go on; nothing is opened twice".to_owned(),
    };
    Interrupted { what }.into()
}

/// Is the agent until the user ends it.
async fn go_on(
    mut agent: RunningAgent,
    progress: &Progress,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    progress
        .line("This process goes on as the agent, which accepts the job's bills. Ctrl-C ends it.");
    // Cancel-safe, both: a signal is not lost by not being waited for, and an agent that ended says so again.
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = agent.ended() => ended,
    };
    agent.shutdown().await;
    ended.context("nobody accepts the job's bills")?;
    progress.line("The agent ended; the job runs on. `roadstead agent` goes on with its bills.");
    Ok(())
}

fn summary(published: &Published, market: &Market) -> Table {
    let mut facts = vec![
        ("job", published.job.to_string()),
        ("provider", published.provider.to_string()),
        ("deposit", market.token.format(published.deposit)),
    ];
    let urls = published.answering.urls.iter();
    facts.extend(urls.map(|(port, url)| ("called at", format!("{} (port {port})", plain(url)))));
    table::facts(facts)
}
