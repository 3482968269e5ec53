//! `roadstead withdraw`: the publisher's free money, out of the escrow.

use anyhow::Context as _;
use roadstead_devnet::StoreChoice;
use roadstead_publisher::withdraw;

use crate::{arguments, context::Context, output::Progress, publisher::Publisher, resumed};

pub(crate) async fn run(command: arguments::Withdraw, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command.market)?;
    let wallet = command.account.open().await?;
    let publisher =
        Publisher::open(context, &market, wallet.into(), &StoreChoice::Embedded).await?;
    let progress = Progress::start();
    resumed::tell(&publisher.ports, &progress);
    progress.wait_for("the balance moves into the wallet");
    let withdrawn = withdraw(&publisher.ports).await;
    progress.finish();
    let withdrawn = withdrawn.context("nothing was withdrawn")?;
    context.print(&withdrawn, || match withdrawn.transaction {
        Some(transaction) => format!(
            "{} were withdrawn to {} by transaction {transaction}.",
            market.token.format(withdrawn.amount),
            withdrawn.to
        ),
        None => format!(
            "The escrow holds nothing for {}. What a job has left comes there when it is closed.",
            withdrawn.to
        ),
    })
}
