//! Signatures of accounts, and what they count for.

use std::{fmt, str::FromStr};

use alloy_primitives::{Address, hex};
use serde::{Deserialize, Serialize};

/// An ECDSA signature over secp256k1 as the contracts take it: `r`, `s` in the lower half, and 27 or 28.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Signature(pub [u8; Self::LENGTH]);

/// A text that is not 65 bytes of hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature: 130 hexadecimal digits behind 0x are expected")]
pub struct InvalidSignature;

impl Signature {
    /// In bytes.
    pub const LENGTH: usize = 65;
}

impl FromStr for Signature {
    type Err = InvalidSignature;

    fn from_str(text: &str) -> Result<Self, InvalidSignature> {
        let digits = text.strip_prefix("0x").ok_or(InvalidSignature)?;
        let mut bytes = [0; Self::LENGTH];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidSignature)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Signature {
    type Error = InvalidSignature;

    fn try_from(text: String) -> Result<Self, InvalidSignature> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Where a signature counts: the EIP-712 domain of one payment contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// EIP-155 id of the chain.
    pub chain: u64,
    /// The payment contract.
    pub contract: Address,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_has_one_written_form() {
        let signature = Signature([0xab; 65]);
        let text = signature.to_string();
        assert_eq!(text.parse(), Ok(signature));
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&json).unwrap(), signature);
        for wrong in ["", "0x", &text[2..], &text[..130], &format!("{text}00"), "0xzz"] {
            assert_eq!(wrong.parse::<Signature>(), Err(InvalidSignature), "{wrong}");
        }
    }
}
