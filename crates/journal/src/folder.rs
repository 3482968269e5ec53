//! The locked folder and the files in it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::process::geteuid;
use zeroize::Zeroizing;

/// The most that a small file of a state folder may hold, in bytes.
const MAX_SMALL_FILE: u64 = 1 << 20;

const LOCK: &str = "lock";

/// More digits than the number of a process has.
const MAX_PID: u64 = 16;

/// A folder that belongs to this process while the value lives.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    lock: File,
}

/// Why a state folder or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process works in it.
    #[error("{} is in use by another process{}", path.display(), numbered(*pid))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process, where it has said so.
        pid: Option<u32>,
    },
    /// Others may write there, so what lies in it may not be ours.
    #[error("{} belongs to another user, or others may write to it", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// Others than its owner may read a secret, or its owner is somebody else.
    #[error("{} belongs to another user, or others may read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// More than such a file holds.
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file system said no.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError<E> {
    /// Its file cannot be read or written.
    #[error("a secret cannot be read or kept")]
    Folder(#[from] FolderError),
    /// Its file holds something else.
    #[error("`{name}` does not hold what it should")]
    Damaged {
        /// Which file.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: E,
    },
}

impl StateFolder {
    /// Opens the folder, which is made where it is missing, and locks it. It is for its owner alone: one that others may
    /// look into is closed to them, and one that they may write to is refused, for what lies in it may be theirs.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, FolderError> {
        let path = path.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(failed("create", &path))?;
        if examined(&path)?.mode() & 0o077 != 0 {
            let closed = fs::set_permissions(&path, fs::Permissions::from_mode(0o700));
            closed.map_err(failed("close to others", &path))?;
        }
        let lock_path = path.join(LOCK);
        let options =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&lock_path);
        let mut lock = options.map_err(failed("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {
                // Only for the errors of others: the lock counts without it.
                let _ = write_pid(&mut lock);
                Ok(Self { path, lock })
            }
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse { path, pid: read_pid(lock) }),
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    /// Whether [`Self::open`] would find the folder as it should be and not in use. Nothing is made, and nobody is kept out
    /// for longer than this takes.
    pub fn look(path: &Path) -> Result<(), FolderError> {
        examined(path)?;
        let lock_path = path.join(LOCK);
        let lock = match File::open(&lock_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            lock => lock.map_err(failed("open", &lock_path))?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                Err(FolderError::InUse { path: path.to_owned(), pid: read_pid(lock) })
            }
            Err(TryLockError::Error(source)) => Err(failed("lock", &lock_path)(source)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that anybody on the machine may read.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, FolderError> {
        self.write_with_mode(name, content, 0o644)
    }

    /// Writes a file for its owner's eyes alone.
    pub fn write_secret(&self, name: &str, content: &[u8]) -> Result<PathBuf, FolderError> {
        self.write_with_mode(name, content, 0o600)
    }

    /// Reads a file that [`Self::write_secret`] wrote, or `None` where there is none. A file that others can read is
    /// an error: its secret is no secret any more.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, FolderError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("open", &path)(source)),
        };
        let metadata = file.metadata().map_err(failed("examine", &path))?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(FolderError::Exposed { path });
        }
        let mut content = Zeroizing::new(Vec::new());
        let read = file.take(MAX_SMALL_FILE + 1).read_to_end(&mut content);
        if u64::try_from(read.map_err(failed("read", &path))?)
            .is_ok_and(|read| read > MAX_SMALL_FILE)
        {
            return Err(FolderError::TooLarge { path });
        }
        Ok(Some(content))
    }

    /// The secret in a file, which is made by `make` where there is none. `read` and `write` translate between the secret
    /// and the content of its file. A file that holds something else is an error, and is left as it is.
    pub fn secret_or_new<T, E>(
        &self,
        name: &'static str,
        read: impl FnOnce(&[u8]) -> Result<T, E>,
        make: impl FnOnce() -> T,
        write: impl FnOnce(&T) -> Zeroizing<Vec<u8>>,
    ) -> Result<T, SecretError<E>> {
        if let Some(content) = self.read_secret(name)? {
            return read(&content).map_err(|source| SecretError::Damaged { name, source });
        }
        let made = make();
        self.write_secret(name, &write(&made))?;
        Ok(made)
    }

    /// The path of a file that is for its owner's eyes alone and that others write. `make` writes it first where there is
    /// none. One that others can read is an error.
    pub(crate) fn private_file<E: From<FolderError>>(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.path.join(name);
        // It is not opened here: closing it would free the locks that somebody in this process has on it.
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let temporary = self.path.join(format!(".{name}.new"));
                drop(create_anew(&temporary, 0o600)?);
                make(&temporary)?;
                self.put_in_place(&temporary, &path)?;
                fs::metadata(&path)
            }
            found => found,
        };
        let metadata = metadata.map_err(failed("examine", &path))?;
        if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            return Err(FolderError::Exposed { path }.into());
        }
        Ok(path)
    }

    /// Removes every file whose name begins like this, whole or half written. Returns how many there were.
    pub(crate) fn remove_all(&self, beginning: &str) -> Result<usize, FolderError> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let path = entry.map_err(failed("list", &self.path))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.trim_start_matches('.').starts_with(beginning) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Another handle on the lock: the folder stays locked until it is gone as well.
    pub(crate) fn share_lock(&self) -> Result<File, FolderError> {
        self.lock.try_clone().map_err(failed("share the lock of", &self.path))
    }

    fn write_with_mode(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<PathBuf, FolderError> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let mut file = create_anew(&temporary, mode)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        written.map_err(failed("write", &temporary))?;
        self.put_in_place(&temporary, &path)?;
        Ok(path)
    }

    fn put_in_place(&self, temporary: &Path, path: &Path) -> Result<(), FolderError> {
        fs::rename(temporary, path).map_err(failed("replace", path))?;
        let folder = File::open(&self.path).and_then(|folder| folder.sync_all());
        folder.map_err(failed("sync", &self.path))
    }
}

