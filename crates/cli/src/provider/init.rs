//! `roadstead provider init`.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, hex};
use roadstead_journal::StateFolder;
use roadstead_provider::{Keys, registration};
use roadstead_types::{Endpoint, Market};
use serde::Serialize;

use super::{
    MARKET_FILE, ProviderError, engine, is_same,
    wallet::{self, Given, Origin},
};
use crate::{
    arguments::{MarketFile, ProviderInit},
    context::Context,
    home::Role,
    table::facts,
};

/// A provider that can register.
#[derive(Debug, Serialize)]
struct Initialised {
    account: Address,
    peer: String,
    /// Where it will be reached.
    endpoint: String,
    /// The same in the form of the registry.
    endpoint_bytes: String,
    /// Its public X25519 key.
    encryption_key: String,
    /// The digest of region and prices.
    profile: B256,
    chain_id: u64,
    folder: PathBuf,
    market: PathBuf,
    /// What this call made; nothing where all was there.
    made: Vec<&'static str>,
    /// The keys of accounts that were moved aside, where this call made another one beside them.
    set_aside: Vec<PathBuf>,
}

pub(super) fn run(command: &ProviderInit, context: &Context) -> anyhow::Result<()> {
    let path = context.home.role_path(Role::Provider);
    let file = path.join(MARKET_FILE);
    // A provider that has a market keeps it, whatever market is the usual one.
    let own = MarketFile { market: Some(file.clone()) };
    let is_asked = command.market.market.is_some() || !file.exists();
    let market = context.market(if is_asked { &command.market } else { &own })?;
    // All that can be wrong with what was given is found before anything is made.
    let profile = command.offer.profile(&market)?;
    let given = Given::read(&command.account)?;

    let folder = context.home.lock(Role::Provider)?;
    let is_kept = keeps_market(&folder, &market)?;
    let mut made = Vec::new();
    let (account, origin) = wallet::take_in(&folder, &given)?;
    if !path.join("identity.key").exists() {
        made.push("keys");
    }
    let keys = Keys::load_or_create(&folder)?;
    if origin != Origin::Found {
        made.push("account");
    }
    if !is_kept {
        folder.write(MARKET_FILE, market.to_toml().as_bytes())?;
        made.push("market");
    }

    let entry = registration(&keys, command.offer.announced().clone(), &profile)?;
    let set_aside = match origin {
        Origin::Made => wallet::all_set_aside(&folder)?,
        Origin::Found | Origin::Imported => Vec::new(),
    };
    let report = Initialised {
        account,
        peer: keys.identity.peer_id().to_string(),
        endpoint: entry.endpoint.to_string(),
        endpoint_bytes: bytes(&entry.endpoint),
        encryption_key: hex::encode_prefixed(&keys.encryption.public_key().key),
        profile: entry.profile,
        chain_id: market.chain_id,
        market: file,
        folder: path,
        made,
        set_aside,
    };
    context.print(&report, || described(&report, origin))
}

/// Whether the provider has exactly this market file. One of the same contracts will be replaced, because its nodes may
/// have moved; another market is refused.
fn keeps_market(folder: &StateFolder, market: &Market) -> anyhow::Result<bool> {
    let path = folder.path().join(MARKET_FILE);
    if !path.exists() {
        if engine::is_remembered(folder.path()) {
            let path = folder.path().to_owned();
            return Err(ProviderError::HalfReset { path }.into());
        }
        return Ok(false);
    }
    let found = Market::from_toml(&std::fs::read_to_string(&path)?)?;
    if !is_same(&found, market) {
        let (path, found) = (folder.path().to_owned(), Box::new(found));
        return Err(ProviderError::OtherMarket { path, found }.into());
    }
    Ok(found == *market)
}

fn bytes(endpoint: &Endpoint) -> String {
    hex::encode_prefixed(endpoint.to_bytes())
}

fn described(report: &Initialised, origin: Origin) -> String {
    let made = match report.made.as_slice() {
        [] => "nothing: all of it was there".to_owned(),
        made => made.join(", "),
    };
    let table = facts([
        ("account", report.account.to_string()),
        ("peer", report.peer.clone()),
        ("encryption key", report.encryption_key.clone()),
        ("market", format!("chain {}, {}", report.chain_id, report.market.display())),
        ("will be reached at", report.endpoint.clone()),
        ("made", made),
    ]);
    let ether = match origin {
        Origin::Made => format!("Send ether to {}: it pays for transactions. ", report.account),
        Origin::Found | Origin::Imported => String::new(),
    };
    let aside = report.set_aside.iter().map(|wallet| {
        format!(
            "There is another account that was moved aside: `{}` takes it in, after a `roadstead provider reset`.\n",
            wallet::way_back(wallet),
        )
    });
    let aside: String = aside.collect();
    format!(
        "{table}\n{aside}{ether}Next: `roadstead provider register`, then `roadstead provider run`, with the same flags."
    )
}
