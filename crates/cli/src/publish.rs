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
use roadstead_publisher::{AgentEvent, OpenRequest, Purse, open, read_manifest};
use roadstead_types::{JobId, ManifestContainer, Market, TokenAmount, Workload, content};
use serde::Serialize;

use crate::{
    agent::{Door, RunningAgent, line_of},
    arguments,
    context::Context,
    failure::{Interrupted, plain},
    output::Progress,
    publisher::Publisher,
    resumed,
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

/// How far it came, for whoever interrupts it.
#[derive(Clone, Copy)]
enum Reached {
    Nothing,
    /// The transaction may be on its way.
    Opening(JobId),
    Open(JobId),
}

pub(crate) async fn run(command: arguments::Publish, context: &Context) -> anyhow::Result<()> {
    let manifest = read_manifest(&command.file)?;
    let market = context.market(&command.market)?;
    // A password is asked for before anything else is drawn, and while Ctrl-C still ends the process at once.
    let purse = purse(&command).await?;
    let progress = Progress::start();
    let mut signals = Signals::listen()?;
    let reached = Cell::new(Reached::Nothing);
    if command.prepare {
        let preparing =
            prepare::print_lines(&command, context, manifest, &market, purse, &progress);
        // Cancel-safe: every step of it may be cut off and repeated, and so below.
        return tokio::select! {
            printed = preparing => printed,
            () = signals.next() => Err(interrupted(&command, reached.get())),
        };
    }
    let is_loud = Arc::new(AtomicBool::new(false));
    let publishing = Publishing {
        command: &command,
        context,
        market: &market,
        progress: &progress,
        is_loud: &is_loud,
        reached: &reached,
    };
    let mut own = None;
    let published = tokio::select! {
        published = publishing.publish(&manifest, &purse, &mut own) => published,
        () = signals.next() => Err(interrupted(&command, reached.get())),
    };
    progress.finish();
    match (published, own) {
        (Ok(published), Some(agent)) => {
            // Whoever reads the result may be gone; the job still needs its agent.
            if let Err(error) = context.print(&published, || summary(&published, &market)) {
                progress.line(format!("The result cannot be printed: {error}"));
            }
            is_loud.store(true, Ordering::Relaxed);
            go_on(agent, &progress, &mut signals).await
        }
        (Ok(published), None) => context.print(&published, || summary(&published, &market)),
        (Err(error), own) => {
            if let Some(agent) = own {
                agent.shutdown().await;
            }
            Err(error)
        }
    }
}

/// Whose money it is.
async fn purse(command: &arguments::Publish) -> anyhow::Result<Purse> {
    if let Some(publisher) = command.publisher.filter(|_| command.prepare) {
        return Ok(Purse::Closed(publisher));
    }
    let wallet = command.account.open().await?;
    Ok(if command.prepare { Purse::Closed(wallet.address()) } else { wallet.into() })
}

/// What it takes to publish.
struct Publishing<'a> {
    command: &'a arguments::Publish,
    context: &'a Context,
    market: &'a Market,
    progress: &'a Progress,
    /// Whether an agent in this process says what it does.
    is_loud: &'a Arc<AtomicBool>,
    reached: &'a Cell<Reached>,
}

impl Publishing<'_> {
    /// Publishes with the agent that runs, or with one in this process. An agent that ended while the job was waited for
    /// is replaced.
    async fn publish(
        &self,
        manifest: &Manifest,
        purse: &Purse,
        own: &mut Option<RunningAgent>,
    ) -> anyhow::Result<Published> {
        let door = match Door::running(self.context, self.market).await? {
            Some(door) => {
                let limits = [&self.command.agent.limit, &self.command.agent.limit_per_job];
                if limits.into_iter().any(Option::is_some) {
                    self.progress.line("The agent that runs keeps to limits of its own.");
                }
                door
            }
            None => own.insert(self.become_agent().await?).door(),
        };
        let mut published = unless_it_ends(own, self.open(manifest, purse, &door)).await?;
        let job = published.job;
        let has_ports = manifest.0.containers.iter().any(|each| !each.container.ports.is_empty());
        let following = follow::until_it_answers(&door, job, has_ports, self.progress);
        let answering = match unless_it_ends(own, following).await {
            Err(error) if own.is_none() && is_without_agent(&error) => {
                self.progress.line("The agent that ran has ended.");
                let door = own.insert(self.become_agent().await?).door();
                let following = follow::until_it_answers(&door, job, has_ports, self.progress);
                unless_it_ends(own, following).await?
            }
            answering => answering?,
        };
        published.url = answering.urls.values().next().cloned();
        published.answering = answering;
        published.is_agent = own.is_some();
        Ok(published)
    }

    async fn become_agent(&self) -> anyhow::Result<RunningAgent> {
        let Self { command, context, market, progress, is_loud, .. } = *self;
        let (token, told, is_loud) = (market.token.clone(), progress.clone(), is_loud.clone());
        let report = move |event: &AgentEvent| {
            let is_grave = matches!(event, AgentEvent::ChainLost { .. } | AgentEvent::ChainBack);
            if is_grave || is_loud.load(Ordering::Relaxed) {
                told.line_of(line_of(event, &token));
            }
        };
        progress.wait_for("connecting the agent");
        let agent = RunningAgent::start(&context.home, market, &command.agent, report).await?;
        progress.line("No agent runs in this home folder, so this process is the agent.");
        Ok(agent)
    }

    /// Opens the job, or finds it.
    async fn open(
        &self,
        manifest: &Manifest,
        purse: &Purse,
        door: &Door,
    ) -> anyhow::Result<Published> {
        let Self { command, context, market, progress, reached, .. } = *self;
        progress.wait_for("connecting, and bringing earlier transactions to their end");
        let publisher = Publisher::open(context, market, purse.clone(), &command.store).await?;
        resumed::tell(&publisher.ports, progress);
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
            reached.set(Reached::Opening(job));
            let opening = open(&publisher.ports, OpenRequest::from(&plan)).await?;
            progress.line(format!("is open, with a deposit of {deposit}."));
            opening.transaction
        };
        reached.set(Reached::Open(job));
        // Others may use the publisher's folder while this one waits.
        drop(publisher);
        Ok(Published {
            job,
            url: None,
            answering: Answering::default(),
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

/// Does something that needs an agent: cut off where it is the one in this process, and that ends.
async fn unless_it_ends<T>(
    own: &mut Option<RunningAgent>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let Some(agent) = own else { return work.await };
    // Cancel-safe, both: every step of publishing may be repeated, and an agent that ended says so again.
    tokio::select! {
        done = work => done,
        ended = agent.ended() => {
            ended?;
            Err(anyhow::anyhow!("the agent ended before the job answered"))
        }
    }
}

fn is_without_agent(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(NoAnswer::NoAgent { .. }))
}

fn interrupted(command: &arguments::Publish, reached: Reached) -> anyhow::Error {
    let again = if command.new { "`roadstead jobs` tells" } else { "the same command goes on" };
    let what = match reached {
        Reached::Open(job) => format!(
            "job {job} is open and goes on, and {again}; `roadstead agent` accepts its bills, `roadstead job close {job}` \
             ends it"
        ),
        Reached::Opening(job) => {
            format!("the transaction that opens job {job} may be on its way; {again}")
        }
        Reached::Nothing => "nothing was opened; the same command goes on from here".to_owned(),
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
