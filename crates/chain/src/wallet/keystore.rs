//! Keys in files that a password protects, as other Ethereum tools make them: Web3 Secret Storage, version 3.
//!
//! Such a file says itself how much work it is to open it. So everything is bounded before any work is done.

use std::fmt::Write;

use aes::Aes128;
use alloy::primitives::{Address, B256, hex, keccak256};
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};
use pbkdf2::pbkdf2_hmac;
use roadstead_types::SyntaxError;
use scrypt::{Params, scrypt};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Wallet;

const VERSION: u32 = 3;
const CIPHER: &str = "aes-128-ctr";
const PRF: &str = "hmac-sha256";

/// The largest file, in bytes. Others make files of half a kilobyte.
const MAX_SIZE: usize = 16 << 10;

/// What scrypt may pass through at most, in bytes: four times what a cautious tool asks for.
const MAX_SCRYPT: u64 = 1 << 30;

/// How often PBKDF2 may hash at most.
const MAX_ROUNDS: u32 = 10_000_000;

/// What a derived key has, and a private key at most.
const KEY_LENGTH: usize = 32;
const IV_LENGTH: usize = 16;

/// The cost of the files that are made here, as cautious tools choose it: 256 MiB, and about a second.
const N: u64 = 1 << 18;
const R: u32 = 8;
const P: u32 = 1;

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// No keystore is that large.
    #[error("the file has {size} bytes, a keystore at most {MAX_SIZE}")]
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not an Ethereum keystore of version {VERSION}")]
    Malformed(#[source] SyntaxError),
    /// Of a version with another format.
    #[error("keystore version {found}; only version {VERSION} is read")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Made with something that no common tool uses.
    #[error(
        "the keystore's {field} is not `{expected}`; make one anew, for example with `cast wallet import`"
    )]
    Unsupported {
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A field is too short or too long.
    #[error("the keystore's {field} has {length} bytes, {expected} are expected")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// What scrypt cannot be asked for.
    #[error("scrypt cannot be used with n = {n}, r = {r}, p = {p}")]
    Scrypt {
        /// The cost.
        n: u64,
        /// The size of a block.
        r: u32,
        /// The parallelism.
        p: u32,
    },
    /// Opening it would take the machine away from whoever uses it.
    #[error("opening the keystore needs more work than this program does for a key: {what}")]
    TooCostly {
        /// What is beyond which bound.
        what: &'static str,
    },
    /// Nothing else is known then.
    #[error("the password is wrong, or the keystore is damaged")]
    WrongPassword,
    /// The password is right, but what it protects is no key of the curve.
    #[error("the keystore holds no private key")]
    NotAKey,
    /// The address is not protected by the password.
    #[error("the keystore says that it is of {said}, but its key is that of {found}")]
    AnotherAddress {
        /// In the file.
        said: Address,
        /// Of the key.
        found: Address,
    },
}

/// What a program needs to know before it reads anything else.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Deserialize, Serialize)]
struct File {
    version: u32,
    #[serde(default, skip_deserializing)]
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Hex>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Deserialize, Serialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: Hex,
    #[serde(flatten)]
    kdf: Kdf,
    mac: Hex,
}

#[derive(Deserialize, Serialize)]
struct CipherParams {
    iv: Hex,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt { dklen: usize, n: u64, r: u32, p: u32, salt: Hex },
    Pbkdf2 { dklen: usize, c: u32, prf: String, salt: Hex },
}

/// Bytes as the files have them: hexadecimal digits, which some tools put behind `0x`.
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(text).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

type DerivedKey = Zeroizing<[u8; KEY_LENGTH]>;

impl Kdf {
    /// Does the work, where it is within its bounds.
    fn derive(&self, password: &str) -> Result<DerivedKey, KeystoreError> {
        let mut key = DerivedKey::default();
        match self {
            Self::Scrypt { dklen, n, r, p, salt } => {
                check_key_length(*dklen)?;
                let params = scrypt_params(*n, *r, *p)?;
                scrypt(password.as_bytes(), &salt.0, &params, &mut *key)
                    .expect("32 bytes are a length that scrypt can derive");
            }
            Self::Pbkdf2 { dklen, c, prf, salt } => {
                check_key_length(*dklen)?;
                expect("pseudorandom function", prf, PRF)?;
                if *c > MAX_ROUNDS {
                    let what = "PBKDF2 with more than ten million rounds";
                    return Err(KeystoreError::TooCostly { what });
                }
                pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt.0, *c, &mut *key);
            }
        }
        Ok(key)
    }
}

fn check_key_length(length: usize) -> Result<(), KeystoreError> {
    if length == KEY_LENGTH {
        return Ok(());
    }
    Err(KeystoreError::Length { field: "derived key", length, expected: "32" })
}

fn expect(field: &'static str, found: &str, expected: &'static str) -> Result<(), KeystoreError> {
    if found == expected {
        return Ok(());
    }
    Err(KeystoreError::Unsupported { field, expected })
}

