//! `roadstead job topup`.

use anyhow::Context as _;
use roadstead_devnet::StoreChoice;
use roadstead_publisher::top_up;

use super::find::find_id;
use crate::{arguments::Topup, context::Context, output::Progress, publisher::Publisher, resumed};

pub(super) async fn run(command: &Topup, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command.named.market)?;
    let token = market.token.clone();
    let amount = token.parse(&command.amount)?;
    let wallet = command.account.open().await?;
    let job = find_id(context, &market, &command.named.job).await?;
    let publisher =
        Publisher::open(context, &market, wallet.into(), &StoreChoice::Embedded).await?;
    let progress = Progress::start();
    progress.wait_for("the amount moves into the escrow");
    let added = top_up(&publisher.ports, job, amount).await;
    resumed::tell(&publisher.ports, &progress);
    progress.finish();
    let added = added.context("nothing was added")?;
    context.print(&added, || {
        if added.resumed {
            return format!(
                "{} of an earlier top-up, which was interrupted, have now come through; the deposit of job {job} is {} now. \
                 Nothing else was added: the same command adds once more.",
                token.format(added.added),
                token.format(added.deposit)
            );
        }
        format!(
            "{} were added to job {job}; its deposit is {} now.",
            token.format(added.added),
            token.format(added.deposit)
        )
    })
}
