//! Putting the market's contracts on a chain.

use alloy::{
    primitives::{Address, Bytes, TxKind},
    sol_types::{SolCall, SolConstructor},
};
use roadstead_abi::{Payment, Registry, TestToken};
use roadstead_core::ports::WriteError;
use roadstead_types::{Contracts, TokenAmount};

use crate::account::{Account, Draft};

/// Why a contract is not on the chain.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The transaction did not succeed.
    #[error("{contract} could not be deployed")]
    Write {
        /// Which contract.
        contract: &'static str,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// The receipt names no address.
    #[error("the node names no address for {contract}")]
    NoAddress {
        /// Which contract.
        contract: &'static str,
    },
}

impl Account {
    /// Deploys the test token: six decimals, and anybody may mint. For development chains alone.
    pub async fn deploy_test_token(&self) -> Result<Address, DeployError> {
        self.deploy("TestToken", &TestToken::BYTECODE, Vec::new()).await
    }

    /// Deploys a market that is paid with the token.
    pub async fn deploy_market(&self, token: Address) -> Result<Contracts, DeployError> {
        let arguments = Payment::constructorCall { token_: token }.abi_encode();
        Ok(Contracts {
            registry: self.deploy("Registry", &Registry::BYTECODE, Vec::new()).await?,
            payment: self.deploy("Payment", &Payment::BYTECODE, arguments).await?,
        })
    }

    /// Makes test tokens out of nothing.
    pub async fn mint(
        &self,
        token: Address,
        to: Address,
        amount: TokenAmount,
    ) -> Result<(), WriteError> {
        let input = TestToken::mintCall { account: to, amount: amount.into() }.abi_encode();
        let draft = Draft { name: "mint", to: TxKind::Call(token), input: input.into() };
        self.send(&draft).await.map(drop)
    }

    async fn deploy(
        &self,
        contract: &'static str,
        code: &Bytes,
        arguments: Vec<u8>,
    ) -> Result<Address, DeployError> {
        let input = [code.as_ref(), &arguments].concat().into();
        let draft = Draft { name: contract, to: TxKind::Create, input };
        let receipt = self.send(&draft).await;
        let receipt = receipt.map_err(|source| DeployError::Write { contract, source })?;
        receipt.contract_address.ok_or(DeployError::NoAddress { contract })
    }
}
