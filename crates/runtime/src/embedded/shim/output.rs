//! What a container writes to its standard output and error: a pipe, copied into files that do not grow for ever.
//!
//! The pipe is held open for reading and writing by the container itself, so it never ends and never breaks while a
//! shim is missing; the container then waits once the pipe is full.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchmod, fchown, mkfifoat};

use super::ShimError;
use crate::{
    embedded::run::RunFolder,
    files::{FileError, failed},
};

/// The most bytes of one file; there are two.
const MAX_FILE: u64 = 1 << 20;

/// The most bytes that are copied before something else has its turn.
pub(super) const MAX_COPY: usize = 64 << 10;

/// Makes the pipe of an instance for the use of one user in the container.
pub(super) fn make(folder: &RunFolder, user: u32, group: u32) -> Result<(), ShimError> {
    let path = folder.output();
    mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).map_err(failed("create", &path))?;
    let pipe = open(folder)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    fchown(&pipe, Some(user), Some(group)).map_err(failed("give away", &path))?;
    // Whoever the container becomes opens it again as /dev/stdout. Nobody else reaches the folder.
    fchmod(&pipe, Mode::from_raw_mode(0o666)).map_err(failed("open up", &path))?;
    Ok(())
}

/// Opens the pipe such that it has a reader and a writer, and reading it does not wait.
pub(super) fn open(folder: &RunFolder) -> Result<File, FileError> {
    open_with(folder, OFlags::NONBLOCK)
}

/// Opens the pipe for the container.
pub(super) fn open_for_container(folder: &RunFolder) -> Result<File, FileError> {
    open_with(folder, OFlags::empty())
}

fn open_with(folder: &RunFolder, flags: OFlags) -> Result<File, FileError> {
    let path = folder.output();
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let pipe = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path);
    pipe.map_err(failed("open", &path))
}

/// The two files that hold the newest output.
#[derive(Debug)]
pub(super) struct Log {
    current: PathBuf,
    previous: PathBuf,
    file: File,
    length: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// Goes on where the files in `folder` end.
    pub(super) fn open(folder: &Path) -> Result<Self, FileError> {
        let (current, previous) = paths(folder);
        let file = append(&current)?;
        let length = file.metadata().map_err(failed("examine", &current))?.len();
        Ok(Self { current, previous, file, length, buffer: vec![0; MAX_COPY] })
    }

    /// Copies what is in the pipe, at most [`MAX_COPY`] bytes. Returns how many there were.
    pub(super) fn copy(&mut self, mut pipe: impl Read) -> Result<usize, FileError> {
        let read = match pipe.read(&mut self.buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(source) => return Err(FileError::new("read", &self.current, source)),
        };
        if self.length >= MAX_FILE {
            fs::rename(&self.current, &self.previous).map_err(failed("rename", &self.current))?;
            self.file = append(&self.current)?;
            self.length = 0;
        }
        self.file.write_all(&self.buffer[..read]).map_err(failed("write", &self.current))?;
        self.length = self.length.saturating_add(read as u64);
        Ok(read)
    }
}

fn append(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(failed("open", path))
}

fn paths(folder: &Path) -> (PathBuf, PathBuf) {
    (folder.join("log"), folder.join("log.1"))
}

/// The newest bytes, at most `max`, that a [`Log`] in `folder` holds.
pub(crate) fn newest(folder: &Path, max: usize) -> Result<Vec<u8>, FileError> {
    let (current, previous) = paths(folder);
    let mut parts = Vec::new();
    let (mut left, mut seen) = (max as u64, None);
    for path in [current, previous] {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(FileError::new("open", &path, source)),
        };
        let metadata = file.metadata().map_err(failed("examine", &path))?;
        // The current file may have become the previous one since it was opened.
        if seen.replace(metadata.ino()) == Some(metadata.ino()) {
            continue;
        }
        let length = metadata.len().min(left);
        let mut part = Vec::new();
        let read = file
            .seek(SeekFrom::Start(metadata.len() - length))
            .and_then(|_| file.take(length).read_to_end(&mut part));
        read.map_err(failed("read", &path))?;
        left -= part.len() as u64;
        parts.push(part);
    }
    parts.reverse();
    Ok(parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_bytes_are_kept_and_the_oldest_are_not() {
        let home = tempfile::tempdir().unwrap();
        assert!(newest(home.path(), 10).unwrap().is_empty());
        let mut log = Log::open(home.path()).unwrap();
        let mut written = Vec::new();
        for number in 0..60_u8 {
            let piece = vec![number; MAX_COPY];
            assert_eq!(log.copy(&piece[..]).unwrap(), MAX_COPY);
            written.extend(piece);
        }
        let kept: u64 = ["log", "log.1"]
            .iter()
            .map(|name| fs::metadata(home.path().join(name)).unwrap().len())
            .sum();
        assert!(kept <= 2 * (MAX_FILE + MAX_COPY as u64), "{kept}");
        for max in [0, 1, 100_000, MAX_COPY * 20] {
            assert_eq!(newest(home.path(), max).unwrap(), written[written.len() - max..], "{max}");
        }
        assert_eq!(newest(home.path(), usize::MAX).unwrap().len() as u64, kept);
    }

    #[test]
    fn another_process_goes_on_where_one_was_killed() {
        let home = tempfile::tempdir().unwrap();
        Log::open(home.path()).unwrap().copy(&b"one "[..]).unwrap();
        Log::open(home.path()).unwrap().copy(&b"two"[..]).unwrap();
        assert_eq!(newest(home.path(), 100).unwrap(), b"one two");
    }

    #[test]
    fn a_pipe_without_anything_in_it_does_not_wait() {
        let home = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(home.path().to_owned());
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        make(&folder, user.as_raw(), group.as_raw()).unwrap();
        let pipe = open(&folder).unwrap();
        let mut log = Log::open(home.path()).unwrap();
        assert_eq!(log.copy(&pipe).unwrap(), 0);
        open_for_container(&folder).unwrap().write_all(b"said").unwrap();
        assert_eq!(log.copy(&pipe).unwrap(), 4);
        assert_eq!(newest(home.path(), 100).unwrap(), b"said");
    }
}
