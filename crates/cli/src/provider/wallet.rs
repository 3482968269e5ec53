//! The account of a provider in its folder. Its key is written once and never replaced.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use alloy_primitives::Address;
use anyhow::Context;
use roadstead_chain::Wallet;
use roadstead_journal::StateFolder;
use zeroize::Zeroizing;

use super::{ProviderError, read_text};
use crate::{account, arguments::Account, file};

const KEY: &str = "wallet.key";
const KEYSTORE: &str = "wallet.json";
const ADDRESS: &str = "account";

/// How the names of keys begin that were moved aside.
const ASIDE: &str = "wallet-";

/// The most bytes of a keystore.
const MAX_KEYSTORE: u64 = 64 << 10;

/// Where the account came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was there.
    Found,
    /// It was taken in.
    Imported,
    /// Nobody had it before.
    Made,
}

/// The account that was named, read to its end before anything is written.
pub(super) struct Given {
    /// `None` where none was named.
    wallet: Option<Wallet>,
    /// The keystore that it came from.
    keystore: Option<Zeroizing<String>>,
    password_file: Option<PathBuf>,
}

impl Given {
    /// Reads the file that was named, once; asks for the password of a keystore where no file holds it.
    pub(super) fn read(account: &Account) -> anyhow::Result<Self> {
        let password_file = account.password_file.clone();
        let (wallet, keystore) = match &account.keystore {
            _ if !account.is_named() => (None, None),
            Some(path) if account.key_file.is_none() => {
                let json = file::read_text(path, MAX_KEYSTORE)
                    .with_context(|| format!("the keystore {} cannot be read", path.display()))?;
                (Some(account.unlock(&json, path)?), Some(json))
            }
            _ => (Some(account.wallet()?), None),
        };
        Ok(Self { wallet, keystore, password_file })
    }
}

/// Takes in the account that was named, or makes one where none was named and none is there. Another one than the one that
/// is there is refused.
pub(super) fn take_in(folder: &StateFolder, given: &Given) -> anyhow::Result<(Address, Origin)> {
    if is_there(folder) {
        let found = address(folder, given.password_file.clone())?;
        let given = given.wallet.as_ref().map_or(found, Wallet::address);
        if given != found {
            let path = folder.path().to_owned();
            return Err(ProviderError::OtherAccount { path, found, given }.into());
        }
        return Ok((found, Origin::Found));
    }
    let (wallet, origin) = match &given.wallet {
        Some(wallet) => (wallet.clone(), Origin::Imported),
        None => (Wallet::random(), Origin::Made),
    };
    match &given.keystore {
        Some(json) => folder.write_secret(KEYSTORE, json.as_bytes())?,
        None => folder.write_secret(KEY, wallet.to_hex().as_bytes())?,
    };
    folder.write(ADDRESS, wallet.address().to_string().as_bytes())?;
    Ok((wallet.address(), origin))
}

fn is_there(folder: &StateFolder) -> bool {
    [KEY, KEYSTORE].iter().any(|name| folder.path().join(name).exists())
}

/// The account, without its key where that is possible.
pub(super) fn address(
    folder: &StateFolder,
    password_file: Option<PathBuf>,
) -> anyhow::Result<Address> {
    let file = folder.path().join(ADDRESS);
    let unusable = || format!("{} does not hold an address", file.display());
    match read_text(folder, ADDRESS).with_context(unusable)? {
        Some(text) => text.parse().with_context(unusable),
        // A crash came between.
        None => {
            let address = load(folder, password_file)?.address();
            folder.write(ADDRESS, address.to_string().as_bytes())?;
            Ok(address)
        }
    }
}

/// The key. Asks for the password of a keystore where no file holds it.
pub(super) fn load(folder: &StateFolder, password_file: Option<PathBuf>) -> anyhow::Result<Wallet> {
    let (key, keystore) = (folder.path().join(KEY), folder.path().join(KEYSTORE));
    if key.exists() {
        return Ok(account::from_file(&key)?);
    }
    if !keystore.exists() {
        return Err(ProviderError::NotInitialised { path: folder.path().to_owned() }.into());
    }
    let account = Account { key_file: None, keystore: Some(keystore), password_file };
    Ok(account.wallet()?)
}

