//! A job opened by nothing but `cast`, the command of Foundry: the lines to paste into a shell.
//!
//! They hold what goes on chain, all of it public, and never a key.

use roadstead_types::{JobPlan, Market, Terms};

/// The longest hint where a bundle can be fetched that the contract takes, in bytes.
const MAX_SOURCE: usize = 256;

const APPROVE: &str = "approve(address,uint256)";
const OPEN: &str =
    "open((address,address,address,uint96,uint96,uint32,uint32,uint64,bytes32),uint96,bytes)";

/// Where cast finds the publisher's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CastKey {
    /// In the shell's variable `PUBLISHER_KEY`. While cast runs, other processes of the machine can see it.
    Variable,
    /// In the keystore of this name, as `cast wallet import` makes it. Cast asks for its password.
    Account(String),
    /// Cast asks for it.
    Prompt,
}

/// Why there are no lines for a job.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The plan was made for something else.
    #[error(
        "the job was prepared for another chain or another contract than those of the market file"
    )]
    AnotherMarket,
    /// Nobody to send it to.
    #[error("the market file names no node")]
    NoNode,
    /// The contract would refuse it.
    #[error("the source has {length} bytes, the contract takes at most {MAX_SOURCE}")]
    SourceTooLong {
        /// Its length.
        length: usize,
    },
    /// What a terminal does with it when it is pasted is anybody's guess.
    #[error("{what} has a character that cannot be printed, so it cannot stand in a line to paste")]
    Unprintable {
        /// Which text.
        what: &'static str,
    },
}

/// The lines that open a job for its publisher: the first lets the contract take the deposit, the second opens. Each
/// waits for its transaction. Cast refuses another key than the publisher's, and the node another chain's signature. A
/// publisher that is a contract makes the same two calls in its own way.
pub fn cast_lines(
    plan: &JobPlan,
    market: &Market,
    key: &CastKey,
) -> Result<[String; 2], CastError> {
    let contract = market.contracts.payment;
    if (plan.key.chain, plan.key.contract) != (market.chain_id, contract) {
        return Err(CastError::AnotherMarket);
    }
    let length = plan.source.len();
    if length > MAX_SOURCE {
        return Err(CastError::SourceTooLong { length });
    }
    let node = quote("the node's address", market.rpc.first().ok_or(CastError::NoNode)?)?;
    let key = match key {
        CastKey::Variable => r#"--private-key "$PUBLISHER_KEY""#.to_owned(),
        CastKey::Account(name) => format!("--account={}", quote("the account's name", name)?),
        CastKey::Prompt => "--interactive".to_owned(),
    };
    let (chain, publisher) = (market.chain_id, plan.terms.publisher);
    let send = format!("cast send --rpc-url={node} --chain {chain} --from {publisher} {key}");

    let (token, deposit) = (market.token.address, plan.deposit);
    let terms = tuple(&plan.terms);
    let source = alloy_primitives::hex::encode_prefixed(&plan.source);
    Ok([
        format!("{send} {token} '{APPROVE}' {contract} {deposit}"),
        format!("{send} {contract} '{OPEN}' '{terms}' {deposit} {source}"),
    ])
}

/// The terms as cast reads a tuple.
fn tuple(terms: &Terms) -> String {
    let Terms {
        publisher,
        provider,
        signer,
        rate_per_hour,
        start_fee,
        notice,
        window,
        salt,
        bundle,
    } = terms;
    let (notice, window) = (notice.0, window.0);
    format!(
        "({publisher},{provider},{signer},{rate_per_hour},{start_fee},{notice},{window},{salt},{bundle})"
    )
}

