//! Lays one layer out as a folder that the kernel's overlay file system understands.
//!
//! What a layer removes from those below is marked the overlay's way: a character device 0:0 in its place, and an
//! attribute on a folder that nothing shows through. Nothing of a layer is trusted. Device nodes are left out,
//! set-user-id and set-group-id are taken off, of the extended attributes only those for users stay (file
//! capabilities mean nothing to containers that can gain none).
//!
//! What is laid out is bounded by the size that the layer says it has: its contents are no more than that, its entries
//! and the folders that their names imply take a block each out of as much again and a fixed allowance, and what is
//! copied from the layers below has a bound of its own.

mod archive;
mod survey;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
        fchmod, fchown, fsetxattr, futimens, linkat, mkfifoat, symlinkat, syncfs, utimensat,
    },
    io::Errno,
};

use crate::image::shown;
use archive::{Archive, Entry, Kind};
pub(crate) use survey::Survey;
use tree::{MAX_DEPTH, Place, Tree, is_folder, is_opaque, is_whiteout, set_opaque};

/// The most entries of a layer, and folders that their names imply.
const MAX_ENTRIES: u64 = 1 << 20;

/// What an entry or a folder counts for, in bytes. An entry of a tar may have an eighth of that, and a name of a few
/// hundred bytes implies a hundred folders.
const BLOCK: u64 = 4_096;

/// What entries and folders may take beyond the size of their layer, in bytes: for those with many small files.
const ALLOWANCE: u64 = 256 << 20;

/// The longest name of an entry, in bytes, as everywhere on Linux.
const MAX_PATH: usize = 4_096;

/// The most bytes of names that are remembered to give folders their time of modification in the end.
const MAX_REMEMBERED: usize = 64 << 20;

/// The most bytes that a layer takes from files below it, by links to them. What builds images today never does.
const MAX_COPIED: u64 = 1 << 30;

/// Why a layer was not laid out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// It is no layer, or one that asks for what it must not.
    #[error("a layer cannot be used: {reason}")]
    Bad {
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be read, or the machine said no.
    #[error("the layer cannot be laid out")]
    Io(#[source] io::Error),
}

/// What the kernel says about an operation on names of the layer.
impl From<Errno> for LayerError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Likewise. What the names themselves bring about comes again however often it is tried, unlike what a full or
/// broken disk does.
impl From<io::Error> for LayerError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(
                Errno::LOOP
                | Errno::MLINK
                | Errno::INVAL
                | Errno::NAMETOOLONG
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NOENT
                | Errno::EXIST
                | Errno::NOTEMPTY,
            ) => Self::bad(format!("no file system can hold it: {error}")),
            _ => Self::reading(error),
        }
    }
}

impl LayerError {
    /// An error of reading the layer, or of writing what was read: the layer's fault only where that says so.
    pub(crate) fn reading(error: io::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(Self::Io)
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::Bad { reason: reason.into() }
    }

    fn truncated() -> Self {
        Self::bad("it ends early")
    }
}

/// What came of laying a layer out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Laid {
    /// Whether files were copied from the layers below, so that it means something only on top of these.
    pub(crate) took_from_below: bool,
}

/// Lays the tar of `size` bytes that `layer` reads out in the folder `root`, which is there and empty, and syncs it.
/// `below` are the layers under it, the lowest first. Reads `layer` to its very end. What is in `root` after an error
/// is worth nothing.
pub(crate) fn lay_out(
    layer: impl Read,
    size: u64,
    root: &Path,
    below: &[PathBuf],
) -> Result<Laid, LayerError> {
    let mut layout = Layout {
        tree: Tree::open(root).map_err(LayerError::Io)?,
        room: Room::of(size),
        below,
        times: Vec::new(),
        remembered: 0,
        copied: 0,
        took_from_below: false,
    };
    let mut archive = Archive::new(layer);
    while let Some(entry) = archive.next()? {
        layout.room.take()?;
        layout.add(&entry, &mut archive)?;
    }
    layout.set_times()?;
    io::copy(&mut archive.into_rest(), &mut io::sink()).map_err(LayerError::reading)?;
    syncfs(layout.tree.root()?).map_err(|error| LayerError::Io(error.into()))?;
    Ok(Laid { took_from_below: layout.took_from_below })
}

/// What a layer may still make.
struct Room {
    entries: u64,
    bytes: u64,
}

impl Room {
    /// That of a layer of `size` bytes.
    const fn of(size: u64) -> Self {
        Self { entries: MAX_ENTRIES, bytes: size.saturating_add(ALLOWANCE) }
    }

