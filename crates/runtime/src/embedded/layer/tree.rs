//! A folder tree that hostile names are laid out in.
//!
//! Every name is resolved by the kernel as if the tree were the root of the file system, so neither a symbolic link
//! nor `..` leads out of it. Nothing is ever followed at the last part of a name.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, fsetxattr, makedev,
        mkdirat, mknodat, openat2, readlinkat, statat, unlinkat,
    },
    io::Errno,
};

use super::{LayerError, Room, shown};

/// The most folders one within another, so that removing a tree needs bounded means.
pub(super) const MAX_DEPTH: usize = 200;

const OPAQUE: &str = "trusted.overlay.opaque";

/// The root of a tree.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
}

/// The folder of an entry, and the last part of its name.
pub(super) struct Place<'a> {
    pub(super) folder: OwnedFd,
    pub(super) name: &'a OsStr,
}

impl Tree {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        Ok(Self { root: File::open(root)?.into() })
    }

    pub(super) fn root(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    /// Opens a folder; an error of [`Errno::NOENT`] or [`Errno::NOTDIR`] where it is not there, or is none.
    pub(super) fn folder(&self, path: &[&[u8]]) -> io::Result<OwnedFd> {
        if path.is_empty() {
            return self.root();
        }
        let path = path.join(&b'/');
        let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let direct = self.resolve(&path, strict | ResolveFlags::NO_SYMLINKS);
        let Err(Errno::LOOP) = direct else { return Ok(direct?) };
        let folder = self.resolve(&path, strict)?;
        // Links lead deeper than any name says.
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&folder));
        let target = readlinkat(rustix::fs::CWD, link, Vec::new())?;
        let root = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.root));
        let root = readlinkat(rustix::fs::CWD, root, Vec::new())?;
        let depth = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
        if depth(target.as_bytes()).saturating_sub(depth(root.as_bytes())) >= MAX_DEPTH {
            return Err(Errno::NAMETOOLONG.into());
        }
        Ok(folder)
    }

    fn resolve(&self, path: &[u8], how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match openat2(&self.root, path, flags, Mode::empty(), how) {
                // Something else was renamed on this machine while the name was resolved.
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }

    /// Opens a folder, and makes what is missing of it where there is room.
    pub(super) fn make_folder(
        &self,
        path: &[&[u8]],
        room: &mut Room,
    ) -> Result<OwnedFd, LayerError> {
        match self.folder(path) {
            Err(error) if is_missing(&error) => {}
            done => return Ok(done?),
        }
        for end in 1..=path.len() {
            match self.folder(&path[..end]) {
                Err(error) if is_missing(&error) => {
                    let place = Place {
                        folder: self.folder(&path[..end - 1])?,
                        name: OsStr::from_bytes(path[end - 1]),
                    };
                    room.take()?;
                    match place.stat()? {
                        None => place.add_folder()?,
                        Some(found) if is_whiteout(&found) => place.replace_whiteout()?,
                        Some(_) => {
                            let path = shown(path[..end].join(&b'/'));
                            return Err(LayerError::bad(format!(
                                "{path} is no folder, but something is in it"
                            )));
                        }
                    }
                }
                done => drop(done?),
            }
        }
        Ok(self.folder(path)?)
    }

    /// The place of an entry, whose folder is made where it is missing.
    pub(super) fn place<'a>(
        &self,
        path: &[&'a [u8]],
        room: &mut Room,
    ) -> Result<Place<'a>, LayerError> {
        let (name, folder) = path.split_last().ok_or_else(|| LayerError::bad("an empty name"))?;
        Ok(Place { folder: self.make_folder(folder, room)?, name: OsStr::from_bytes(name) })
    }

    /// The place of an entry that should be there; `None` where its folder is not.
    pub(super) fn find<'a>(&self, path: &[&'a [u8]]) -> io::Result<Option<Place<'a>>> {
        let Some((name, folder)) = path.split_last() else { return Ok(None) };
        match self.folder(folder) {
            Ok(folder) => Ok(Some(Place { folder, name: OsStr::from_bytes(name) })),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Place<'_> {
    /// What is there; a link is not followed.
    pub(super) fn stat(&self) -> io::Result<Option<Stat>> {
        match statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens what is there, which must not be a link.
    pub(super) fn open(&self, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, self.name, flags, Mode::from_raw_mode(mode))?)
    }

    /// Makes a folder where nothing is.
    pub(super) fn add_folder(&self) -> io::Result<()> {
        Ok(mkdirat(&self.folder, self.name, Mode::from_raw_mode(0o755))?)
    }

    /// Makes a folder where the layer said that something below is gone: nothing of that shows through.
    pub(super) fn replace_whiteout(&self) -> io::Result<()> {
        unlinkat(&self.folder, self.name, AtFlags::empty())?;
        self.add_folder()?;
        set_opaque(self.open(OFlags::RDONLY | OFlags::DIRECTORY, 0)?)
    }

    /// Says that what is here in lower layers is gone.
    pub(super) fn add_whiteout(&self) -> io::Result<()> {
        let none = makedev(0, 0);
        Ok(mknodat(&self.folder, self.name, FileType::CharacterDevice, Mode::empty(), none)?)
    }

    /// Removes what is there, with all that is in it.
    pub(super) fn clear(&self) -> io::Result<()> {
        remove(&self.folder, self.name, 0)
    }
}

/// Whether this is the mark of something that is gone.
pub(super) fn is_whiteout(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}

pub(super) fn is_folder(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

/// Says that nothing of lower layers shows through in this folder.
pub(super) fn set_opaque(folder: impl AsFd) -> io::Result<()> {
    Ok(fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Whether nothing of lower layers shows through in this folder.
pub(super) fn is_opaque(folder: impl AsFd) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::fgetxattr(folder, OPAQUE, &mut value[..]).is_ok_and(|length| length == 1)
        && value == *b"y"
}

fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}

fn remove(folder: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) if depth <= MAX_DEPTH => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove(&inner, OsStr::from_bytes(name), depth + 1)?;
        }
    }
    Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}
