//! What to do next, for errors that somebody can do something about.

use std::error::Error;

use alloy_primitives::Address;
use roadstead_abi::{Revert, TestToken::TestTokenErrors};
use roadstead_core::ports::{ChainError, EngineError, WriteError};
use roadstead_devnet::{
    AnvilError, ChainStartError, DevnetError, MarketStartError,
    demo::{DemoError, WorkloadError},
};
use roadstead_image::ReadError;
use roadstead_journal::{FolderError, JournalError};
use roadstead_net::ListenError;
use roadstead_provider::{AnnounceError, RegistrationProblem};
use roadstead_publisher::{OpenError, PublishError, TopUpError, VerifyError};
use roadstead_types::{ManifestError, Market};

use crate::{
    account::AccountError,
    agent::{AnotherMarket, NoSource},
    context::NoMarket,
    image::SurveyError,
    job::{JobUnknown, NotThePublisher},
    provider::ProviderError,
    publish::{ManyProviders, NoAnswer},
    question::NotConfirmed,
};

/// What to do about an error: what its outermost cause that anybody can do something about says.
pub(super) fn of(error: &anyhow::Error, market: Option<&Market>) -> Option<String> {
    error.chain().map(inner).find_map(|cause| {
        let known = demonstration(cause)
            .or_else(|| setting_up(cause))
            .or_else(|| account(cause))
            .or_else(|| publishing(cause))
            .or_else(|| job(cause))
            .or_else(|| image(cause))
            .or_else(|| provider(cause));
        known.map(str::to_owned).or_else(|| money(cause, market))
    })
}

/// The error that speaks through another one, and is no cause of it.
fn inner<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    match error.downcast_ref() {
        Some(DemoError::Engine(error)) => error,
        Some(DemoError::Open(error)) => error,
        _ => error,
    }
}