    /// Takes what one more entry or folder needs.
    fn take(&mut self) -> Result<(), LayerError> {
        let left = self.entries.checked_sub(1).zip(self.bytes.checked_sub(BLOCK));
        (self.entries, self.bytes) =
            left.ok_or_else(|| LayerError::bad("too many entries and folders for its size"))?;
        Ok(())
    }
}

struct Layout<'a> {
    tree: Tree,
    room: Room,
    below: &'a [PathBuf],
    /// Folders with their times, set last: whatever is added to a folder changes its time.
    times: Vec<(Vec<u8>, u64)>,
    remembered: usize,
    copied: u64,
    took_from_below: bool,
}

impl Layout<'_> {
    fn add(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), LayerError> {
        let path = parts(&entry.path)?;
        let Some((name, folder)) = path.split_last() else { return self.set_root(entry) };
        if let Some(gone) = name.strip_prefix(b".wh.") {
            return self.remove(gone, folder);
        }
        let place = self.tree.place(&path, &mut self.room)?;
        match entry.kind {
            Kind::Folder => self.add_folder(entry, &place)?,
            Kind::File => {
                place.clear()?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let mut file = File::from(place.open(flags, 0o600)?);
                io::copy(content, &mut file).map_err(LayerError::reading)?;
                set_attributes(&file.into(), entry, 0o1777)?;
            }
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() >= MAX_PATH {
                    return Err(LayerError::bad("a symbolic link to nothing"));
                }
                place.clear()?;
                symlinkat(&entry.link[..], &place.folder, place.name)?;
                set_owner_and_time(&place, entry)?;
            }
            Kind::HardLink => self.add_link(&path, &parts(&entry.link)?, &place)?,
            Kind::Fifo => {
                place.clear()?;
                let mode = Mode::from_raw_mode(entry.mode & 0o777);
                mkfifoat(&place.folder, place.name, mode)?;
                set_owner_and_time(&place, entry)?;
            }
            Kind::Device | Kind::Other => {}
        }
        Ok(())
    }

    fn set_root(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Folder {
            return Err(LayerError::bad("an entry without a name"));
        }
        set_attributes(&self.tree.root()?, entry, 0o3777)?;
        self.remember(entry);
        Ok(())
    }

    fn add_folder(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        match place.stat()? {
            Some(found) if is_folder(&found) => {}
            Some(found) if is_whiteout(&found) => place.replace_whiteout()?,
            found => {
                if found.is_some() {
                    place.clear()?;
                }
                place.add_folder()?;
            }
        }
        set_attributes(&place.open(OFlags::RDONLY | OFlags::DIRECTORY, 0)?, entry, 0o3777)?;
        self.remember(entry);
        Ok(())
    }

    /// Marks what is gone. That is about the layers below alone: what this layer itself has there stays, in
    /// whichever order the entries come.
    fn remove(&mut self, gone: &[u8], folder: &[&[u8]]) -> Result<(), LayerError> {
        if gone == b".wh..opq" {
            set_opaque(self.tree.make_folder(folder, &mut self.room)?)?;
            return Ok(());
        }
        if gone.starts_with(b".wh.") {
            // What the file system AUFS keeps for itself.
            return Ok(());
        }
        if matches!(gone, b"" | b"." | b"..") {
            return Err(LayerError::bad("a mark that removes no name"));
        }
        let path: Vec<&[u8]> = folder.iter().copied().chain([gone]).collect();
        let place = self.tree.place(&path, &mut self.room)?;
        match place.stat()? {
            None => place.add_whiteout()?,
            Some(found) if is_folder(&found) => {
                set_opaque(place.open(OFlags::RDONLY | OFlags::DIRECTORY, 0)?)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn add_link(
        &mut self,
        path: &[&[u8]],
        target: &[&[u8]],
        place: &Place<'_>,
    ) -> Result<(), LayerError> {
        if path == target {
            return Ok(());
        }
        let name = || shown(target.join(&b'/'));
        if let Some(origin) = self.tree.find(target)?
            && let Some(found) = origin.stat()?
        {
            if is_folder(&found) || is_whiteout(&found) {
                return Err(LayerError::bad(format!(
                    "a hard link to {}, which is no file",
                    name()
                )));
            }
            if same_file(&found, place.stat()?.as_ref()) {
                return Ok(());
            }
            place.clear()?;
            // The target may have been in what was just replaced.
            return match linkat(
                &origin.folder,
                origin.name,
                &place.folder,
                place.name,
                AtFlags::empty(),
            ) {
                Err(Errno::NOENT) => {
                    Err(LayerError::bad(format!("a hard link to {}, which it replaces", name())))
                }
                linked => Ok(linked?),
            };
        }
        let Some(file) = find_below(self.below, target)? else {
            return Err(LayerError::bad(format!("a hard link to {}, which is not there", name())));
        };
        self.took_from_below = true;
        let origin = self.tree.place(target, &mut self.room)?;
        self.room.take()?;
        self.copied = self.copied.saturating_add(copy(&file, &origin, MAX_COPIED - self.copied)?);
        place.clear()?;
        Ok(linkat(&origin.folder, origin.name, &place.folder, place.name, AtFlags::empty())?)
    }

    fn remember(&mut self, entry: &Entry) {
        self.remembered = self.remembered.saturating_add(entry.path.len());
        if self.remembered <= MAX_REMEMBERED {
            self.times.push((entry.path.clone(), entry.modified));
        }
    }

    fn set_times(&mut self) -> Result<(), LayerError> {
        for (path, modified) in std::mem::take(&mut self.times) {
            // A later entry may have replaced it.
            if let Ok(folder) = self.tree.folder(&parts(&path)?) {
                futimens(folder, &times(modified))?;
            }
        }
        Ok(())
    }
}

/// The parts of a name, without those that mean nothing. A leading slash means nothing, as for every engine.
fn parts(path: &[u8]) -> Result<Vec<&[u8]>, LayerError> {
    if path.len() >= MAX_PATH || path.contains(&0) {
        return Err(LayerError::bad(format!("the name {} cannot be used", shown(path))));
    }
    let parts: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(LayerError::bad(format!("the name {} leads out of it", shown(path))));
    }
    if parts.len() > MAX_DEPTH || parts.iter().any(|part| part.len() > 255) {
        return Err(LayerError::bad(format!("the name {} is too long", shown(path))));
    }
    Ok(parts)
}

/// The regular file that shows through at `path` in the layers, the lowest first.
fn find_below(layers: &[PathBuf], path: &[&[u8]]) -> Result<Option<File>, LayerError> {
    for layer in layers.iter().rev() {
        let tree = Tree::open(layer).map_err(LayerError::Io)?;
        for end in 1..=path.len() {
            let Some(place) = tree.find(&path[..end])? else { break };
            let Some(found) = place.stat()? else { break };
            if is_whiteout(&found) {
                return Ok(None);
            }
            if end == path.len() {
                let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
                return is_file.then(|| Ok(place.open(OFlags::RDONLY, 0)?.into())).transpose();
            }
        }
        for end in 0..path.len() {
            if tree.folder(&path[..end]).is_ok_and(is_opaque) {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Copies a file of at most `max` bytes with its owner and mode. Returns its length.
fn copy(file: &File, place: &Place<'_>, max: u64) -> Result<u64, LayerError> {
    let origin = rustix::fs::fstat(file)?;
    let length = u64::try_from(origin.st_size).unwrap_or(u64::MAX);
    if length > max {
        return Err(LayerError::bad("it links to more than 1 GiB of files below it"));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut copy = File::from(place.open(flags, 0o600)?);
    io::copy(&mut file.take(length), &mut copy).map_err(LayerError::reading)?;
    let (user, group) = (Uid::from_raw(origin.st_uid), Gid::from_raw(origin.st_gid));
    fchown(&copy, Some(user), Some(group))?;
    fchmod(&copy, Mode::from_raw_mode(origin.st_mode & 0o1777))?;
    Ok(length)
}

fn same_file(one: &rustix::fs::Stat, other: Option<&rustix::fs::Stat>) -> bool {
    other.is_some_and(|other| (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Gives a file or folder what its entry says; of the mode only the bits of `mask`.
fn set_attributes(file: &OwnedFd, entry: &Entry, mask: u32) -> Result<(), LayerError> {
    let (user, group) = owner(entry)?;
    fchown(file, Some(user), Some(group))?;
    fchmod(file, Mode::from_raw_mode(entry.mode & mask))?;
    let of_users = entry.attributes.iter().filter(|(name, _)| name.starts_with(b"user."));
    for (name, value) in of_users {
        match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            // A file system without them, or with less room for them, is no reason not to run.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    futimens(file, &times(entry.modified))?;
    Ok(())
}

fn set_owner_and_time(place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
    let (user, group) = owner(entry)?;
    chownat(&place.folder, place.name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    let times = times(entry.modified);
    utimensat(&place.folder, place.name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn owner(entry: &Entry) -> Result<(Uid, Gid), LayerError> {
    // The largest number means "leave as it is" to the kernel.
    let id = |number: u64| u32::try_from(number).ok().filter(|number| *number != u32::MAX);
    match (id(entry.user), id(entry.group)) {
        (Some(user), Some(group)) => Ok((Uid::from_raw(user), Gid::from_raw(group))),
        _ => Err(LayerError::bad("an owner that no system has")),
    }
}

fn times(modified: u64) -> Timestamps {
    let seconds = i64::try_from(modified).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
