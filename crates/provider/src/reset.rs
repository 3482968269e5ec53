//! Forgetting a market: what a provider has of it on this machine goes, its keys stay.
//!
//! No chain is asked, so it works when the chain is gone. Every step may be repeated: after a crash the same call goes on
//! where it ended.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use roadstead_core::ports::{Engine, EngineError};
use roadstead_journal::{FolderError, Journal, JournalBinding, JournalError, StateFolder};
use roadstead_types::{JobStatus, Market};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::wire::BLOCKS;

/// How many containers are ended at once.
const AT_ONCE: usize = 8;

/// What was removed from an engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleared {
    /// Containers, whether or not they ran.
    pub containers: usize,
    /// Images.
    pub images: usize,
}

/// What of an engine is about to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearing {
    /// A container.
    Container {
        /// Its number, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// An image.
    Image {
        /// Its number, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
}

/// Something of a market is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveFileError {
    /// A file or a folder.
    #[error("{} cannot be removed", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The journal.
    #[error("the journal cannot be removed")]
    Journal(#[from] FolderError),
}

/// How many jobs the journal of a folder knows as open. Zero where there is no journal.
pub async fn count_open(folder: &StateFolder, market: &Market) -> Result<usize, JournalError> {
    if !Journal::exists(folder) {
        return Ok(0);
    }
    let journal = Journal::open(folder, &JournalBinding::from(market))?;
    let Some((_, book)) = journal.book().await? else { return Ok(0) };
    let is_open = |status| matches!(status, JobStatus::Open | JobStatus::Closing);
    Ok(book.jobs().filter(|(_, record)| is_open(record.job().status())).count())
}

/// Ends every instance of an engine, some at a time, and removes all its images. The engine is one provider's alone. `tell`
/// hears of each before it goes. One that does not go keeps no other from going; the first such error is returned.
pub async fn clear_engine(
    engine: &Arc<dyn Engine>,
    tell: impl Fn(Clearing),
) -> Result<Cleared, EngineError> {
    let instances = engine.instances().await?;
    let of = instances.len();
    let (mut ending, mut ended) = (JoinSet::new(), Ok(()));
    for (number, instance) in (1..).zip(instances) {
        if ending.len() >= AT_ONCE {
            ended = ended.and(next(&mut ending).await);
        }
        tell(Clearing::Container { number, of });
        let engine = engine.clone();
        ending.spawn(async move { engine.remove(&instance).await.map(drop) });
    }
    while !ending.is_empty() {
        ended = ended.and(next(&mut ending).await);
    }
    ended?;
    let images = engine.images().await?;
    let cleared = Cleared { containers: of, images: images.len() };
    for (number, image) in (1..).zip(images) {
        tell(Clearing::Image { number, of: cleared.images });
        engine.remove_image(&image).await?;
    }
    Ok(cleared)
}

/// How the next of what is being ended ended.
async fn next(ending: &mut JoinSet<Result<(), EngineError>>) -> Result<(), EngineError> {
    match ending.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // Nobody cancels one of them.
        Some(Err(_)) | None => Ok(()),
    }
}

/// Removes the journal and the cached blocks of a folder.
pub fn clear_files(folder: &StateFolder) -> Result<(), RemoveFileError> {
    Journal::remove(folder)?;
    remove(&folder.path().join(BLOCKS))
}

/// Removes a file, or a folder with all that is in it. Nothing where there is none.
pub fn remove(path: &Path) -> Result<(), RemoveFileError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RemoveFileError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use alloy_primitives::{Address, B256};
    use roadstead_core::ports::{InstanceSpec, Limits, Network};
    use roadstead_testkit::FakeEngine;
    use roadstead_types::{Contracts, InstanceId, JobId, Token};

    use super::*;
    use crate::Keys;

    fn market(genesis: u8) -> Market {
        Market {
            devnet: true,
            chain_id: 31_337,
            genesis: B256::repeat_byte(genesis),
            rpc: vec!["http://127.0.0.1:1".into()],
            contracts: Contracts { registry: Address::ZERO, payment: Address::ZERO },
            token: Token { address: Address::ZERO, symbol: "RTD".into(), decimals: 6 },
            from_block: 0,
            confirmations: 0,
        }
    }

    #[tokio::test]
    async fn an_engine_has_nothing_left_and_each_container_was_named() {
        let fake = Arc::new(FakeEngine::default());
        for number in 0..20 {
            let spec = InstanceSpec {
                id: InstanceId::first(JobId(B256::repeat_byte(number))),
                containers: Vec::new(),
                limits: Limits { cpu: 1, memory: 1, storage: 1, pids: 1 },
                network: Network::Isolated,
            };
            fake.apply(&spec).await.unwrap();
        }
        let engine: Arc<dyn Engine> = fake.clone();
        let told = RefCell::new(Vec::new());
        let cleared = clear_engine(&engine, |step| told.borrow_mut().push(step)).await.unwrap();
        assert_eq!(cleared, Cleared { containers: 20, images: 0 });
        assert!(fake.instances().await.unwrap().is_empty());
        let expected = (1..=20).map(|number| Clearing::Container { number, of: 20 });
        assert!(told.into_inner().into_iter().eq(expected));
    }

    #[tokio::test]
    async fn a_journal_of_another_market_goes_and_keys_stay() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        assert_eq!(count_open(&folder, &market(1)).await.unwrap(), 0);
        let keys = Keys::load_or_create(&folder).unwrap();
        drop(Journal::open(&folder, &JournalBinding::from(&market(1))).unwrap());
        fs::create_dir(home.path().join(BLOCKS)).unwrap();
        fs::write(home.path().join(BLOCKS).join("block"), "block").unwrap();
        assert_eq!(count_open(&folder, &market(1)).await.unwrap(), 0);
        assert!(count_open(&folder, &market(2)).await.is_err());

        clear_files(&folder).unwrap();
        clear_files(&folder).unwrap();
        let mut left: Vec<_> =
            home.path().read_dir().unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["encryption.key", "identity.key", "lock"]);
        let kept = Keys::load_or_create(&folder).unwrap();
        assert_eq!(kept.identity.peer_id(), keys.identity.peer_id());
        Journal::open(&folder, &JournalBinding::from(&market(2))).unwrap();
    }
}
