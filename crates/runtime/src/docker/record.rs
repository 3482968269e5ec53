//! What Docker does not keep of an instance, in one small file for each.
//!
//! ```text
//! instances/ID.json    written once the container runs, replaced at each reading and each change of reasons, removed
//!                      last
//! ```
//!
//! The file is what makes a container an instance: one that no file names is half made, or left from an earlier run,
//! and goes. A crash loses nothing of it: what is read counts once it is written.

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
    /// CPU milliseconds at the last reading.
    cpu: u64,
    /// Bytes towards the instance at the last reading.
    network_in: u64,
    /// Bytes from it at the last reading.
    network_out: u64,
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
            cpu: 0,
            network_in: 0,
            network_out: 0,
        }
    }

    pub(super) fn reasons(&self) -> BTreeSet<FreezeReason> {
        reasons::of_names(&self.reasons)
    }

    pub(super) fn set_reasons(&mut self, reasons: &BTreeSet<FreezeReason>) {
        self.reasons = reasons::names(reasons);
    }

    /// The last reading.
    pub(super) const fn usage(&self) -> Usage {
        Usage {
            cpu: Some(self.cpu),
            network_in: Some(self.network_in),
            network_out: Some(self.network_out),
        }
    }

    /// Takes a reading, in which a counter that is missing or has fallen says nothing: Docker shows zeros of what has
    /// just ended. Returns whether anything is new.
    pub(super) fn read(&mut self, reading: Usage) -> bool {
        let before = (self.cpu, self.network_in, self.network_out);
        self.cpu = self.cpu.max(reading.cpu.unwrap_or(0));
        self.network_in = self.network_in.max(reading.network_in.unwrap_or(0));
        self.network_out = self.network_out.max(reading.network_out.unwrap_or(0));
        before != (self.cpu, self.network_in, self.network_out)
    }
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
        let path = self.path(id);
        blocking(move || read_json(&path)).await?.map_err(engine_failed("looking at an instance"))
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
        assert!(record.read(reading(Some(5), Some(7))));
        assert!(!record.read(reading(Some(0), None)), "as of what has ended");
        assert!(record.read(reading(Some(9), Some(3))));
        let last = Usage { cpu: Some(9), network_in: Some(7), network_out: Some(0) };
        assert_eq!(record.usage(), last);
    }
}
