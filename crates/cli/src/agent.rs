//! `roadstead agent`: the publisher's long-running process.
//!
//! It holds the signer's key and no money, follows every job that names it, accepts what is right of their bills, and
//! serves the publisher's blocks. It owns the folder `agent`; commands ask it over its socket there. A crash loses
//! nothing: what was accepted is in the journal, and the next agent goes on from there.

mod board;
mod desk;
mod door;
mod lines;
mod protocol;
mod reset;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use roadstead_journal::StateFolder;
use roadstead_publisher::{Agent, AgentError, AgentEvent, AgentKeys, AgentLimits, wire_agent};
use roadstead_store::{Gateway, StoreReader};
use roadstead_types::{JobPlan, Market, SyntaxError, Token};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    arguments::{self, AgentCommand, AgentOptions},
    context::Context,
    control::{self, ControlServer},
    failure::Interrupted,
    file::read_text,
    home::{Home, Role},
    output::{self, Progress},
    signals::Signals,
};
use desk::Desk;

pub(crate) use door::{AnotherMarket, Door, Watching};
pub(crate) use lines::line_of;
pub(crate) use protocol::{About, FollowedJob, Live};

/// The most bytes that a prepared job has.
const MAX_PLAN: u64 = 64 << 10;

/// The folder of the blocks in the publisher's folder.
pub(crate) const BLOCKS: &str = "blocks";

/// Nobody could fetch anything from there.
#[derive(Debug, thiserror::Error)]
#[error(
    "where providers fetch the publisher's blocks is not known: the gateway has no address or port of its own"
)]
pub(crate) struct NoSource;

pub(crate) async fn run(command: arguments::Agent, context: &Context) -> anyhow::Result<()> {
    match command.command {
        None => serve(&command, context).await,
        Some(AgentCommand::Adopt(adopt)) => adopt_plan(&adopt, context).await,
        Some(AgentCommand::Reset(command)) => reset::run(&command, context),
    }
}

async fn serve(command: &arguments::Agent, context: &Context) -> anyhow::Result<()> {
    let progress = Progress::start();
    let mut signals = Signals::listen()?;
    let market = context.market(&command.market)?;
    let (token, told) = (market.token.clone(), progress.clone());
    let report = move |event: &AgentEvent| told.line_of(line_of(event, &token));
    progress.wait_for("connecting");
    // Cancel-safe: nothing was promised to anybody yet.
    let mut agent = tokio::select! {
        started = RunningAgent::start(&context.home, &market, &command.options, report) => started?,
        () = signals.next() => {
            return Err(Interrupted { what: "no agent runs".to_owned() }.into());
        }
    };
    progress.line(format!("The agent {} accepts bills.", agent.about().signer));
    progress.line(format!("Providers fetch blocks at {}", agent.about().source));
    progress.wait_for("following jobs; Ctrl-C ends the agent, its jobs go on");
    if context.is_json() {
        output::print_json(agent.about())?;
    }
    // Cancel-safe, both: a signal is not lost by not being waited for, and an agent that ended says so again.
    let ended = tokio::select! {
        () = signals.next() => Ok(()),
        ended = agent.ended() => ended,
    };
    progress.finish();
    agent.shutdown().await;
    ended?;
    progress.line(
        "The agent ended. Its jobs run on; their bills wait until `roadstead agent` runs again.",
    );
    Ok(())
}

async fn adopt_plan(command: &arguments::Adopt, context: &Context) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Adopted {
        job: roadstead_types::JobId,
        is_running: bool,
    }
    let market = context.market(&command.market)?;
    let plan = read_plan(&command.plan)?;
    let door = Door::find(context, &market, "").await?;
    let signer = door.about().signer;
    if plan.terms.signer != signer {
        anyhow::bail!(
            "the bills of job {} are accepted by {}, this agent is {signer}",
            plan.key.job,
            plan.terms.signer
        );
    }
    door.adopt(&plan).await?;
    let is_running = matches!(door, Door::Running { .. });
    let adopted = Adopted { job: plan.key.job, is_running };
    context.print(&adopted, || {
        let what = if is_running {
            "the agent that runs follows it"
        } else {
            "`roadstead agent` follows it"
        };
        format!("Job {} is known; {what} once it is open.", plan.key.job)
    })
}

fn read_plan(path: &Path) -> anyhow::Result<JobPlan> {
    let unusable = || format!("the prepared job {} cannot be used", path.display());
    let text = read_text(path, MAX_PLAN).with_context(unusable)?;
    let read = serde_json::from_str(&text).map_err(|error| SyntaxError::of_json(&error));
    read.with_context(unusable)
}

/// An agent that runs in this process, and answers over its socket.
pub(crate) struct RunningAgent {
    about: About,
    folder: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
    gateway: Gateway,
    control: ControlServer,
    _lock: StateFolder,
}

impl RunningAgent {
    pub(crate) async fn start(
        home: &Home,
        market: &Market,
        options: &AgentOptions,
        report: impl Fn(&AgentEvent) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let limits = limits(options, &market.token)?;
        let lock = home.lock(Role::Agent)?;
        let keys = AgentKeys::load_or_create(&lock)?;
        let ports = wire_agent(market.clone(), &lock, &keys).await?;
        let blocks = StoreReader::new(home.role_path(Role::Publisher).join(BLOCKS));
        let gateway =
            Gateway::serve(Arc::new(blocks), options.gateway, &CancellationToken::new()).await;
        let gateway = gateway.context("the publisher's blocks cannot be served")?;
        let source = source_at(options, gateway.local_addr())?;
        let desk = Desk::new(ports.clone(), source);
        let (about, board) = (desk.about.clone(), desk.board.clone());
        let control = control::serve(&lock, move |request, to| {
            let desk = desk.clone();
            async move { desk.answer(request, to).await }
        })?;
        let stop = CancellationToken::new();
        let agent = Agent::new(ports, limits, move |event| {
            board.hear(&event);
            report(&event);
        });
        let task = tokio::spawn(agent.run(stop.clone()));
        let folder = lock.path().to_owned();
        Ok(Self { about, folder, stop, task, gateway, control, _lock: lock })
    }

    pub(crate) const fn about(&self) -> &About {
        &self.about
    }

    /// As another process would reach it.
    pub(crate) fn door(&self) -> Door {
        Door::Running { folder: self.folder.clone(), about: self.about.clone() }
    }

    /// Waits until it gives up. May be dropped at any time.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<()> {
        match (&mut self.task).await {
            Ok(ended) => Ok(ended.context("the agent ended")?),
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    /// Ends it. What it accepted stays accepted.
    pub(crate) async fn shutdown(self) {
        drop(self.control);
        self.stop.cancel();
        if !self.task.is_finished() {
            // How it ended was not asked for.
            let _ = self.task.await;
        }
        self.gateway.shutdown().await;
    }
}

/// Where providers will fetch the publisher's blocks from an agent with these options.
pub(crate) fn source_of(options: &AgentOptions) -> Result<String, NoSource> {
    source_at(options, options.gateway)
}

fn source_at(options: &AgentOptions, gateway: SocketAddr) -> Result<String, NoSource> {
    match &options.source {
        Some(source) => Ok(source.clone()),
        None if gateway.ip().is_unspecified() || gateway.port() == 0 => Err(NoSource),
        None => Ok(format!("http://{gateway}")),
    }
}

fn limits(options: &AgentOptions, token: &Token) -> anyhow::Result<AgentLimits> {
    let read = |text: &Option<String>| text.as_deref().map(|text| token.parse(text)).transpose();
    Ok(AgentLimits { per_job: read(&options.limit_per_job)?, all: read(&options.limit)? })
}
