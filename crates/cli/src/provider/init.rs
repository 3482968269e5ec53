//! `roadstead provider init`.

use std::path::PathBuf;

use alloy_primitives::{Address, B256, hex};
use roadstead_journal::StateFolder;
use roadstead_provider::{Keys, registration};
use roadstead_types::{Endpoint, Market};
use serde::Serialize;

use super::{
    MARKET_FILE, ProviderError, is_same,
    wallet::{self, Origin},
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
}

pub(super) fn run(command: &ProviderInit, context: &Context) -> anyhow::Result<()> {
    let path = context.home.role_path(Role::Provider);
    let own = MarketFile { market: Some(path.join(MARKET_FILE)) };
    let is_new = !path.join(MARKET_FILE).exists();
    // A provider that has a market keeps it, whatever market is the usual one.
    let is_asked = is_new || command.market.market.is_some();
    let market = context.market(if is_asked { &command.market } else { &own })?;
    let profile = command.offer.profile(&market)?;

    let folder = context.home.lock(Role::Provider)?;
    let mut made = Vec::new();
    if !path.join("identity.key").exists() {
        made.push("keys");
    }
    let keys = Keys::load_or_create(&folder)?;
    let (account, origin) = wallet::take_in(&folder, &command.account)?;
    if origin != Origin::Found {
        made.push("account");
    }
    if keep_market(&folder, &market, is_new)? {
        made.push("market");
    }

    let entry = registration(&keys, command.offer.announced().clone(), &profile)?;
    let report = Initialised {
        account,
        peer: keys.identity.peer_id().to_string(),
        endpoint: entry.endpoint.to_string(),
        endpoint_bytes: bytes(&entry.endpoint),
        encryption_key: hex::encode_prefixed(&keys.encryption.public_key().key),
        profile: entry.profile,
        chain_id: market.chain_id,
        market: path.join(MARKET_FILE),
        folder: path,
        made,
    };
    context.print(&report, || described(&report, origin))
}

/// Writes the market file where it is not there. A market of the same contracts replaces it: its nodes may have moved.
fn keep_market(folder: &StateFolder, market: &Market, is_new: bool) -> anyhow::Result<bool> {
    let path = folder.path().join(MARKET_FILE);
    if !is_new {
        let found = Market::from_toml(&std::fs::read_to_string(&path)?)?;
        if found == *market {
            return Ok(false);
        }
        if !is_same(&found, market) {
            let (path, found) = (folder.path().to_owned(), Box::new(found));
            return Err(ProviderError::OtherMarket { path, found }.into());
        }
    }
    folder.write(MARKET_FILE, market.to_toml().as_bytes())?;
    Ok(true)
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
    format!(
        "{table}\n{ether}Next: `roadstead provider register`, then `roadstead provider run`, with the same flags."
    )
}
