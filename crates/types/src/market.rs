//! The market file: the facts about one market that every process needs. Never a key.

use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};

use crate::{Domain, SyntaxError, Token};

/// Which contracts on which chain make one market, and how to reach them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Market {
    /// Whether this is a throw-away market on the user's own machine.
    pub devnet: bool,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// Hash of block 0: tells apart two chains that share an id, such as yesterday's development chain.
    pub genesis: B256,
    /// JSON-RPC addresses, tried in order; at least one.
    pub rpc: Vec<String>,
    /// The market's contracts.
    pub contracts: Contracts,
    /// What is paid with.
    pub token: Token,
    /// The first block that can hold an event of the contracts.
    pub from_block: u64,
    /// How many blocks must stand on top of an event before anybody acts on it.
    pub confirmations: u64,
}

/// Addresses of the contracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contracts {
    /// Who provides.
    pub registry: Address,
    /// Who holds and moves the money.
    pub payment: Address,
}

/// Why a text is not a market file.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// Not TOML, a field is missing, unknown or of the wrong type.
    #[error("not a market file")]
    Malformed(#[source] SyntaxError),
    /// Written by a version with another format.
    #[error("market file version {found}; this build reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Nobody to ask.
    #[error("`chain.rpc` names no address")]
    NoRpc,
}

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    devnet: bool,
    chain: Chain,
    contracts: Contracts,
    token: Token,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    id: u64,
    genesis: B256,
    rpc: Vec<String>,
    from_block: u64,
    confirmations: u64,
}

impl Market {
    /// Reads a market file.
    pub fn from_toml(text: &str) -> Result<Self, MarketError> {
        let malformed = |error| MarketError::Malformed(SyntaxError::of_toml(&error, text));
        let file: File = toml::from_str(text).map_err(malformed)?;
        if file.version != VERSION {
            return Err(MarketError::Version { found: file.version });
        }
        if file.chain.rpc.is_empty() {
            return Err(MarketError::NoRpc);
        }
        Ok(Self {
            devnet: file.devnet,
            chain_id: file.chain.id,
            genesis: file.chain.genesis,
            rpc: file.chain.rpc,
            contracts: file.contracts,
            token: file.token,
            from_block: file.chain.from_block,
            confirmations: file.chain.confirmations,
        })
    }

    /// Where its signatures count.
    pub const fn domain(&self) -> Domain {
        Domain { chain: self.chain_id, contract: self.contracts.payment }
    }

    /// Writes a market file.
    pub fn to_toml(&self) -> String {
        let file = File {
            version: VERSION,
            devnet: self.devnet,
            chain: Chain {
                id: self.chain_id,
                genesis: self.genesis,
                rpc: self.rpc.clone(),
                from_block: self.from_block,
                confirmations: self.confirmations,
            },
            contracts: self.contracts,
            token: self.token.clone(),
        };
        toml::to_string(&file).expect("every field has a TOML form")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn market() -> Market {
        Market {
            devnet: true,
            chain_id: 31_337,
            genesis: B256::repeat_byte(7),
            rpc: vec!["http://127.0.0.1:8545".into()],
            contracts: Contracts {
                registry: Address::repeat_byte(1),
                payment: Address::repeat_byte(2),
            },
            token: Token { address: Address::repeat_byte(3), symbol: "RTD".into(), decimals: 6 },
            from_block: 1,
            confirmations: 0,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Market::from_toml(&market().to_toml()).unwrap(), market());
    }

    #[test]
    fn unknown_and_missing_fields_are_errors() {
        let unknown = format!("private_key = \"0x01\"\n{}", market().to_toml());
        assert!(matches!(Market::from_toml(&unknown), Err(MarketError::Malformed(_))));
        let missing = market().to_toml().replace("devnet = true\n", "");
        assert!(matches!(Market::from_toml(&missing), Err(MarketError::Malformed(_))));
    }

    #[test]
    fn another_version_and_an_empty_list_are_named() {
        let later = market().to_toml().replace("version = 1", "version = 2");
        assert!(matches!(Market::from_toml(&later), Err(MarketError::Version { found: 2 })));
        let nobody = Market { rpc: Vec::new(), ..market() }.to_toml();
        assert!(matches!(Market::from_toml(&nobody), Err(MarketError::NoRpc)));
    }
}