/// An empty file in place of whatever a crash left there.
fn create_anew(path: &Path, mode: u32) -> Result<File, FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", path)(error));
        }
        _ => {}
    }
    let file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path);
    file.map_err(failed("create", path))
}

/// What is known of a folder that is ours alone to write to.
fn examined(path: &Path) -> Result<fs::Metadata, FolderError> {
    let metadata = fs::metadata(path).map_err(failed("examine", path))?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(FolderError::Foreign { path: path.to_owned() });
    }
    Ok(metadata)
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(std::process::id().to_string().as_bytes())
}

/// Who has said that the lock is theirs. That of a process which ended counts until the next one has written its own.
fn read_pid(lock: File) -> Option<u32> {
    let mut text = String::new();
    lock.take(MAX_PID).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

fn numbered(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" ({pid})"))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("provider");
        let folder = StateFolder::open(&path).unwrap();
        let refused = StateFolder::open(&path).unwrap_err();
        let own = std::process::id();
        assert!(matches!(refused, FolderError::InUse { pid: Some(pid), .. } if pid == own));
        assert!(refused.to_string().ends_with(&format!("is in use by another process ({own})")));
        drop(folder);
        // What lies in the file is believed for nothing else.
        fs::write(path.join(LOCK), [0xff; 64]).unwrap();
        let _folder = StateFolder::open(&path).unwrap();
        fs::write(path.join(LOCK), [0xff; 64]).unwrap();
        let refused = StateFolder::open(&path).unwrap_err();
        assert!(refused.to_string().ends_with("is in use by another process"), "{refused}");
    }

    #[test]
    fn looking_makes_nothing_and_sees_who_works() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("provider");
        assert!(matches!(StateFolder::look(&path), Err(FolderError::Io { .. })));
        assert!(!path.exists());
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        StateFolder::look(&path).unwrap();
        assert!(!path.join(LOCK).exists());
        let folder = StateFolder::open(&path).unwrap();
        assert!(matches!(StateFolder::look(&path), Err(FolderError::InUse { .. })));
        drop(folder);
        StateFolder::look(&path).unwrap();
        drop(StateFolder::open(&path).unwrap());
    }

    #[test]
    fn a_folder_that_others_look_into_is_closed_to_them() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("provider");
        drop(StateFolder::open(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        drop(StateFolder::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path().join("provider")).unwrap();
        assert!(folder.read_secret("key").unwrap().is_none());
        let path = folder.write_secret("key", b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(**folder.read_secret("key").unwrap().unwrap(), *b"secret");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.read_secret("key"), Err(FolderError::Exposed { .. })));
    }

    #[test]
    fn a_folder_that_others_write_to_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("provider");
        drop(StateFolder::open(&path).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateFolder::open(&path), Err(FolderError::Foreign { .. })));
    }

    #[test]
    fn a_file_left_by_a_crash_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        fs::write(home.path().join(".market.toml.new"), b"half of a fi").unwrap();
        let path = folder.write("market.toml", b"whole").unwrap();
        assert_eq!(fs::read(path).unwrap(), b"whole");
        assert!(!home.path().join(".market.toml.new").exists());
    }

    #[test]
    fn a_secret_is_made_once_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let number = |made: u8| {
            let read = |content: &[u8]| <[u8; 1]>::try_from(content).map(|[number]| number);
            folder.secret_or_new("key", read, || made, |number| Zeroizing::new(vec![*number]))
        };
        assert_eq!(number(7).unwrap(), 7);
        assert_eq!(number(8).unwrap(), 7);
        folder.write_secret("key", b"damaged").unwrap();
        assert!(matches!(number(9), Err(SecretError::Damaged { name: "key", .. })));
        assert_eq!(**folder.read_secret("key").unwrap().unwrap(), *b"damaged");
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        let path = folder.write_secret("key", b"").unwrap();
        OpenOptions::new().write(true).open(path).unwrap().set_len(MAX_SMALL_FILE).unwrap();
        assert!(folder.read_secret("key").unwrap().is_some());
        folder.write_secret("key", &vec![0; usize::try_from(MAX_SMALL_FILE + 1).unwrap()]).unwrap();
        assert!(matches!(folder.read_secret("key"), Err(FolderError::TooLarge { .. })));
    }
}
