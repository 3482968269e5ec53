//! The real ports of a publisher.

use std::sync::Arc;

use roadstead_chain::{MarketClient, Wallet};
use roadstead_core::ports::{ChainError, ContentStore};
use roadstead_types::Market;

use crate::Ports;

/// Connects a publisher, whose blocks `store` keeps, to its market. There must be one set of ports per wallet, because
/// the wallet's transactions take turns.
pub async fn wire(
    market: Market,
    wallet: Wallet,
    store: Arc<dyn ContentStore>,
) -> Result<Ports, ChainError> {
    let client = MarketClient::connect(market).await?;
    let account = client.account(wallet);
    let poll_interval = client.poll_interval();
    let client = Arc::new(client);
    Ok(Ports {
        events: client.clone(),
        reader: client,
        writer: Arc::new(account),
        poll_interval,
        store,
        opening: Arc::default(),
    })
}
