//! `roadstead job show`.

use roadstead_core::protocol::ReceiptRefusal;
use roadstead_types::{JobStatus, Seconds, Tariff, Terms, Token, TokenAmount};
use serde::Serialize;

use super::{
    facts::{AgentState, Facts, status},
    find::find,
};
use crate::{
    agent::{Door, FollowedJob},
    arguments::NamedJob,
    context::Context,
    failure::plain,
    table::{facts, span},
};

/// All that is known of a job.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    facts: Facts,
    /// For how long the rest of the deposit lasts at full use; `null` where nothing is used, or nothing costs anything.
    runway: Option<Seconds>,
    /// Why the newest receipt is not accepted as it is.
    refusal: Option<ReceiptRefusal>,
    /// What the provider says should be known.
    note: Option<String>,
    /// Why the provider does not answer.
    trouble: Option<String>,
    /// Where the bundle can be fetched.
    source: String,
    terms: Terms,
    tariff: Tariff,
    agent: AgentState,
}

pub(super) async fn run(command: &NamedJob, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command.market)?;
    let door = Door::find(context, &market, "").await?;
    let found = find(&door, &command.job).await?;
    let shown = Shown::new(found, AgentState::of(&door));
    context.print(&shown, || described(&shown, &market.token))
}

impl Shown {
    fn new(found: FollowedJob, agent: AgentState) -> Self {
        let plan = found.summary.plan.clone();
        let live = found.live.clone().unwrap_or_default();
        let refusal = found.summary.refusal.clone();
        let facts = Facts::from(found);
        Self {
            runway: runway(&facts, &plan.terms),
            refusal,
            note: live.note,
            trouble: live.trouble,
            source: plan.source,
            terms: plan.terms,
            tariff: plan.tariff,
            agent,
            facts,
        }
    }
}

fn runway(facts: &Facts, terms: &Terms) -> Option<Seconds> {
    if !matches!(facts.status, JobStatus::Open | JobStatus::Closing) {
        return None;
    }
    lasts(facts.deposit.saturating_sub(facts.accepted.max(facts.paid)), terms.rate_per_hour)
}

fn lasts(rest: TokenAmount, rate_per_hour: TokenAmount) -> Option<Seconds> {
    // 96 bits times 3600 are far below 128.
    let seconds = (rest.units() * 3_600).checked_div(rate_per_hour.units())?;
    Some(Seconds(u32::try_from(seconds).unwrap_or(u32::MAX)))
}

fn described(shown: &Shown, token: &Token) -> String {
    let Shown { facts: job, terms, tariff, .. } = shown;
    let urls: Vec<_> =
        job.urls.iter().map(|(port, url)| format!("{port}: {}", plain(url))).collect();
    let refusal = shown.refusal.as_ref().map_or_else(String::new, |refusal| {
        let number = refusal.seq.saturating_add(1);
        let accepted = token.format(refusal.accepted);
        format!("receipt {number} ({:?}); {accepted} accepted instead", refusal.code)
    });
    let text = |text: &Option<String>| text.as_deref().map(plain).unwrap_or_default();
    let reserved = &tariff.reservation;
    let rows = [
        ("job", job.job.to_string()),
        ("status", status(job.status).to_owned()),
        ("phase", job.phase.to_string()),
        ("called at", urls.join("\n")),
        ("note", text(&shown.note)),
        ("trouble", text(&shown.trouble)),
        ("provider", job.provider.to_string()),
        ("publisher", terms.publisher.to_string()),
        ("signer of bills", terms.signer.to_string()),
        ("deposit", token.format(job.deposit)),
        ("paid", token.format(job.paid)),
        ("accepted", token.format(job.accepted)),
        ("receipts", job.receipts.to_string()),
        ("not accepted", refusal),
        ("lasts, at full use", shown.runway.map(span).unwrap_or_default()),
        ("an hour costs at most", token.format(terms.rate_per_hour)),
        ("start fee", token.format(terms.start_fee)),
        ("notice", span(terms.notice)),
        ("metered every", span(tariff.interval)),
        (
            "reserved",
            format!(
                "{} thousandths of a core, {} MiB of memory, {} MiB of storage,\n\
                 {} bytes a second in, {} out",
                reserved.cpu,
                reserved.memory,
                reserved.storage,
                reserved.network_in,
                reserved.network_out
            ),
        ),
        ("source of blocks", plain(&shown.source)),
        ("bundle (SHA-256)", format!("{:x}", terms.bundle)),
    ];
    let mut text = facts(rows.into_iter().filter(|(_, value)| !value.is_empty())).to_string();
    if let Some(note) = shown.agent.note() {
        text.push('\n');
        text.push_str(note);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_lasts_by_the_full_rate() {
        let amount = |units| TokenAmount::new(units).unwrap();
        assert_eq!(lasts(amount(100), amount(3_600)), Some(Seconds(100)));
        assert_eq!(lasts(amount(0), amount(3_600)), Some(Seconds(0)));
        assert_eq!(lasts(amount(100), amount(0)), None);
        assert_eq!(lasts(TokenAmount::MAX, amount(1)), Some(Seconds(u32::MAX)));
    }
}
