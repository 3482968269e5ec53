//! The real ports of a provider.

use std::sync::Arc;

use roadstead_chain::{Account, Connection, MarketClient, Wallet};
use roadstead_core::ports::ChainError;
use roadstead_types::Market;

use crate::Ports;

/// Connects a provider to its market. There must be one set of ports per wallet, because
/// the wallet's transactions take turns.
pub async fn wire(market: Market, wallet: Wallet) -> Result<Ports, ChainError> {
    let connection = Connection::to_market(&market).await?;
    let client = Arc::new(MarketClient::new(connection.clone(), market.clone()));
    let account = Account::new(connection, market.chain_id, wallet).in_market(market);
    Ok(Ports { events: client.clone(), reader: client, writer: Arc::new(account) })
}
