//! What Docker does not keep of an instance, in one small file for each.
//!
//! ```text
//! instances/ID.json    written once the container runs, replaced at each reading and each change of reasons, removed
//!                      last
//! ```
//!
//! The file is what makes a container an instance: one that no file names is half made, or left from an earlier run,
//! and goes. A crash loses nothing of it: what is read counts once it is written. An instance whose file is damaged
//! can only be removed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use roadstead_core::ports::{EngineError, FreezeReason, Usage};
use roadstead_types::{ImageKey, InstanceId};
use serde::{Deserialize, Serialize};

use crate::{
    files::{FileError, failed, make_folder, names, read_json, write_json},
    reasons,
    work::{blocking, engine_failed},
};

const LOOKING: &str = "looking at an instance";

/// An instance that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its image.
    pub(super) image: ImageKey,
    /// Docker's id of its container.
    pub(super) container: String,
    /// How often it was started.
    pub(super) run: u32,
    /// Ports that are called.
    pub(super) ports: BTreeSet<u16>,
    pub(super) stop_signal: i32,
    /// Seconds between that signal and the kill.
    pub(super) stop_grace: u32,
    /// Bytes that it may write and that Docker does not bound; `None` where it does.
    pub(super) storage: Option<u64>,
    /// Why it is frozen, by name.
    reasons: Vec<String>,
    /// CPU milliseconds at the last reading; here and below `None` where there was none.
    cpu: Option<u64>,
    /// Bytes towards the instance at the last reading.
    network_in: Option<u64>,
    /// Bytes from it at the last reading.
    network_out: Option<u64>,
}

impl Record {
    /// That of an instance that was just started: it has used nothing, and nothing freezes it.
    pub(super) const fn new(image: ImageKey, container: String, run: u32) -> Self {
        Self {
            image,
            container,
            run,
            ports: BTreeSet::new(),
            stop_signal: 0,
            stop_grace: 0,
            storage: None,
            reasons: Vec::new(),
            cpu: None,
            network_in: None,
            network_out: None,
        }
    }

    pub(super) fn reasons(&self) -> BTreeSet<FreezeReason> {
        reasons::of_names(&self.reasons)
    }

    pub(super) fn set_reasons(&mut self, reasons: &BTreeSet<FreezeReason>) {
        self.reasons = reasons::names(reasons);
    }

    /// The last reading of each counter.
    pub(super) const fn usage(&self) -> Usage {
        Usage { cpu: self.cpu, network_in: self.network_in, network_out: self.network_out }
    }

    /// Takes a reading. Returns what the counters say now: one that has fallen is where it was, one that was not read is
    /// not known, though its last reading is kept.
    pub(super) fn read(&mut self, reading: Usage) -> Usage {
        Usage {
            cpu: read(&mut self.cpu, reading.cpu),
            network_in: read(&mut self.network_in, reading.network_in),
            network_out: read(&mut self.network_out, reading.network_out),
        }
    }
}

fn read(last: &mut Option<u64>, reading: Option<u64>) -> Option<u64> {
    let reading = reading?;
    *last = Some(last.map_or(reading, |last| last.max(reading)));
    *last
}

/// What there is of an instance.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Record(Box<Record>),
    /// A file that makes no sense.
    Damaged(FileError),
}

/// The files of all instances.
#[derive(Clone, Debug)]
pub(super) struct Records {
    folder: PathBuf,
}

impl Records {
    /// Those in the engine's folder. Blocks.
    pub(super) fn open(folder: &Path) -> Result<Self, FileError> {
        let folder = folder.join("instances");
        make_folder(&folder)?;
        Ok(Self { folder })
    }

    pub(super) async fn list(&self) -> Result<Vec<InstanceId>, EngineError> {
        let folder = self.folder.clone();
        let names = blocking(move || names(&folder)).await?;
        let names = names.map_err(engine_failed("listing the instances"))?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    pub(super) async fn read(&self, id: &InstanceId) -> Result<Option<Record>, EngineError> {
        match self.find(id).await? {
            Found::Nothing => Ok(None),
            Found::Record(record) => Ok(Some(*record)),
            Found::Damaged(error) => Err(engine_failed(LOOKING)(error)),
        }
    }

    /// Likewise, where a damaged file is no error.
    pub(super) async fn find(&self, id: &InstanceId) -> Result<Found, EngineError> {
        let path = self.path(id);
        match blocking(move || read_json(&path)).await? {
            Ok(None) => Ok(Found::Nothing),
            Ok(Some(record)) => Ok(Found::Record(Box::new(record))),
            Err(error) if error.is_damage() => Ok(Found::Damaged(error)),
            Err(error) => Err(engine_failed(LOOKING)(error)),
        }
    }

    pub(super) async fn write(&self, id: &InstanceId, record: &Record) -> Result<(), EngineError> {
        let (path, record) = (self.path(id), record.clone());
        let written = blocking(move || write_json(&path, &record)).await?;
        written.map_err(engine_failed("writing down an instance"))
    }

    /// Not an error where there is none.
    pub(super) async fn remove(&self, id: &InstanceId) -> Result<(), EngineError> {
        let path = self.path(id);
        let remove = move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        };
        blocking(remove).await?.map_err(engine_failed("removing an instance"))
    }

    fn path(&self, id: &InstanceId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::{Address, B256};
    use roadstead_types::ImageId;

    use super::*;

    #[test]
    fn what_was_read_never_falls() {
        let image = ImageKey { tenant: Address::ZERO, image: ImageId(B256::ZERO) };
        let mut record = Record::new(image, "c".to_owned(), 1);
        let reading = |cpu, network_in| Usage { cpu, network_in, network_out: None };
        assert_eq!(record.usage(), Usage::default(), "nothing was read");
        let first = reading(Some(5), Some(7));
        assert_eq!(record.read(first), first);
        assert_eq!(record.read(reading(Some(0), None)), reading(Some(5), None));
        assert_eq!(record.read(reading(Some(9), Some(3))), reading(Some(9), Some(7)));
        assert_eq!(record.read(Usage::default()), Usage::default(), "nothing stale");
        assert_eq!(record.usage(), reading(Some(9), Some(7)), "nor a zero for what was not read");
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_from_one_that_cannot_be_read() {
        let home = tempfile::tempdir().unwrap();
        let records = Records::open(home.path()).unwrap();
        let id = InstanceId::first(roadstead_types::JobId(B256::ZERO));
        assert!(matches!(records.find(&id).await.unwrap(), Found::Nothing));
        for damaged in ["", "{\"image\"", "[]", "\0\0\0"] {
            fs::write(records.path(&id), damaged).unwrap();
            assert!(matches!(records.find(&id).await.unwrap(), Found::Damaged(_)), "{damaged}");
            assert!(records.read(&id).await.is_err());
        }
        fs::remove_file(records.path(&id)).unwrap();
        fs::create_dir(records.path(&id)).unwrap();
        assert!(records.find(&id).await.is_err());
    }
}