/// The parameters, where the work is within its bound: 128 * n * r * p bytes are written and read.
fn scrypt_params(n: u64, r: u32, p: u32) -> Result<Params, KeystoreError> {
    let impossible = KeystoreError::Scrypt { n, r, p };
    if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
        return Err(impossible);
    }
    let product = [n, r.into(), p.into()].into_iter().try_fold(128, u64::checked_mul);
    if product.is_none_or(|bytes| bytes > MAX_SCRYPT) {
        return Err(KeystoreError::TooCostly { what: "scrypt over more than 1 GiB" });
    }
    let log_n = u8::try_from(n.ilog2()).expect("a power of two in 64 bits");
    Params::new(log_n, r, p).map_err(|_| impossible)
}

/// Proves that the password is right, for it comes from the other half of the derived key than what decrypts.
fn mac(key: &DerivedKey, ciphertext: &[u8]) -> B256 {
    let mut input = Zeroizing::new(Vec::with_capacity(KEY_LENGTH / 2 + ciphertext.len()));
    input.extend_from_slice(&key[KEY_LENGTH / 2..]);
    input.extend_from_slice(ciphertext);
    keccak256(&*input)
}

/// Encrypts and decrypts.
fn apply(key: &DerivedKey, iv: &[u8; IV_LENGTH], bytes: &mut [u8]) {
    let (half, _) = key.split_at(KEY_LENGTH / 2);
    let mut cipher = Ctr128BE::<Aes128>::new_from_slices(half, iv)
        .expect("a key and a counter of 16 bytes each, as AES-128 has them");
    cipher.apply_keystream(bytes);
}

pub(super) fn open(json: &[u8], password: &str) -> Result<Wallet, KeystoreError> {
    if json.len() > MAX_SIZE {
        return Err(KeystoreError::TooLarge { size: json.len() });
    }
    let malformed = |error| KeystoreError::Malformed(SyntaxError::of_json(&error));
    let Versioned { version } = serde_json::from_slice(json).map_err(malformed)?;
    if version != VERSION {
        return Err(KeystoreError::Version { found: version });
    }
    let File { crypto, address, .. } = serde_json::from_slice(json).map_err(malformed)?;
    expect("cipher", &crypto.cipher, CIPHER)?;
    let iv = &crypto.cipherparams.iv.0;
    let iv: &[u8; IV_LENGTH] = iv.as_slice().try_into().map_err(|_| KeystoreError::Length {
        field: "initialisation vector",
        length: iv.len(),
        expected: "16",
    })?;
    let ciphertext = &crypto.ciphertext.0;
    let length = ciphertext.len();
    if length == 0 || length > KEY_LENGTH {
        return Err(KeystoreError::Length { field: "ciphertext", length, expected: "1 to 32" });
    }

    let derived = crypto.kdf.derive(password)?;
    if mac(&derived, ciphertext).as_slice() != crypto.mac.0 {
        return Err(KeystoreError::WrongPassword);
    }
    // Some tools leave out the zeros that a key begins with.
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    let significant = &mut key[KEY_LENGTH - length..];
    significant.copy_from_slice(ciphertext);
    apply(&derived, iv, significant);
    let wallet = Wallet::from_bytes(&key).ok_or(KeystoreError::NotAKey)?;

    if let Some(Hex(said)) = address {
        let length = said.len();
        let said = Address::try_from(said.as_slice()).map_err(|_| KeystoreError::Length {
            field: "address",
            length,
            expected: "20",
        })?;
        let found = wallet.address();
        if said != found {
            return Err(KeystoreError::AnotherAddress { said, found });
        }
    }
    Ok(wallet)
}

pub(super) fn seal(wallet: &Wallet, password: &str) -> Vec<u8> {
    let salt = Hex(random::<32>().to_vec());
    seal_with(wallet, password, Kdf::Scrypt { dklen: KEY_LENGTH, n: N, r: R, p: P, salt })
}

fn seal_with(wallet: &Wallet, password: &str, kdf: Kdf) -> Vec<u8> {
    let iv = random::<IV_LENGTH>();
    let derived = kdf.derive(password).expect("the cost chosen here is within the bounds");
    let mut key = wallet.to_bytes();
    apply(&derived, &iv, &mut *key);
    let file = File {
        version: VERSION,
        id: uuid(random()),
        address: Some(Hex(wallet.address().to_vec())),
        crypto: Crypto {
            cipher: CIPHER.into(),
            cipherparams: CipherParams { iv: Hex(iv.to_vec()) },
            ciphertext: Hex(key.to_vec()),
            mac: Hex(mac(&derived, &*key).to_vec()),
            kdf,
        },
    };
    serde_json::to_vec(&file).expect("every field of a keystore has a JSON form")
}

fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the system has a source of randomness");
    bytes
}

/// The text of a random UUID (RFC 9562, version 4), which other tools name a keystore by.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
