//! `roadstead providers`: who can be rented from, and for what. It needs neither an account nor a folder.

use anyhow::Context as _;
use roadstead_chain::MarketClient;
use roadstead_crypto::NodeIdentity;
use roadstead_net::JobClient;
use roadstead_publisher::{ListedProvider, providers};
use roadstead_types::{Resource, Token};
use serde::Serialize;

use crate::{
    arguments::MarketFile, context::Context, failure::plain, output::Progress, prices::shown,
    table::rows,
};

#[derive(Serialize)]
struct Listed {
    providers: Vec<ListedProvider>,
}

pub(crate) async fn run(command: MarketFile, context: &Context) -> anyhow::Result<()> {
    let market = context.market(&command)?;
    let token = market.token.clone();
    let client = MarketClient::connect(market).await;
    let client = client.context("the market's chain cannot be used")?;
    let link = JobClient::start(&NodeIdentity::generate());
    let link = link.context("the peer network cannot be used")?;
    let progress = Progress::start();
    progress.wait_for("asking the providers for their prices");
    let listed = providers(&client, &link).await;
    progress.finish();
    let listed = Listed { providers: listed.context("the registry cannot be read")? };
    context.print(&listed, || {
        if listed.providers.is_empty() {
            return "Nobody is registered; `roadstead provider register` enters a provider.".into();
        }
        let heads = [
            "provider",
            "region",
            "core, hour",
            "GiB memory, hour",
            "GiB storage, hour",
            "GiB in",
            "GiB out",
        ];
        let table = rows(heads, listed.providers.iter().map(|listed| row(listed, &token)));
        let troubles = listed.providers.iter().filter_map(trouble);
        troubles.fold(table.to_string(), |text, trouble| format!("{text}\n{trouble}"))
    })
}

fn row(listed: &ListedProvider, token: &Token) -> [String; 7] {
    let profile = listed.profile.as_ref();
    let price = |resource| {
        profile.map(|profile| shown(&profile.prices, resource, token)).unwrap_or_default()
    };
    let endpoint = listed.endpoint.as_deref().map(plain).unwrap_or_default();
    [
        format!("{}\n{endpoint}", listed.provider),
        profile.map(|profile| plain(&profile.region)).unwrap_or_default(),
        price(Resource::Cpu),
        price(Resource::Memory),
        price(Resource::Storage),
        price(Resource::NetworkIn),
        price(Resource::NetworkOut),
    ]
}

/// Why there are no prices.
fn trouble(listed: &ListedProvider) -> Option<String> {
    let trouble = listed.trouble.as_deref()?;
    Some(format!("{}: {}", listed.provider, plain(trouble)))
}