/// The text as one word for a shell, whatever it is.
fn quote(what: &'static str, text: &str) -> Result<String, CastError> {
    if text.chars().any(char::is_control) {
        return Err(CastError::Unprintable { what });
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use alloy_primitives::{Address, B256};
    use roadstead_types::{
        Contracts, JobId, JobKey, Resources, Seconds, Tariff, Token, TokenAmount,
    };

    use super::*;

    fn market() -> Market {
        Market {
            devnet: true,
            chain_id: 31_337,
            genesis: B256::ZERO,
            rpc: vec!["http://127.0.0.1:8545".into(), "http://127.0.0.1:1".into()],
            contracts: Contracts {
                registry: Address::repeat_byte(1),
                payment: Address::repeat_byte(2),
            },
            token: Token { address: Address::repeat_byte(3), symbol: "RTD".into(), decimals: 6 },
            from_block: 1,
            confirmations: 0,
        }
    }

    fn plan() -> JobPlan {
        JobPlan {
            key: JobKey {
                chain: 31_337,
                contract: Address::repeat_byte(2),
                job: JobId(B256::repeat_byte(9)),
            },
            terms: Terms {
                publisher: Address::repeat_byte(4),
                provider: Address::repeat_byte(5),
                signer: Address::repeat_byte(6),
                rate_per_hour: TokenAmount::MAX,
                start_fee: TokenAmount::new(50_000).unwrap(),
                notice: Seconds(86_400),
                window: Seconds(0),
                salt: u64::MAX,
                bundle: B256::repeat_byte(7),
            },
            deposit: TokenAmount::new(1_000_000).unwrap(),
            source: "http://'; rm -rf ~ #".into(),
            tariff: Tariff {
                interval: Seconds(2),
                reservation: Resources::default(),
                prices: Resources::default(),
            },
        }
    }

    #[test]
    fn the_lines_are_these() {
        let lines = cast_lines(&plan(), &market(), &CastKey::Variable).unwrap();
        let expected = [
            concat!(
                "cast send --rpc-url='http://127.0.0.1:8545' --chain 31337",
                " --from 0x0404040404040404040404040404040404040404",
                r#" --private-key "$PUBLISHER_KEY""#,
                " 0x0303030303030303030303030303030303030303 'approve(address,uint256)'",
                " 0x0202020202020202020202020202020202020202 1000000",
            ),
            concat!(
                "cast send --rpc-url='http://127.0.0.1:8545' --chain 31337",
                " --from 0x0404040404040404040404040404040404040404",
                r#" --private-key "$PUBLISHER_KEY""#,
                " 0x0202020202020202020202020202020202020202",
                " 'open((address,address,address,uint96,uint96,uint32,uint32,uint64,bytes32),uint96,bytes)'",
                " '(0x0404040404040404040404040404040404040404,",
                "0x0505050505050505050505050505050505050505,",
                "0x0606060606060606060606060606060606060606,",
                "79228162514264337593543950335,50000,86400,0,18446744073709551615,",
                "0x0707070707070707070707070707070707070707070707070707070707070707)'",
                " 1000000 0x687474703a2f2f273b20726d202d7266207e2023",
            ),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn the_key_is_left_to_its_owner() {
        let words = |key| {
            let [approve, open] = cast_lines(&plan(), &market(), &key).unwrap();
            let between = |line: &str| {
                let (_, rest) = line.split_once("0404040404040404 ").unwrap();
                rest.split_once(" 0x0").unwrap().0.to_owned()
            };
            assert_eq!(between(&approve), between(&open));
            between(&approve)
        };
        assert_eq!(words(CastKey::Prompt), "--interactive");
        assert_eq!(words(CastKey::Account("my own".into())), "--account='my own'");
        assert_eq!(words(CastKey::Account("a'b$(c)`d`".into())), r"--account='a'\''b$(c)`d`'");
    }

    /// The words of a line as a shell understands it, of which the first is replaced.
    fn words(line: &str) -> Vec<String> {
        let script = format!("cast() {{ printf '%s\\n' \"$@\"; }}\n{line}");
        let mut shell = Command::new("sh");
        let output = shell.arg("-c").arg(script).env("PUBLISHER_KEY", "the key").output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_shell_sees_the_same_words_whatever_the_market_file_says() {
        for node in ["http://a", "'; exit 1; '", "$(exit 1)", "`exit 1`", "\\", "\"", "a b *", "!"]
        {
            let market = Market { rpc: vec![node.into()], ..market() };
            for line in cast_lines(&plan(), &market, &CastKey::Variable).unwrap() {
                let words = words(&line);
                assert_eq!(words[..2], ["send".to_owned(), format!("--rpc-url={node}")]);
                assert_eq!(words[6..8], ["--private-key", "the key"]);
                assert!([12, 13].contains(&words.len()), "{words:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_opened_is_refused() {
        let refused = |plan: JobPlan, market: Market| {
            cast_lines(&plan, &market, &CastKey::Variable).unwrap_err()
        };
        let elsewhere = Market { chain_id: 1, ..market() };
        assert!(matches!(refused(plan(), elsewhere), CastError::AnotherMarket));
        let mut other = plan();
        other.key.contract = Address::ZERO;
        assert!(matches!(refused(other, market()), CastError::AnotherMarket));
        let nobody = Market { rpc: Vec::new(), ..market() };
        assert!(matches!(refused(plan(), nobody), CastError::NoNode));
        let long = |length| JobPlan { source: "s".repeat(length), ..plan() };
        let error = refused(long(257), market());
        assert!(matches!(error, CastError::SourceTooLong { length: 257 }));
        assert!(cast_lines(&long(256), &market(), &CastKey::Variable).is_ok());
        for text in ["a\nb", "a\u{1b}[2J", "\u{85}"] {
            let market = Market { rpc: vec![text.into()], ..market() };
            assert!(matches!(refused(plan(), market), CastError::Unprintable { .. }), "{text:?}");
        }
    }
}
