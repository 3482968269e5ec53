//! Vectors of the specification, real files of cast, and hostile ones.

use std::process::Command;

use alloy::primitives::b256;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What the vectors of the specification protect, with the password `testpassword`.
const SECRET: B256 = b256!("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d");

/// What `cast wallet import` made of the first well-known key of development chains, with the password `test`.
const CAST: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"58e507e505f76f8cbedc124e34925cf4"},"ciphertext":"e4c7e4c03593b6847bcf2d2fc5c6d552bbbb13b4471d3c24ece0e136190d2a39","kdf":"scrypt","kdfparams":{"dklen":32,"n":8192,"p":1,"r":8,"salt":"dd2e8870eb8e4f44260d04e7f7444927ed10cce3aa5339b49148871b3254a1a6"},"mac":"4a87d9885819d6dc548b1b5a8d902c20acabba105fe52b151d791ca4850b59dd"},"id":"22d9e5c8-853b-476d-a4bf-d5488a521609","version":3}"#;

fn pbkdf2_vector() -> Value {
    json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262_144,
                "dklen": 32,
                "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    })
}

fn scrypt_vector() -> Value {
    json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "83dbcc02d8ccb40e466191a123791e0e" },
            "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32,
                "n": 262_144,
                "p": 8,
                "r": 1,
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"
            },
            "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    })
}

/// A keystore that costs nothing to open.
fn cheap(wallet: &Wallet, password: &str) -> Value {
    let kdf = Kdf::Scrypt { dklen: 32, n: 2, r: 1, p: 1, salt: Hex(vec![1; 32]) };
    serde_json::from_slice(&seal_with(wallet, password, kdf)).unwrap()
}

fn opened(file: &Value, password: &str) -> Result<Wallet, KeystoreError> {
    Wallet::from_keystore(file.to_string().as_bytes(), password)
}

/// Why the file is refused with this field replaced, the password being right.
fn refused(pointer: &str, with: impl Into<Value>) -> KeystoreError {
    let mut file = cheap(&Wallet::random(), "right");
    *file.pointer_mut(pointer).unwrap() = with.into();
    opened(&file, "right").unwrap_err()
}

#[test]
fn the_vectors_of_the_specification_are_opened() {
    for mut file in [pbkdf2_vector(), scrypt_vector()] {
        assert_eq!(*opened(&file, "testpassword").unwrap().to_bytes(), SECRET.0);
        assert!(matches!(opened(&file, "Testpassword"), Err(KeystoreError::WrongPassword)));
        // As old tools write it.
        let crypto = file.as_object_mut().unwrap().remove("crypto").unwrap();
        file["Crypto"] = crypto;
        file["address"] = "0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b".into();
        opened(&file, "testpassword").unwrap();
    }
}

