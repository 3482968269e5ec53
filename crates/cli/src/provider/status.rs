//! `roadstead provider status`.

use alloy_primitives::Address;
use roadstead_journal::{FolderError, StateFolder};
use roadstead_provider::{
    ChainStatus, HostedJob, ProviderStatus, RegistryStatus, status, wire_status,
};
use roadstead_types::{Market, Token, TokenAmount};
use serde::{Deserialize, Serialize};

use super::{engine, own_market, wallet};
use crate::{
    context::Context,
    control::{self, ControlError},
    failure::plain,
    home::Role,
    table::{facts, rows, short, span},
};

/// What the process that holds the folder can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    Status,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) daemon: Daemon,
    pub(super) status: ProviderStatus,
}

/// A daemon that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Daemon {
    pub(super) pid: u32,
    pub(super) engine: String,
    pub(super) listening: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    /// `null` where none runs.
    daemon: Option<Daemon>,
    #[serde(flatten)]
    status: ProviderStatus,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let market = own_market(context)?;
    let report = match ask(context).await? {
        Some(Answer { daemon, status }) => Report { daemon: Some(daemon), status },
        None => match context.home.lock(Role::Provider) {
            Ok(folder) => Report { daemon: None, status: read(&folder, market.clone()).await? },
            // It began, or ended, in this moment.
            Err(error @ FolderError::InUse { .. }) => match ask(context).await? {
                Some(Answer { daemon, status }) => Report { daemon: Some(daemon), status },
                None => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        },
    };
    context.print(&report, || described(&report, &market.token))
}

async fn ask(context: &Context) -> Result<Option<Answer>, ControlError> {
    let asked = control::ask(&context.home.role_path(Role::Provider), &Request::Status).await?;
    match asked {
        Some(asked) => asked.only().await.map(Some),
        None => Ok(None),
    }
}

/// What is known while no daemon runs.
async fn read(folder: &StateFolder, market: Market) -> anyhow::Result<ProviderStatus> {
    let account = wallet::address(folder, None)?;
    let engine = match engine::remembered(folder)? {
        Some(place) => Some(engine::open(folder, &place).await?),
        None => None,
    };
    let ports = wire_status(market, account, folder, engine).await?;
    Ok(status(&ports).await?)
}

fn described(report: &Report, token: &Token) -> String {
    let Report { daemon, status } = report;
    let daemon = match daemon {
        Some(Daemon { pid, engine, .. }) => format!("runs as process {pid}, engine `{engine}`"),
        None => "does not run; `roadstead provider run` starts it".to_owned(),
    };
    let mut known = vec![("account", status.account.to_string())];
    if let Some(chain) = &status.chain {
        known.extend(on_chain(chain, token));
    }
    if let Some(error) = &status.chain_error {
        known.push(("chain", format!("it says nothing: {}", plain(error))));
    }
    known.push(("daemon", daemon));
    let table = facts(known);
    if status.jobs.is_empty() {
        return format!("{table}\nNo job is known.");
    }
    let heads = ["job", "phase", "called at", "metered", "accepted", "paid", "of", "lasts", "open"];
    let jobs = rows(heads, status.jobs.iter().map(|job| row(job, token)));
    format!("{table}\n{jobs}")
}

fn on_chain(chain: &ChainStatus, token: &Token) -> [(&'static str, String); 4] {
    let registry = match &chain.registry {
        RegistryStatus::Absent => "not registered".to_owned(),
        RegistryStatus::Unusable => "registered, with an endpoint that makes no sense".to_owned(),
        RegistryStatus::Registered { endpoint, .. } => format!("registered at {endpoint}"),
    };
    [
        ("ether", ether(chain.wei)),
        ("in its wallet", token.format(chain.wallet)),
        ("free in the escrow", token.format(chain.escrow)),
        ("registry", registry),
    ]
}

fn ether(wei: u128) -> String {
    let ether = Token { address: Address::ZERO, symbol: "ETH".into(), decimals: 18 };
    ether.format(TokenAmount::new(wei).unwrap_or(TokenAmount::MAX))
}

fn row(job: &HostedJob, token: &Token) -> [String; 9] {
    let urls: Vec<_> = job.urls.values().map(String::as_str).collect();
    [
        short(job.job),
        job.phase.to_string(),
        urls.join("\n"),
        token.format(job.metered),
        token.format(job.accepted),
        token.format(job.paid),
        token.format(job.deposit),
        job.runway.map(span).unwrap_or_default(),
        span(job.open_for),
    ]
}
