//! `roadstead jobs`: the publisher's jobs, one a row.

use serde::Serialize;

use crate::{
    agent::Door,
    arguments::MarketFile,
    context::Context,
    failure::plain,
    job::{AgentState, Facts, status},
    table::{rows, short},
};

#[derive(Serialize)]
struct Listed {
    agent: AgentState,
    jobs: Vec<Facts>,
}

pub(crate) async fn run(command: MarketFile, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command)?;
    let door = Door::find(context, &market, "").await?;
    let jobs = door.jobs(None).await?.into_iter().map(Facts::from).collect();
    let listed = Listed { agent: AgentState::of(&door), jobs };
    context.print(&listed, || {
        let token = &market.token;
        let mut text = if listed.jobs.is_empty() {
            "No job is known here; `roadstead publish` opens one.".to_owned()
        } else {
            let heads = [
                "job",
                "provider",
                "status",
                "phase",
                "called at",
                "deposit",
                "paid",
                "accepted",
                "receipts",
            ];
            let table = rows(
                heads,
                listed.jobs.iter().map(|job| {
                    let urls: Vec<_> = job.urls.values().map(|url| plain(url)).collect();
                    [
                        short(job.job),
                        job.provider.to_string().chars().take(10).collect(),
                        status(job.status).to_owned(),
                        job.phase.to_string(),
                        urls.join("\n"),
                        token.format(job.deposit),
                        token.format(job.paid),
                        token.format(job.accepted),
                        job.receipts.to_string(),
                    ]
                }),
            );
            table.to_string()
        };
        if let Some(note) = listed.agent.note() {
            text.push('\n');
            text.push_str(note);
        }
        text
    })
}