/// Gives the key's file a name of its own, so that another account can be taken in. Returns where it is now; `None` where
/// there was none.
pub(super) fn set_aside(folder: &StateFolder) -> anyhow::Result<Option<PathBuf>> {
    let mut aside = None;
    for (name, extension) in [(KEY, "key"), (KEYSTORE, "json")] {
        let path = folder.path().join(name);
        if path.exists() {
            // Only a crash leaves a keystore without its address.
            let address = match read_text(folder, ADDRESS)? {
                Some(text) => text,
                None if name == KEY => account::from_file(&path)?.address().to_string(),
                None => "unknown".to_owned(),
            };
            let named = |number: u32| match number {
                0 => folder.path().join(format!("{ASIDE}{address}.{extension}")),
                _ => folder.path().join(format!("{ASIDE}{address}-{number}.{extension}")),
            };
            let free = (0..).map(named).find(|path| !path.exists());
            let free = free.context("there is no free name for the wallet")?;
            let moved = fs::rename(&path, &free);
            moved.with_context(|| format!("{} cannot be moved aside", path.display()))?;
            aside = Some(free);
        }
    }
    roadstead_provider::remove(&folder.path().join(ADDRESS))?;
    Ok(aside)
}

/// The keys that were moved aside.
pub(super) fn all_set_aside(folder: &StateFolder) -> io::Result<Vec<PathBuf>> {
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(ASIDE))
    };
    let files = fs::read_dir(folder.path())?.map(|entry| entry.map(|entry| entry.path()));
    let mut files = files.collect::<io::Result<Vec<_>>>()?;
    files.retain(is_aside);
    files.sort();
    Ok(files)
}

/// The command that takes in an account which was moved aside.
pub(super) fn way_back(wallet: &Path) -> String {
    let flag = match wallet.extension() {
        Some(extension) if extension == "json" => "--keystore",
        _ => "--key-file",
    };
    format!("roadstead provider init {flag} {}", wallet.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(key_file: Option<PathBuf>) -> Given {
        let account = Account { key_file, keystore: None, password_file: None };
        Given::read(&account).unwrap()
    }

    #[test]
    fn a_keystore_is_kept_as_it_was_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path().join("provider")).unwrap();
        let secrets = StateFolder::open(home.path().join("secrets")).unwrap();
        let wallet = Wallet::random();
        let json = wallet.to_keystore("open sesame");
        let keystore = secrets.write_secret("keystore.json", &json).unwrap();
        let password_file = Some(secrets.write_secret("password", b"open sesame").unwrap());
        let account = |keystore: &Path| Account {
            key_file: None,
            keystore: Some(keystore.to_owned()),
            password_file: password_file.clone(),
        };
        let given = Given::read(&account(&keystore)).unwrap();
        // What comes to be there afterwards is not taken for what was opened.
        fs::write(&keystore, vec![b' '; 65_537]).unwrap();
        assert_eq!(take_in(&folder, &given).unwrap(), (wallet.address(), Origin::Imported));
        assert_eq!(fs::read(folder.path().join(KEYSTORE)).unwrap(), json);

        let too_large = Given::read(&account(&keystore)).err().unwrap();
        assert!(
            crate::failure::with_causes(too_large.as_ref()).contains("larger than 65536 bytes")
        );
        fs::write(&keystore, "{}").unwrap();
        let damaged = Given::read(&account(&keystore)).err().unwrap().to_string();
        assert!(damaged.contains(&keystore.display().to_string()), "{damaged}");
    }

    #[test]
    fn a_key_is_never_replaced_and_is_moved_aside_under_its_own_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let (made, origin) = take_in(&folder, &named(None)).unwrap();
        assert_eq!(origin, Origin::Made);
        assert_eq!(take_in(&folder, &named(None)).unwrap(), (made, Origin::Found));

        let other = Wallet::random();
        let file = folder.write_secret("other", other.to_hex().as_bytes()).unwrap();
        let refused = take_in(&folder, &named(Some(file.clone()))).unwrap_err();
        assert!(matches!(refused.downcast_ref(), Some(ProviderError::OtherAccount { .. })));
        assert_eq!(load(&folder, None).unwrap().address(), made);

        assert!(all_set_aside(&folder).unwrap().is_empty());
        let aside = set_aside(&folder).unwrap().unwrap();
        assert_eq!(all_set_aside(&folder).unwrap(), std::slice::from_ref(&aside));
        assert!(way_back(&aside).ends_with(&format!("--key-file {}", aside.display())));
        assert_eq!(account::from_file(&aside).unwrap().address(), made);
        assert_eq!(set_aside(&folder).unwrap(), None);
        let taken = take_in(&folder, &named(Some(file))).unwrap();
        assert_eq!(taken, (other.address(), Origin::Imported));
        assert_eq!(
            take_in(&folder, &named(Some(aside))).unwrap_err().to_string(),
            format!(
                "the provider in {} has the account {}, not {made}",
                home.path().display(),
                other.address(),
            )
        );
    }

    #[test]
    fn an_address_that_a_crash_kept_from_being_written_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let (made, _) = take_in(&folder, &named(None)).unwrap();
        fs::remove_file(home.path().join(ADDRESS)).unwrap();
        assert_eq!(take_in(&folder, &named(None)).unwrap(), (made, Origin::Found));
        assert_eq!(address(&folder, None).unwrap(), made);
    }
}