#[test]
fn a_file_of_cast_is_opened() {
    let wallet = Wallet::from_keystore(CAST.as_bytes(), "test").unwrap();
    assert_eq!(
        *wallet.to_hex(),
        "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    );
    let wrong = Wallet::from_keystore(CAST.as_bytes(), "");
    assert!(matches!(wrong, Err(KeystoreError::WrongPassword)));
}

/// Runs cast; what it prints.
fn cast(arguments: &[&str]) -> String {
    let output = Command::new("cast").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cast: {error}; script/setup installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn cast_opens_what_is_written_here_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| folder.path().join(name).into_os_string().into_string().unwrap();
    let password = "long, with spaces and \u{fc}ml\u{e4}uts";

    let wallet = Wallet::random();
    std::fs::write(at("ours"), wallet.to_keystore(password)).unwrap();
    let printed = cast(&["wallet", "address", "--keystore", &at("ours"), "--password", password]);
    assert_eq!(printed.trim(), wallet.address().to_string());
    let again = Wallet::from_keystore(&std::fs::read(at("ours")).unwrap(), password).unwrap();
    assert_eq!(*again.to_hex(), *wallet.to_hex());

    let made = cast(&["wallet", "new", &at(""), "theirs", "--unsafe-password", password]);
    let read = Wallet::from_keystore(&std::fs::read(at("theirs")).unwrap(), password).unwrap();
    assert!(made.contains(&read.address().to_string()), "{made}");
}

#[test]
fn what_is_written_holds_no_secret_and_is_never_the_same() {
    let wallet = Wallet::random();
    let files = [cheap(&wallet, "pass-phrase"), cheap(&wallet, "pass-phrase")];
    assert_ne!(files[0]["crypto"]["ciphertext"], files[1]["crypto"]["ciphertext"]);
    assert_ne!(files[0]["id"], files[1]["id"]);
    for file in files {
        let text = file.to_string();
        assert!(!text.contains("pass-phrase"));
        assert!(!text.contains(wallet.to_hex().trim_start_matches("0x")));
        let id = file["id"].as_str().unwrap();
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!((&id[14..15], id.len()), ("4", 36));
    }
}

#[test]
fn what_would_eat_the_machine_is_refused_before_any_work() {
    let scrypt =
        |n: u64, r: u32, p: u32| json!({ "dklen": 32, "n": n, "r": r, "p": p, "salt": "00" });
    let costly = [(1 << 21, 8, 1), (1 << 18, 8, 5), (2, u32::MAX, u32::MAX), (1 << 63, 1, 1)];
    for (n, r, p) in costly {
        let error = refused("/crypto/kdfparams", scrypt(n, r, p));
        assert!(matches!(error, KeystoreError::TooCostly { .. }), "{n} {r} {p}: {error}");
    }
    for (n, r, p) in [(0, 1, 1), (1, 1, 1), (3, 1, 1), (2, 0, 1), (2, 1, 0)] {
        let error = refused("/crypto/kdfparams", scrypt(n, r, p));
        assert!(matches!(error, KeystoreError::Scrypt { .. }), "{n} {r} {p}: {error}");
    }
    // As much as is allowed is what scrypt is asked for.
    assert!(scrypt_params(1 << 20, 8, 1).is_ok());

    let mut rounds = pbkdf2_vector();
    rounds["crypto"]["kdfparams"]["c"] = 10_000_001.into();
    assert!(matches!(opened(&rounds, ""), Err(KeystoreError::TooCostly { .. })));

    let large = vec![b' '; MAX_SIZE + 1];
    let error = Wallet::from_keystore(&large, "").unwrap_err();
    assert!(matches!(error, KeystoreError::TooLarge { size } if size == MAX_SIZE + 1));
}

#[test]
fn what_cannot_be_read_is_named() {
    assert!(matches!(refused("/version", 4), KeystoreError::Version { found: 4 }));
    assert!(matches!(refused("/version", "3"), KeystoreError::Malformed(_)));
    assert!(matches!(refused("/crypto/kdf", "argon2"), KeystoreError::Malformed(_)));
    assert!(matches!(refused("/crypto/mac", "xyz"), KeystoreError::Malformed(_)));
    let cipher = refused("/crypto/cipher", "aes-256-gcm");
    assert!(matches!(cipher, KeystoreError::Unsupported { field: "cipher", .. }));
    for length in [15, 17] {
        let error = refused("/crypto/cipherparams/iv", "00".repeat(length));
        assert!(matches!(error, KeystoreError::Length { length: found, .. } if found == length));
    }
    for length in [0, 33] {
        let error = refused("/crypto/ciphertext", "00".repeat(length));
        assert!(matches!(error, KeystoreError::Length { field: "ciphertext", .. }), "{error}");
    }
    for length in [0, 16, 31, 64] {
        let error = refused("/crypto/kdfparams/dklen", length);
        assert!(matches!(error, KeystoreError::Length { field: "derived key", .. }), "{error}");
    }
    for mac in ["", "00", &"00".repeat(32)] {
        assert!(matches!(refused("/crypto/mac", mac), KeystoreError::WrongPassword));
    }
    let other = "00".repeat(20);
    assert!(matches!(refused("/address", other), KeystoreError::AnotherAddress { .. }));
    let mut prf = pbkdf2_vector();
    prf["crypto"]["kdfparams"]["prf"] = "hmac-sha512".into();
    assert!(matches!(opened(&prf, ""), Err(KeystoreError::Unsupported { .. })));
    let empty = Wallet::from_keystore(b"", "").unwrap_err();
    assert!(matches!(empty, KeystoreError::Malformed(_)));
}

#[test]
fn a_key_without_its_leading_zeros_is_a_key_and_zero_is_none() {
    let kdf = || Kdf::Scrypt { dklen: 32, n: 2, r: 1, p: 1, salt: Hex(Vec::new()) };
    let derived = kdf().derive("p").unwrap();
    let file = |mut key: Vec<u8>| {
        apply(&derived, &[7; IV_LENGTH], &mut key);
        let file = File {
            version: VERSION,
            id: String::new(),
            address: None,
            crypto: Crypto {
                cipher: CIPHER.into(),
                cipherparams: CipherParams { iv: Hex(vec![7; IV_LENGTH]) },
                mac: Hex(mac(&derived, &key).to_vec()),
                ciphertext: Hex(key),
                kdf: kdf(),
            },
        };
        Wallet::from_keystore(&serde_json::to_vec(&file).unwrap(), "p")
    };
    let short = file(vec![9; 30]).unwrap();
    assert_eq!(*short.to_hex(), format!("0x0000{}", "09".repeat(30)));
    assert!(matches!(file(vec![0; 32]), Err(KeystoreError::NotAKey)));
    assert!(matches!(file(vec![0xff; 32]), Err(KeystoreError::NotAKey)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_a_password(password in any::<String>(), other in any::<String>()) {
        let wallet = Wallet::random();
        let file = cheap(&wallet, &password);
        prop_assert_eq!(opened(&file, &password).unwrap().address(), wallet.address());
        prop_assert_eq!(opened(&file, &other).is_ok(), password == other);
    }

    #[test]
    fn a_damaged_file_is_refused_or_is_the_same_key(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let wallet = Wallet::random();
        let mut text = cheap(&wallet, "p").to_string().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(read) = Wallet::from_keystore(&text, "p") {
            // The counter's first value is proven by nothing but the address.
            prop_assert_eq!(read.address(), wallet.address());
        }
    }
}

#[test]
fn what_was_taken_for_a_keystore_is_not_repeated() {
    let key = Wallet::random().to_hex();
    let mut strange = cheap(&Wallet::random(), "test");
    strange["crypto"]["ciphertext"] = json!([key.as_str()]);
    for text in [key.to_string(), format!("\"{}\"", *key), strange.to_string()] {
        let mut error: &dyn std::error::Error =
            &open(text.as_bytes(), "test").map(drop).unwrap_err();
        loop {
            assert!(!error.to_string().contains(&key[2..10]), "{error}");
            let Some(source) = error.source() else { break };
            error = source;
        }
    }
}
