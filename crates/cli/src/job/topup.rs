//! `roadstead job topup`.

use anyhow::Context as _;
use roadstead_devnet::StoreChoice;
use roadstead_publisher::top_up;

use super::find::find_id;
use crate::{arguments::Topup, context::Context, output::Progress, publisher::Publisher};

pub(super) async fn run(command: &Topup, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command.named.market)?;
    let token = market.token.clone();
    let amount = token.parse(&command.amount)?;
    let wallet = command.account.wallet()?;
    let job = find_id(context, &market, &command.named.job).await?;
    let publisher =
        Publisher::open(context, &market, wallet.into(), &StoreChoice::Embedded).await?;
    let progress = Progress::start();
    progress.wait_for("the amount moves into the escrow");
    let added = top_up(&publisher.ports, job, amount).await;
    progress.finish();
    let added = added.context("nothing was added")?;
    context.print(&added, || {
        format!(
            "{} were added to job {job}; its deposit is {} now.",
            token.format(added.added),
            token.format(added.deposit)
        )
    })
}
