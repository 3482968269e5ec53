//! What every command has: the home folder, the market, and a way to show its result.

use std::{cell::OnceCell, fmt::Display, path::PathBuf};

use anyhow::Context as _;
use roadstead_types::Market;
use serde::Serialize;

use crate::{
    arguments::MarketFile,
    file::read_text,
    home::{Home, Role},
    output,
};

/// The most bytes that a market file has.
const MAX_MARKET: u64 = 64 << 10;

/// The name of the market file of a local market.
const MARKET_FILE: &str = "market.toml";

/// There is no market file.
#[derive(Debug, thiserror::Error)]
#[error("there is no market file at {}", path.display())]
pub(crate) struct NoMarket {
    path: PathBuf,
}

/// What every command has.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) home: Home,
    is_json: bool,
    market: OnceCell<Market>,
}

impl Context {
    pub(crate) const fn new(home: Home, is_json: bool) -> Self {
        Self { home, is_json, market: OnceCell::new() }
    }

    /// Whether results and errors are for programs.
    pub(crate) const fn is_json(&self) -> bool {
        self.is_json
    }

    /// Reads the market file.
    pub(crate) fn market(&self, chosen: &MarketFile) -> anyhow::Result<Market> {
        let path = self.market_path(chosen);
        if chosen.market.is_none() && !path.exists() {
            return Err(NoMarket { path }.into());
        }
        let unusable = || format!("the market file {} cannot be used", path.display());
        let text = read_text(&path, MAX_MARKET).with_context(unusable)?;
        let market = Market::from_toml(&text).with_context(unusable)?;
        Ok(self.market.get_or_init(|| market).clone())
    }

    /// Where the market file is.
    pub(crate) fn market_path(&self, chosen: &MarketFile) -> PathBuf {
        let default = || self.home.role_path(Role::Devnet).join(MARKET_FILE);
        chosen.market.clone().unwrap_or_else(default)
    }

    /// The market, if the command got so far as to know it.
    pub(crate) fn known_market(&self) -> Option<&Market> {
        self.market.get()
    }

    /// Prints a result: as JSON, or as `table` makes it for people.
    pub(crate) fn print<T: Display>(
        &self,
        result: &impl Serialize,
        table: impl FnOnce() -> T,
    ) -> anyhow::Result<()> {
        if self.is_json { output::print_json(result) } else { Ok(output::print(table())?) }
    }
}
