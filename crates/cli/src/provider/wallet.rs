//! The account of a provider in its folder. Its key is written once and never replaced.

use std::{fs, path::PathBuf};

use alloy_primitives::Address;
use anyhow::Context;
use roadstead_chain::Wallet;
use roadstead_journal::StateFolder;

use super::{ProviderError, read_text};
use crate::{account, arguments::Account};

const KEY: &str = "wallet.key";
const KEYSTORE: &str = "wallet.json";
const ADDRESS: &str = "account";

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

/// Takes in the account that is named, or makes one where none is named and none is there. Another one than the one that
/// is there is refused.
pub(super) fn take_in(folder: &StateFolder, given: &Account) -> anyhow::Result<(Address, Origin)> {
    if is_there(folder) {
        let found = address(folder, given.password_file.clone())?;
        if given.is_named() {
            let given = given.wallet()?.address();
            if given != found {
                let path = folder.path().to_owned();
                return Err(ProviderError::OtherAccount { path, found, given }.into());
            }
        }
        return Ok((found, Origin::Found));
    }
    if let Some(path) = given.keystore.as_ref().filter(|path| !path.is_file()) {
        return Err(ProviderError::NoFile { path: path.clone() }.into());
    }
    let (wallet, origin) = match given.is_named() {
        true => (given.wallet()?, Origin::Imported),
        false => (Wallet::random(), Origin::Made),
    };
    match &given.keystore {
        Some(path) => {
            let json = fs::read(path);
            let json = json.with_context(|| format!("{} cannot be read", path.display()))?;
            folder.write_secret(KEYSTORE, &json)?;
        }
        None => {
            folder.write_secret(KEY, wallet.to_hex().as_bytes())?;
        }
    }
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
                0 => folder.path().join(format!("wallet-{address}.{extension}")),
                _ => folder.path().join(format!("wallet-{address}-{number}.{extension}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn named(key_file: Option<PathBuf>) -> Account {
        Account { key_file, keystore: None, password_file: None }
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

        let aside = set_aside(&folder).unwrap().unwrap();
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
