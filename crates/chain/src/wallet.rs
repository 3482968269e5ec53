//! The key that signs an account's transactions.

mod keystore;

pub use keystore::KeystoreError;

use std::{fmt, str::FromStr};

use alloy::{
    primitives::{Address, B256, hex},
    signers::{SignerSync, local::PrivateKeySigner},
};
use async_trait::async_trait;
use roadstead_core::ports::{SignError, Signer};
use roadstead_types::Signature;
use zeroize::Zeroizing;

/// A secp256k1 key. `Debug` shows its address alone.
#[derive(Clone)]
pub struct Wallet(PrivateKeySigner);

/// A text that is not 32 bytes of hexadecimal digits, or not a key of the curve.
#[derive(Debug, thiserror::Error)]
#[error("not a private key: 64 hexadecimal digits are expected")]
pub struct InvalidWalletKey;

impl Wallet {
    /// Makes a new key from the system's randomness.
    pub fn random() -> Self {
        Self(PrivateKeySigner::random())
    }

    /// The account of the key.
    pub fn address(&self) -> Address {
        self.0.address()
    }

    /// The secret, for the file that keeps it: 64 hexadecimal digits behind `0x`.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode_prefixed(self.to_bytes().as_slice()))
    }

    /// Opens a keystore, the JSON text of Web3 Secret Storage, as `cast wallet` and other Ethereum tools make it. That is
    /// meant to take long: up to some seconds of one processor, and up to 1 GiB of memory. A file that asks for more is
    /// refused.
    pub fn from_keystore(json: &[u8], password: &str) -> Result<Self, KeystoreError> {
        keystore::open(json, password)
    }

    /// Writes a keystore, which those tools open. Takes about a second and 256 MiB of memory.
    ///
    /// # Panics
    ///
    /// If the system has no source of randomness.
    pub fn to_keystore(&self, password: &str) -> Vec<u8> {
        keystore::seal(self, password)
    }

    fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().0)
    }

    fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        PrivateKeySigner::from_slice(bytes).ok().map(Self)
    }

    pub(crate) const fn signer(&self) -> &PrivateKeySigner {
        &self.0
    }
}

#[async_trait]
impl Signer for Wallet {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign(&self, digest: &B256) -> Result<Signature, SignError> {
        let signed = self
            .0
            .sign_hash_sync(digest)
            .map_err(|error| SignError { address: self.0.address(), source: Box::new(error) })?;
        Ok(Signature(signed.as_bytes()))
    }
}

impl FromStr for Wallet {
    type Err = InvalidWalletKey;

    fn from_str(text: &str) -> Result<Self, InvalidWalletKey> {
        text.trim().parse().map(Self).map_err(|_| InvalidWalletKey)
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Wallet").field(&self.address()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_the_same_account_and_is_not_shown() {
        let wallet = Wallet::random();
        let stored = format!("{}\n", *wallet.to_hex());
        assert_eq!(stored.parse::<Wallet>().unwrap().address(), wallet.address());
        assert!(!format!("{wallet:?}").contains(stored.trim()));
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        for text in ["", "0x", "abc", &"0".repeat(64), &"f".repeat(64), &"1".repeat(66)] {
            assert!(text.parse::<Wallet>().is_err(), "{text}");
        }
    }
}
