//! `roadstead job close`.

use std::time::Duration;

use alloy_primitives::Address;
use anyhow::Context as _;
use roadstead_devnet::StoreChoice;
use roadstead_publisher::{CloseEvent, Closed, Ending, close};
use roadstead_types::{JobId, JobStatus, Token, TokenAmount};

use super::find::find;
use crate::{
    agent::Door,
    arguments::Close,
    context::Context,
    failure::with_causes,
    output::Progress,
    publisher::Publisher,
    resumed,
    table::{short, span},
};

/// How long the end is waited for after notice was given: a provider that runs ends the job at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever did not open a job cannot end it.
#[derive(Debug, thiserror::Error)]
#[error("job {job} is one of {publisher}, the account that is named is {account}")]
pub(crate) struct NotThePublisher {
    job: JobId,
    publisher: Address,
    account: Address,
}

pub(super) async fn run(command: &Close, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command.named.market)?;
    let wallet = command.account.open().await?;
    let progress = Progress::start();
    let (plan, status) = {
        // Given back before the job is closed: an agent may begin meanwhile, for somebody has to accept the last bill.
        let door = Door::find(context, &market, "").await?;
        let found = find(&door, &command.named.job).await?.summary;
        if found.status == JobStatus::Open && matches!(door, Door::Here { .. }) {
            progress.line(
                "No agent runs, so nobody accepts the last bill; `roadstead agent` in another terminal does.",
            );
        }
        (found.plan, found.status)
    };
    let (job, account) = (plan.key.job, wallet.address());
    // After the notice anybody can end it, and the money goes to its publisher all the same.
    if status == JobStatus::Open && plan.terms.publisher != account {
        return Err(NotThePublisher { job, publisher: plan.terms.publisher, account }.into());
    }
    let publisher =
        Publisher::open(context, &market, wallet.into(), &StoreChoice::Embedded).await?;
    resumed::tell(&publisher.ports, &progress);
    progress.wait_for(match status {
        JobStatus::Open => "the provider is asked to end the job",
        _ => "the end of the job",
    });
    let told = progress.clone();
    let report = move |event| tell(&told, &event);
    let ports = &publisher.ports;
    let closed = close(ports, &plan.terms, ports.from_block, PATIENCE, report).await;
    let head = ports.reader.head().await;
    progress.finish();
    let closed = closed.context("the job is not closed")?;
    let left = match (&closed, head) {
        (Closed::NoticeRuns { close_at, .. }, Ok(head)) => Some(close_at.since(head.timestamp)),
        _ => None,
    };
    context.print(&closed, || match closed {
        Closed::Closed { job, paid, refund, how } => ended(job, &market.token, paid, refund, how),
        Closed::NoticeRuns { job, close_at } => {
            let left = left.map_or_else(String::new, |left| format!(", in {}", span(left)));
            format!(
                "Notice was given; the provider may end job {} at any time. At chain time {close_at}{left}, \
                 anybody can:\n\nroadstead job close {job}",
                short(job)
            )
        }
    })
}

fn tell(progress: &Progress, event: &CloseEvent) {
    match event {
        CloseEvent::Ordered => {
            progress.line("The provider took the order.");
            progress.wait_for("the provider stops the containers, makes the last bill and closes");
        }
        CloseEvent::NoticeGiven { why } => {
            progress.line(format!("Notice was given on chain instead: {}", with_causes(why)));
            progress.wait_for("a provider that sees the notice ends the job at once");
        }
    }
}

fn ended(job: JobId, token: &Token, paid: TokenAmount, refund: TokenAmount, how: Ending) -> String {
    let how = match how {
        Ending::Order => "its provider ended it",
        Ending::Notice => "after notice on chain",
    };
    format!(
        "Job {} is closed ({how}). It cost {}; {} came back into the publisher's balance in the escrow.\n\n\
         roadstead bill verify {job}\nroadstead withdraw",
        short(job),
        token.format(paid),
        token.format(refund)
    )
}
