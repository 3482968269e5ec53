//! The contracts' reasons to refuse a call.

use std::fmt;

use alloy_primitives::{Bytes, hex};
use alloy_sol_types::{Panic, Revert as RevertString, SolError, SolInterface};

use crate::bindings::{
    Payment::PaymentErrors, Registry::RegistryErrors, TestToken::TestTokenErrors,
};

/// Why a contract refused, decoded from the data of the revert.
#[derive(Debug, PartialEq, Eq)]
pub enum Revert {
    /// The payment contract's own reason.
    Payment(PaymentErrors),
    /// The registry's own reason.
    Registry(RegistryErrors),
    /// A reason of the token, by the names of ERC-6093.
    Token(TestTokenErrors),
    /// A text.
    Message(String),
    /// A failed check of the compiler, with its code.
    Panic(Panic),
    /// Data that none of the contracts gives, possibly none at all.
    Unknown(Bytes),
}

impl Revert {
    /// Reads the data of a revert.
    pub fn decode(data: &[u8]) -> Self {
        if let Ok(error) = PaymentErrors::abi_decode_validate(data) {
            Self::Payment(error)
        } else if let Ok(error) = RegistryErrors::abi_decode_validate(data) {
            Self::Registry(error)
        } else if let Ok(error) = TestTokenErrors::abi_decode_validate(data) {
            Self::Token(error)
        } else if let Ok(text) = RevertString::abi_decode_validate(data) {
            Self::Message(text.reason)
        } else if let Ok(panic) = Panic::abi_decode_validate(data) {
            Self::Panic(panic)
        } else {
            Self::Unknown(Bytes::copy_from_slice(data))
        }
    }
}

impl std::error::Error for Revert {}

impl fmt::Display for Revert {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment(error) => payment(error, formatter),
            Self::Registry(error) => registry(error, formatter),
            Self::Token(error) => token(error, formatter),
            Self::Message(text) => write!(formatter, "\"{text}\""),
            Self::Panic(panic) => panic.fmt(formatter),
            Self::Unknown(data) if data.is_empty() => write!(formatter, "no reason given"),
            Self::Unknown(data) => write!(formatter, "unknown reason 0x{}", hex::encode(data)),
        }
    }
}

fn payment(error: &PaymentErrors, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    use PaymentErrors as E;
    match error {
        E::AlreadyClosing(e) => write!(to, "notice was already given; it ends at {}", e.closeAt),
        E::DepositTooSmall(e) => {
            write!(to, "a deposit of {} is below the minimum of {}", e.deposit, e.minimum)
        }
        E::InsufficientBalance(e) => {
            write!(to, "the balance in the escrow is {}, {} is needed", e.balance, e.needed)
        }
        E::InvalidRecipient(e) => write!(to, "tokens cannot be sent to {}", e.to),
        E::InvalidSignature(e) => write!(to, "the voucher is not signed by {}", e.signer),
        E::JobExists(e) => write!(to, "job {} was opened before; use another salt", e.job),
        E::JobNotLive(e) => write!(to, "job {} was never opened or is closed", e.job),
        E::NotAContract(e) => write!(to, "no contract at {}", e.account),
        E::NotProvider(e) => write!(to, "{} is not the job's provider nor its operator", e.caller),
        E::NotPublisher(e) => write!(to, "{} is not the job's publisher", e.caller),
        E::NotYetFinal(e) => match e.closeAt {
            0 => write!(to, "no notice was given"),
            close_at => write!(to, "the notice runs until {close_at}"),
        },
        E::NothingToPay(e) => write!(to, "nothing more is due; {} was paid", e.paid),
        E::NoticeOutOfBounds(e) => {
            write!(to, "a notice of {} s is not between one hour and 30 days", e.notice)
        }
        E::SourceTooLong(e) => write!(to, "a source of {} bytes is longer than 256", e.length),
        E::TokenAmountMismatch(e) => {
            write!(to, "the token moved {} in place of {}", e.received, e.expected)
        }
        E::UntilTooEarly(e) => {
            write!(to, "the bill ends at {}, paid is up to {}", e.until, e.paidUntil)
        }
        E::UntilTooLate(e) => {
            write!(to, "the bill ends at {}, at most {} is possible now", e.until, e.latest)
        }
        E::WindowOutOfBounds(e) => write!(
            to,
            "a challenge window of {} s is neither 0 nor between one hour and half the notice of {} s",
            e.window, e.notice
        ),
        E::ZeroAmount(_) => write!(to, "the amount is zero"),
        E::ZeroAddress(_) => write!(to, "the provider or the signer is the zero address"),
        E::SafeERC20FailedOperation(e) => write!(to, "the token at {} refused", e.token),
        E::ReentrancyGuardReentrantCall(_) => write!(to, "called from within itself"),
        other => write!(to, "{other:?}"),
    }
}

fn registry(error: &RegistryErrors, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    use RegistryErrors as E;
    match error {
        E::AlreadyRegistered(e) => write!(to, "{} is registered already", e.provider),
        E::NotRegistered(e) => write!(to, "{} is not registered", e.provider),
        E::EndpointLengthOutOfBounds(e) => {
            write!(to, "an endpoint of {} bytes is not between 1 and 256", e.length)
        }
        E::KeyCountOutOfBounds(e) => write!(to, "{} keys are not between 1 and 4", e.count),
        E::KeyLengthOutOfBounds(e) => {
            write!(to, "key {} of kind {} cannot have {} bytes", e.index, e.kind, e.length)
        }
    }
}

fn token(error: &TestTokenErrors, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    use TestTokenErrors as E;
    match error {
        E::ERC20InsufficientAllowance(e) => {
            write!(to, "{} may pull {} tokens, {} are needed", e.spender, e.allowance, e.needed)
        }
        E::ERC20InsufficientBalance(e) => {
            write!(to, "{} holds {} tokens, {} are needed", e.sender, e.balance, e.needed)
        }
        other => write!(to, "{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, U256};

    use super::*;
    use crate::bindings::{Payment, Registry, TestToken};

    #[test]
    fn reasons_of_every_contract_are_recognised() {
        let data = Payment::NothingToPay { paid: "5".parse().unwrap() }.abi_encode();
        assert_eq!(Revert::decode(&data).to_string(), "nothing more is due; 5 was paid");

        let provider = Address::repeat_byte(7);
        let data = Registry::NotRegistered { provider }.abi_encode();
        assert!(Revert::decode(&data).to_string().ends_with("is not registered"));

        let needed = U256::from(9);
        let (sender, balance) = (provider, U256::from(2));
        let data = TestToken::ERC20InsufficientBalance { sender, balance, needed }.abi_encode();
        assert!(Revert::decode(&data).to_string().ends_with("holds 2 tokens, 9 are needed"));

        let data = RevertString::from("no").abi_encode();
        assert_eq!(Revert::decode(&data), Revert::Message("no".into()));
    }

    #[test]
    fn unknown_and_cut_data_is_shown_as_it_is() {
        assert_eq!(Revert::decode(&[]).to_string(), "no reason given");
        assert_eq!(Revert::decode(&[1, 2, 3, 4]).to_string(), "unknown reason 0x01020304");
        let mut cut = Payment::NothingToPay { paid: "5".parse().unwrap() }.abi_encode();
        cut.pop();
        assert!(matches!(Revert::decode(&cut), Revert::Unknown(_)));
    }
}
