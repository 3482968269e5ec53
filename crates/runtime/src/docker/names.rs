//! The files that tell a container its own name.
//!
//! ```text
//! names/ID/hosts, hostname, resolv.conf    written before a container is made, removed before its record
//! ```
//!
//! Docker's own could be written by the container, without any bound. A crash leaves files whose instance is not known;
//! they go when the engine opens.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use roadstead_core::ports::EngineError;
use roadstead_types::InstanceId;

use crate::{
    files::{FileError, failed, make_folder, names, remove_folder},
    work::{blocking, engine_failed},
};

/// Each file, and where it lies in the container.
pub(super) const NAME_FILES: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// The files of all instances.
#[derive(Clone, Debug)]
pub(super) struct NameFiles {
    folder: PathBuf,
}

impl NameFiles {
    /// Those in the engine's folder, which is absolute. Blocks.
    pub(super) fn open(folder: &Path) -> Result<Self, FileError> {
        let folder = folder.join("names");
        make_folder(&folder)?;
        Ok(Self { folder })
    }

    pub(super) async fn list(&self) -> Result<Vec<InstanceId>, EngineError> {
        let folder = self.folder.clone();
        let names = blocking(move || names(&folder)).await?;
        let names = names.map_err(engine_failed("listing the files of containers"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes the files of an instance whose container has this name. Returns their folder.
    pub(super) async fn write(&self, id: &InstanceId, name: &str) -> Result<PathBuf, EngineError> {
        let (folder, name) = (self.folder.join(id.to_string()), name.to_owned());
        let written = blocking(move || write(&folder, &name).map(|()| folder)).await?;
        written.map_err(engine_failed("writing the files of a container"))
    }

    /// Not an error where there are none.
    pub(super) async fn remove(&self, id: &InstanceId) -> Result<(), EngineError> {
        let folder = self.folder.join(id.to_string());
        let removed = blocking(move || remove_folder(&folder)).await?;
        removed.map_err(engine_failed("removing the files of a container"))
    }
}

fn write(folder: &Path, name: &str) -> Result<(), FileError> {
    make_folder(folder)?;
    let texts = [
        format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost {name}\n"),
        format!("{name}\n"),
        // A missing file would mean a name server at the loopback address.
        "# This container reaches no name server.\n".to_owned(),
    ];
    for ((file, _), text) in NAME_FILES.into_iter().zip(texts) {
        let path = folder.join(file);
        fs::write(&path, text).map_err(failed("write", &path))?;
        // Every user of the container reads it, whatever the engine's own files are for others.
        let everybody = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&path, everybody).map_err(failed("share", &path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy_primitives::B256;
    use roadstead_types::JobId;

    use super::*;

    #[tokio::test]
    async fn files_are_there_for_everybody_until_they_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let files = NameFiles::open(home.path()).unwrap();
        let id = InstanceId::first(JobId(B256::ZERO));
        files.remove(&id).await.unwrap();
        files.write(&id, "old").await.unwrap();
        let folder = files.write(&id, "web").await.unwrap();
        let hosts = fs::read_to_string(folder.join("hosts")).unwrap();
        assert!(hosts.contains("localhost web") && !hosts.contains("old"), "{hosts}");
        for (file, _) in NAME_FILES {
            let mode = fs::metadata(folder.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644, "{file}");
        }
        assert_eq!(files.list().await.unwrap(), [id]);
        files.remove(&id).await.unwrap();
        assert!(files.list().await.unwrap().is_empty());
    }
}
