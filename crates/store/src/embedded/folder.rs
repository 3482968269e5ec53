//! The files of the embedded store.
//!
//! ```text
//! blocks/<first byte of the digest>/<content id>    a block
//! pins/<content id>                                 an empty file: the graph under this block is kept
//! new/<number>                                      a file that is being written
//! ```
//!
//! A file is written in `new` and then renamed, so what has a name has all its bytes, as long as the machine runs. After
//! a power cut a block that no sync reached may have any bytes; its hash tells.

use std::{
    error::Error,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use roadstead_core::ports::ContentError;
use roadstead_types::{Cid, content::MAX_BLOCK};

use crate::block::{BlockId, unavailable};

/// What makes files last. Tests have one that fails.
pub(super) trait Disk: fmt::Debug + Send + Sync {
    /// Waits until everything that was written to the file system of `folder` is on the disk. What could not be written
    /// is reported once.
    fn sync_all(&self, folder: &File) -> io::Result<()>;

    /// Waits until the file or folder at `path` is on the disk, without what is in the folder.
    fn sync(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug)]
pub(super) struct SystemDisk;

/// Paths and file operations; what may happen when is decided above.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    disk: Box<dyn Disk>,
    /// Kept open from the start: a sync reports what could not be written since then.
    blocks: File,
    written: AtomicU64,
}

/// A written file without its name yet. What was not renamed is removed when this is dropped.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
}

impl Folder {
    /// Makes the folders that are missing, and removes what a crash left half written.
    pub(super) fn open(path: PathBuf, disk: Box<dyn Disk>) -> Result<Self, ContentError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for name in ["pins", "new"] {
            builder.create(path.join(name)).map_err(failed("create", &path))?;
        }
        for shard in 0..=u8::MAX {
            builder.create(shard_path(&path, shard)).map_err(failed("create", &path))?;
        }
        let new = path.join("new");
        for entry in fs::read_dir(&new).map_err(failed("list", &new))? {
            let left = entry.map_err(failed("list", &new))?.path();
            fs::remove_file(&left).map_err(failed("remove", &left))?;
        }
        let blocks = path.join("blocks");
        let blocks = File::open(&blocks).map_err(failed("open", &blocks))?;
        Ok(Self { path, disk, blocks, written: AtomicU64::new(0) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes under this name, at most one more than a block has.
    pub(super) fn read(&self, id: BlockId) -> Result<Option<Vec<u8>>, ContentError> {
        read_block(&self.path, id)
    }

    pub(super) fn exists(&self, id: BlockId) -> Result<bool, ContentError> {
        let path = self.block(id);
        path.try_exists().map_err(failed("examine", &path))
    }

    /// Writes bytes that are to be named later.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<NewFile, ContentError> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join("new").join(number.to_string());
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path);
        let mut file = file.map_err(failed("create", &path))?;
        let new = NewFile { path };
        file.write_all(bytes).map_err(failed("write", &new.path))?;
        Ok(new)
    }

    /// Gives a written block its name, in place of what has it.
    pub(super) fn name(&self, new: NewFile, id: BlockId) -> Result<(), ContentError> {
        let path = self.block(id);
        fs::rename(&new.path, &path).map_err(failed("replace", &path))
    }

    /// Removes a block, if it is there.
    pub(super) fn remove(&self, id: BlockId) -> Result<(), ContentError> {
        remove(&self.block(id))
    }

    /// Waits until every block that has its name is on the disk.
    pub(super) fn sync(&self) -> Result<(), ContentError> {
        self.disk.sync_all(&self.blocks).map_err(failed("sync", &self.path))
    }

    /// The blocks whose digests begin with this byte. Whatever else lies there is left alone.
    pub(super) fn list(&self, shard: u8) -> Result<Vec<BlockId>, ContentError> {
        names(&shard_path(&self.path, shard))
    }

    /// Records a pin, durably.
    pub(super) fn pin(&self, root: BlockId) -> Result<(), ContentError> {
        let new = self.write(&[])?;
        let path = self.pin_path(root);
        self.disk.sync(&new.path).map_err(failed("sync", &new.path))?;
        fs::rename(&new.path, &path).map_err(failed("replace", &path))?;
        self.sync_pins()
    }

    /// Removes a pin, durably.
    pub(super) fn unpin(&self, root: BlockId) -> Result<(), ContentError> {
        remove(&self.pin_path(root))?;
        self.sync_pins()
    }

    pub(super) fn pins(&self) -> Result<Vec<BlockId>, ContentError> {
        names(&self.path.join("pins"))
    }

    fn sync_pins(&self) -> Result<(), ContentError> {
        let path = self.path.join("pins");
        self.disk.sync(&path).map_err(failed("sync", &path))
    }

    fn pin_path(&self, root: BlockId) -> PathBuf {
        self.path.join("pins").join(root.cid().to_string())
    }

    fn block(&self, id: BlockId) -> PathBuf {
        block_path(&self.path, id)
    }
}

impl Disk for SystemDisk {
    fn sync_all(&self, folder: &File) -> io::Result<()> {
        Ok(rustix::fs::syncfs(folder)?)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a file stays until the store is opened again");
        }
    }
}

/// The bytes under this name in the store at `path`, at most one more than a block has.
pub(super) fn read_block(path: &Path, id: BlockId) -> Result<Option<Vec<u8>>, ContentError> {
    let path = block_path(path, id);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", &path)(error)),
    };
    let size = file.metadata().map_err(failed("examine", &path))?.len();
    let most = MAX_BLOCK + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(most).min(most));
    let limit = u64::try_from(most).expect("the size of a block fits into 64 bits");
    file.take(limit).read_to_end(&mut bytes).map_err(failed("read", &path))?;
    Ok(Some(bytes))
}

fn block_path(path: &Path, id: BlockId) -> PathBuf {
    shard_path(path, id.digest[0]).join(id.cid().to_string())
}

fn shard_path(path: &Path, shard: u8) -> PathBuf {
    path.join("blocks").join(format!("{shard:02x}"))
}

/// The blocks that the names in a folder stand for.
fn names(path: &Path) -> Result<Vec<BlockId>, ContentError> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?;
        match entry.file_name().to_str().and_then(id_of_name) {
            Some(id) => ids.push(id),
            None => tracing::warn!(path = %entry.path().display(), "this is no file of a store"),
        }
    }
    Ok(ids)
}

/// An id has many spellings, and a file one name.
fn id_of_name(name: &str) -> Option<BlockId> {
    let id = BlockId::of(&Cid::try_from(name).ok()?).ok()?;
    (id.cid().to_string() == name).then_some(id)
}

fn remove(path: &Path) -> Result<(), ContentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The error for a file operation that failed.
pub(super) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> ContentError {
    let place = path.display().to_string();
    move |error| unavailable(&place, operation, error)
}
