//! Small files that appear whole or not at all, and are read with a bound.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// The most that a small file may hold, in bytes. The largest is an image's configuration.
pub(crate) const MAX_FILE: u64 = 8 << 20;

/// Why a file or folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub(crate) struct FileError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    /// Whether the content is at fault, and not the machine: reading it again will not help.
    pub(crate) fn is_damage(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, InvalidData, UnexpectedEof};
        matches!(self.source.kind(), FileTooLarge | InvalidData | UnexpectedEof)
    }

    pub(crate) fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.to_owned(), source: source.into() }
    }
}

/// Turns an error of `operation` on `path` into a [`FileError`].
pub(crate) fn failed<E: Into<io::Error>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> FileError {
    let path = path.to_owned();
    move |source| FileError { operation, path, source: source.into() }
}

/// Makes a folder for its owner alone, and those above it. Not an error where it is there.
pub(crate) fn make_folder(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(failed("create", path))
}

/// Replaces `path` by a file with the JSON form of `value`, durably.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let content = serde_json::to_vec(value).map_err(io::Error::other);
    let content = content.map_err(failed("write", path))?;
    let temporary = path.with_extension("new");
    let file =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary);
    let mut file = file.map_err(failed("create", &temporary))?;
    let written = file.write_all(&content).and_then(|()| file.sync_all());
    written.map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// Makes durable what a folder lists.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// What [`write_json`] wrote, or `None` where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let Some(content) = read_bounded(path, MAX_FILE)? else { return Ok(None) };
    let value = serde_json::from_slice(&content).map_err(io::Error::from);
    value.map(Some).map_err(failed("understand", path))
}

/// The content of a file of at most `max` bytes, or `None` where there is no such file.
pub(crate) fn read_bounded(path: &Path, max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FileError::new("open", path, source)),
    };
    read_all(file, max).map(Some).map_err(failed("read", path))
}

/// All of `source`, which must not have more than `max` bytes.
pub(crate) fn read_all(source: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = source.take(max.saturating_add(1)).read_to_end(&mut content)?;
    if u64::try_from(read).is_ok_and(|read| read <= max) {
        Ok(content)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {max} bytes")))
    }
}

/// Removes a folder with all that is in it. Not an error where there is none.
pub(crate) fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// The names in a folder, sorted; none where there is no such folder.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let read = || {
        let entries = fs::read_dir(path)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<Vec<_>>>()
    };
    match read() {
        Ok(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(FileError::new("list", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_is_read_with_a_bound() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("value.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        fs::write(path.with_extension("new"), b"half of a longer fi").unwrap();
        write_json(&path, &7_u32).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(7));
        assert!(!path.with_extension("new").exists());
        assert!(read_bounded(&path, 1).is_ok());
        write_json(&path, &70_u32).unwrap();
        assert!(read_bounded(&path, 1).is_err());
    }

    #[test]
    fn what_is_not_there_is_removed_and_listed_as_nothing() {
        let home = tempfile::tempdir().unwrap();
        remove_folder(&home.path().join("nothing")).unwrap();
        assert!(names(&home.path().join("nothing")).unwrap().is_empty());
        fs::write(home.path().join("file"), b"").unwrap();
        assert!(names(&home.path().join("file")).is_err());
    }
}
