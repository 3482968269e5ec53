//! The key of an account: from a file, or from an Ethereum keystore.
//!
//! Neither a key nor a password is ever taken from the command line or the environment, where others of this machine
//! could read it.

use std::{
    io::{self, IsTerminal},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use roadstead_chain::{InvalidWalletKey, KeystoreError, Wallet};
use zeroize::Zeroizing;

use crate::{
    arguments::Account,
    file::{FileError, read_text},
};

/// The most bytes that a file with a key or a password has.
const MAX_BYTES: u64 = 64 << 10;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error("no account is named")]
    NoneNamed,
    #[error("both a key file and a keystore are named")]
    Both,
    #[error("{} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than any key or password", path.display())]
    TooLarge { path: PathBuf },
    #[error("others than its owner may read {}", path.display())]
    Exposed { path: PathBuf },
    #[error("{} does not hold a key", path.display())]
    NoKey {
        path: PathBuf,
        #[source]
        source: InvalidWalletKey,
    },
    #[error("the keystore {} cannot be opened", path.display())]
    Keystore {
        path: PathBuf,
        #[source]
        source: KeystoreError,
    },
    #[error("there is no terminal to ask for the keystore's password at")]
    NoTerminal,
    #[error("the keystore's password cannot be asked for")]
    Prompt(#[source] io::Error),
}

impl Account {
    /// Whether an account is named at all.
    pub(crate) const fn is_named(&self) -> bool {
        self.key_file.is_some() || self.keystore.is_some()
    }

    /// Reads the key; asks for the password of a keystore where no file holds it.
    pub(crate) fn wallet(&self) -> Result<Wallet, AccountError> {
        match (&self.key_file, &self.keystore) {
            (Some(_), Some(_)) => Err(AccountError::Both),
            (None, None) => Err(AccountError::NoneNamed),
            (Some(path), None) => from_file(path),
            (None, Some(path)) => {
                let json = read(path)?;
                self.unlock(&json, path)
            }
        }
    }

    /// Opens what was read of the keystore at `path`, and not what may be there by now.
    pub(crate) fn unlock(&self, json: &str, path: &Path) -> Result<Wallet, AccountError> {
        let password = self.password(path)?;
        let opened = Wallet::from_keystore(json.as_bytes(), &password);
        opened.map_err(|source| AccountError::Keystore { path: path.to_owned(), source })
    }

    /// The same, apart from what must not wait: a keystore takes a second of one processor, or a password.
    pub(crate) async fn open(&self) -> Result<Wallet, AccountError> {
        let account = self.clone();
        let opened = tokio::task::spawn_blocking(move || account.wallet()).await;
        opened.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
    }

    fn password(&self, keystore: &Path) -> Result<Zeroizing<String>, AccountError> {
        if let Some(path) = &self.password_file {
            let text = read_secret(path)?;
            return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
        }
        if !io::stdin().is_terminal() {
            return Err(AccountError::NoTerminal);
        }
        let question = format!("Password of {}: ", keystore.display());
        rpassword::prompt_password(question).map(Zeroizing::new).map_err(AccountError::Prompt)
    }
}

/// The key in a file that its owner alone can read.
pub(crate) fn from_file(path: &Path) -> Result<Wallet, AccountError> {
    let text = read_secret(path)?;
    text.parse().map_err(|source| AccountError::NoKey { path: path.to_owned(), source })
}

/// Reads a file that its owner alone may read.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, AccountError> {
    let unreadable = |source| AccountError::Unreadable { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    // A pipe, as a shell's `<(...)`, is nobody else's to read.
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        return Err(AccountError::Exposed { path: path.to_owned() });
    }
    read(path)
}

fn read(path: &Path) -> Result<Zeroizing<String>, AccountError> {
    let path = || path.to_owned();
    read_text(&path(), MAX_BYTES).map_err(|error| match error {
        FileError::Unreadable(source) => AccountError::Unreadable { path: path(), source },
        FileError::TooLarge { .. } => AccountError::TooLarge { path: path() },
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let wallet = Wallet::random();
        fs::write(&path, format!("{}\n", *wallet.to_hex())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(from_file(&path).unwrap().address(), wallet.address());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(from_file(&path), Err(AccountError::Exposed { .. })));
    }

    #[test]
    fn a_keystore_opens_with_the_password_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (keystore, password) = (folder.path().join("keystore"), folder.path().join("password"));
        let wallet = Wallet::random();
        fs::write(&keystore, wallet.to_keystore("open sesame")).unwrap();
        fs::write(&password, "open sesame\n").unwrap();
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
        let account = Account {
            key_file: None,
            keystore: Some(keystore),
            password_file: Some(password.clone()),
        };
        assert_eq!(account.wallet().unwrap().address(), wallet.address());
        fs::write(&password, "open barley\n").unwrap();
        assert!(matches!(account.wallet(), Err(AccountError::Keystore { .. })));
    }
}
