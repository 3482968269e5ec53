//! Reading one market's contracts.

use std::time::Duration;

use alloy::{
    eips::BlockId,
    primitives::{Address, U256},
    providers::Provider,
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use async_trait::async_trait;
use roadstead_abi::{Payment, Registry, TestToken, job_id};
use roadstead_core::ports::{ChainError, ChainReader, Head, RegistryEntry};
use roadstead_types::{Job, JobId, Market, Registration, Terms};

use crate::{
    account::{Account, MarketAccount},
    connection::{Connection, malformed, rpc},
    wallet::Wallet,
};

/// One market, read through one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MarketClient {
    connection: Connection,
    market: Market,
}

impl MarketClient {
    /// Connects to the market's chain.
    pub async fn connect(market: Market) -> Result<Self, ChainError> {
        Ok(Self { connection: Connection::to_market(&market).await?, market })
    }

    /// Reads the market through a connection that the caller vouches for.
    pub const fn new(connection: Connection, market: Market) -> Self {
        Self { connection, market }
    }

    pub(crate) const fn market(&self) -> &Market {
        &self.market
    }

    /// An account that writes to the market. There must be one per wallet, because its transactions take turns.
    pub fn account(&self, wallet: Wallet) -> MarketAccount {
        let account = Account::new(self.connection.clone(), self.market.chain_id, wallet);
        MarketAccount::new(account, self.market.clone())
    }

    /// How often the chain is asked for news.
    pub const fn poll_interval(&self) -> Duration {
        self.connection.poll_interval()
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn view<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default().to(to).input(call.abi_encode().into());
        let answer = self.connection.provider().call(request).block(BlockId::latest()).await;
        let answer = answer.map_err(rpc("eth_call"))?;
        C::abi_decode_returns_validate(&answer)
            .map_err(|error| malformed("eth_call", format!("{}: {error}", C::SIGNATURE)))
    }
}

#[async_trait]
impl ChainReader for MarketClient {
    async fn head(&self) -> Result<Head, ChainError> {
        self.connection.head().await
    }

    fn job_id(&self, terms: &Terms) -> JobId {
        job_id(&self.market.domain(), terms)
    }

    async fn job(&self, job: JobId) -> Result<Job, ChainError> {
        let call = Payment::jobOfCall { job: job.0 };
        self.view(self.market.contracts.payment, &call).await.map(Into::into)
    }

    async fn escrow_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.view(self.market.contracts.payment, &Payment::balanceOfCall { account }).await
    }

    async fn token_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.view(self.market.token.address, &TestToken::balanceOfCall { account }).await
    }

    async fn token_allowance(&self, account: Address) -> Result<U256, ChainError> {
        let spender = self.market.contracts.payment;
        let call = TestToken::allowanceCall { owner: account, spender };
        self.view(self.market.token.address, &call).await
    }

    async fn operator(&self, account: Address) -> Result<Option<Address>, ChainError> {
        let call = Payment::operatorOfCall { account };
        let operator = self.view(self.market.contracts.payment, &call).await?;
        Ok(Some(operator).filter(|operator| !operator.is_zero()))
    }

    async fn ether_balance(&self, account: Address) -> Result<U256, ChainError> {
        let balance = self.connection.provider().get_balance(account).latest().await;
        balance.map_err(rpc("eth_getBalance"))
    }

    async fn providers(
        &self,
        start: u64,
        length: u64,
    ) -> Result<Vec<(Address, RegistryEntry)>, ChainError> {
        let call = Registry::pageCall { start: U256::from(start), length: U256::from(length) };
        let entries = self.view(self.market.contracts.registry, &call).await?.into_iter();
        let entries = entries.map(|entry| {
            let usable = Registration::try_from(entry.registration);
            let usable = usable.map_or(RegistryEntry::Unusable, RegistryEntry::Registered);
            (entry.provider, usable)
        });
        Ok(entries.collect())
    }

    async fn registration(&self, provider: Address) -> Result<RegistryEntry, ChainError> {
        let registry = self.market.contracts.registry;
        if !self.view(registry, &Registry::isRegisteredCall { provider }).await? {
            return Ok(RegistryEntry::Absent);
        }
        let entry = self.view(registry, &Registry::providerOfCall { provider }).await?;
        let usable = Registration::try_from(entry.registration);
        Ok(usable.map_or(RegistryEntry::Unusable, RegistryEntry::Registered))
    }
}