fn demonstration(error: &(dyn Error + 'static)) -> Option<&'static str> {
    const NO_CHAIN: &str = "is there a development chain at that address? `anvil` starts one";
    if let Some(DevnetError::Market(MarketStartError::Chain(ChainError::Rpc { .. }))) =
        error.downcast_ref()
    {
        return Some(NO_CHAIN);
    }
    match error.downcast_ref()? {
        DemoError::Chain(ChainStartError::Anvil(AnvilError::Missing)) => {
            Some("`script/setup` installs it; or leave out `--chain anvil`")
        }
        DemoError::Market(MarketStartError::Chain(ChainError::Rpc { .. })) => Some(NO_CHAIN),
        DemoError::Workload(WorkloadError::NoPort { .. }) | DemoError::NoPort => {
            Some("name the port in a workload manifest and give that by `--workload`")
        }
        _ => None,
    }
}

fn setting_up(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<ManifestError>() {
        return Some("docs/workload.md describes every field");
    }
    if error.is::<NoMarket>() {
        return Some(
            "start a local market by `roadstead devnet`, or name the market file by --market",
        );
    }
    if let Some(EngineError::NeedsRoot) = error.downcast_ref() {
        return Some("run it with sudo, or use `--engine docker`");
    }
    if let Some(FolderError::InUse { .. }) = error.downcast_ref() {
        return Some("end the other process, or use another folder by --home");
    }
    if let Some(JournalError::AnotherLife { .. } | JournalError::AnotherMarket { .. }) =
        error.downcast_ref()
    {
        return Some(
            "a local market lives as long as its process: `roadstead provider reset` and `roadstead agent reset` \
             forget what was about an earlier one",
        );
    }
    match error.downcast_ref()? {
        ChainError::AnotherChain { .. } => Some(
            "is the market file the one of the chain that runs? `roadstead devnet` writes it anew; `roadstead provider reset` \
             and `roadstead agent reset` forget the copies of an earlier one",
        ),
        ChainError::Rpc { .. } => Some("does the node at the market file's address run?"),
        _ => None,
    }
}

fn publishing(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.is::<ManyProviders>() {
        return Some("`roadstead providers` lists them with their prices");
    }
    if error.is::<NoSource>() {
        return Some(
            "name by --source where providers reach the gateway, or give it a port by --gateway",
        );
    }
    if error.is::<AnotherMarket>() {
        return Some(
            "name that market's file by --market, or end that agent and start one for this market",
        );
    }
    if let Some(NoAnswer::Refused { .. } | NoAnswer::Over { .. }) = error.downcast_ref() {
        return Some(
            "what was not paid is in your balance in the escrow, and `roadstead withdraw` takes it out; `roadstead providers` \
             lists others",
        );
    }
    if error.is::<NoAnswer>() {
        return Some("`roadstead agent` hears of it again");
    }
    match error.downcast_ref()? {
        PublishError::NotRegistered { .. } => Some("`roadstead providers` lists those that are"),
        _ => None,
    }
}

fn job(error: &(dyn Error + 'static)) -> Option<&'static str> {
    const ADOPT: &str = "`roadstead jobs` lists those that are known; `roadstead agent adopt FILE` makes one known that was \
                         prepared elsewhere";
    if error.is::<NotThePublisher>() {
        return Some("name the account that opened it by --key-file or --keystore");
    }
    match error.downcast_ref() {
        Some(JobUnknown::None { .. }) => return Some(ADOPT),
        Some(JobUnknown::Several { .. }) => return Some("give more of its digits"),
        None => {}
    }
    match error.downcast_ref()? {
        VerifyError::NoPlan { .. } => Some(ADOPT),
        VerifyError::NotOver { .. } => Some("`roadstead job close` ends it"),
        _ => None,
    }
}

fn image(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(SurveyError::Absent { .. }) = error.downcast_ref() {
        return Some("`roadstead image seal` puts an image there; --store names another store");
    }
    match error.downcast_ref()? {
        ReadError::NotAnImage { path, .. } if path.exists() => {
            Some("`skopeo copy docker-daemon:NAME oci:FOLDER` makes an OCI layout of an image")
        }
        _ => None,
    }
}

fn account(error: &(dyn Error + 'static)) -> Option<&'static str> {
    match error.downcast_ref()? {
        AccountError::NoneNamed => Some(
            "name one by --key-file or --keystore; a local market keeps keys of funded accounts in the folder `devnet`",
        ),
        AccountError::Exposed { .. } => Some("take the others' rights away by `chmod 600`"),
        AccountError::Both => Some("the one may stand in the settings or in the environment"),
        AccountError::NoTerminal => Some("name a file that holds the password by --password-file"),
        _ => None,
    }
}

fn provider(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(NotConfirmed::NoTerminal) = error.downcast_ref() {
        return Some("--yes does it without a question");
    }
    if error.is::<AnnounceError>() {
        return Some(
            "name an address that others can dial, such as --announce /ip4/203.0.113.7/tcp/47600",
        );
    }
    if error.is::<ListenError>() {
        return Some("end what listens there, or choose another address by --listen");
    }
    match error.downcast_ref() {
        Some(RegistrationProblem::Read(_)) | None => {}
        Some(_) => return Some("`roadstead provider register` with the same flags mends that"),
    }
    Some(match error.downcast_ref()? {
        ProviderError::NotInitialised { .. } => "`roadstead provider init` makes one",
        ProviderError::HalfReset { .. } => {
            "`roadstead provider reset` finishes it; then `roadstead provider init` makes a provider again"
        }
        ProviderError::OtherMarket { .. } | ProviderError::OtherAccount { .. } => {
            "use another folder by --home; or let this one go by `roadstead provider reset`, which moves its key aside"
        }
        ProviderError::Early => "--i-know-this-is-early takes that risk",
        ProviderError::OtherEngine { .. } => {
            "leave out --engine to go on with the one that was used until its jobs have ended, or end them by \
             `roadstead provider reset`"
        }
        ProviderError::UnknownEngine { .. } => {
            "write `embedded` into that file, or `docker` and the address of its daemon, as in \
             `docker unix:///var/run/docker.sock`; or let all go by `roadstead provider reset`"
        }
    })
}

/// The three things that a transaction can lack, each with the command that mends it.
fn money(error: &(dyn Error + 'static), market: Option<&Market>) -> Option<String> {
    if let Some(OpenError::NotEnoughTokens { account, deposit, .. }) = error.downcast_ref() {
        return Some(send_tokens(market, *account, &deposit.to_string()));
    }
    if let Some(TopUpError::NotEnoughTokens { account, amount, .. }) = error.downcast_ref() {
        return Some(send_tokens(market, *account, &amount.to_string()));
    }
    match error.downcast_ref()? {
        WriteError::NoGas { account, .. } => Some(send_ether(market, *account)),
        WriteError::Reverted { source: Revert::Token(error), .. } => match error {
            TestTokenErrors::ERC20InsufficientAllowance(error) => {
                Some(approve(market, &error.needed.to_string()))
            }
            TestTokenErrors::ERC20InsufficientBalance(error) => {
                Some(send_tokens(market, error.sender, &error.needed.to_string()))
            }
            _ => None,
        },
        _ => None,
    }
}

fn rpc(market: Option<&Market>) -> &str {
    market.and_then(|market| market.rpc.first()).map_or("RPC", String::as_str)
}

fn send_ether(market: Option<&Market>, account: Address) -> String {
    let rpc = rpc(market);
    if market.is_some_and(|market| market.devnet) {
        return format!("cast rpc --rpc-url {rpc} anvil_setBalance {account} 0xde0b6b3a7640000");
    }
    format!("cast send --rpc-url {rpc} --interactive {account} --value 0.01ether")
}

fn send_tokens(market: Option<&Market>, account: Address, amount: &str) -> String {
    let rpc = rpc(market);
    let token =
        market.map_or_else(|| "TOKEN".to_owned(), |market| market.token.address.to_string());
    let function = match market {
        Some(market) if market.devnet => "mint(address,uint256)",
        _ => "transfer(address,uint256)",
    };
    format!("cast send --rpc-url {rpc} --interactive {token} \"{function}\" {account} {amount}")
}

fn approve(market: Option<&Market>, amount: &str) -> String {
    let rpc = rpc(market);
    let (token, payment) = market.map_or_else(
        || ("TOKEN".to_owned(), "PAYMENT".to_owned()),
        |market| (market.token.address.to_string(), market.contracts.payment.to_string()),
    );
    format!(
        "cast send --rpc-url {rpc} --interactive {token} \"approve(address,uint256)\" {payment} {amount}"
    )
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{B256, U256};
    use roadstead_abi::TestToken;
    use roadstead_types::{Contracts, Token};

    use super::*;

    #[test]
    fn an_allowance_that_is_too_small_is_mended_by_one_command() {
        let market = Market {
            devnet: false,
            chain_id: 1,
            genesis: B256::ZERO,
            rpc: vec!["http://127.0.0.1:8545".into()],
            contracts: Contracts {
                registry: Address::repeat_byte(1),
                payment: Address::repeat_byte(2),
            },
            token: Token { address: Address::repeat_byte(3), symbol: "RTD".into(), decimals: 6 },
            from_block: 1,
            confirmations: 0,
        };
        let refused = TestToken::ERC20InsufficientAllowance {
            spender: market.contracts.payment,
            allowance: U256::from(1),
            needed: U256::from(70),
        };
        let source = Revert::Token(TestTokenErrors::ERC20InsufficientAllowance(refused));
        let error = anyhow::Error::new(WriteError::Reverted { call: "open", source });
        let error = error.context("the job could not be opened");
        let (token, payment) = (market.token.address, market.contracts.payment);
        assert_eq!(
            of(&error, Some(&market)).unwrap(),
            format!(
                "cast send --rpc-url http://127.0.0.1:8545 --interactive {token} \"approve(address,uint256)\" {payment} 70"
            )
        );
    }
}
