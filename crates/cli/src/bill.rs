//! `roadstead bill`: whether what was paid follows from what was metered.

use crate::{
    agent::Door,
    arguments::{self, BillCommand},
    context::Context,
    job::find_id,
    table::facts,
};

pub(crate) async fn run(command: arguments::Bill, context: &Context) -> anyhow::Result<()> {
    let BillCommand::Verify(command) = command.command;
    let market = context.market(&command.market)?;
    let job = find_id(context, &market, &command.job).await?;
    let bill = Door::find(context, &market, "").await?.verify(job).await?;
    context.print(&bill, || {
        let show = |amount| market.token.format(amount);
        let table = facts([
            ("job", bill.job.to_string()),
            ("receipts", bill.receipts.to_string()),
            ("up to (chain time)", bill.until.to_string()),
            ("metered", show(bill.metered)),
            ("due", show(bill.due)),
            ("not claimed", show(bill.unclaimed)),
            ("paid", show(bill.paid)),
        ]);
        format!("{table}\nThe bill follows from its receipts, to the unit.")
    })
}
