//! The root file system of a container: its layers with a bounded folder in memory on top.
//!
//! Everything is mounted in a mount namespace of the shim, so it is gone when the shim and the container are. What the
//! container writes lies in a file system in memory whose size is the storage limit; its pages count as memory of the
//! container's control group, whose limit is therefore memory and storage together.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{OpenOptionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, unlinkat,
    },
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};

use super::{ShimError, io_failed};
use crate::{
    embedded::{order::Order, sys},
    files::{failed, read_all},
};

/// The shim's own files: the container's specification and the library's state.
const PRIVATE_SIZE: u64 = 48 << 20;

/// The most bytes of a file of the image that the shim itself reads.
const MAX_READ: u64 = 1 << 20;

/// Where the container's root is mounted, as its specification says.
const ROOT: &str = "rootfs";

/// A container's root while it is being made.
pub(super) struct Root {
    bundle: PathBuf,
    folder: OwnedFd,
}

impl Root {
    /// Leaves the mounts of the machine and mounts the root of `order` below `private`.
    pub(super) fn mount(private: &Path, order: &Order) -> Result<Self, ShimError> {
        sys::unshare(UnshareFlags::NEWNS).map_err(io_failed("make a mount namespace"))?;
        separate_mounts()?;
        mount_private(private)?;
        // The container can read the names that a mount was made with, and one page must hold those of all layers. So
        // they are short, and tell nothing of the machine.
        std::env::set_current_dir(private).map_err(failed("enter", private))?;
        let [writable, upper, work] =
            ["writable", "writable/upper", "writable/work"].map(Path::new);
        let create = |path: &Path| fs::create_dir(path).map_err(failed("create", path));
        for folder in [writable, Path::new(ROOT), Path::new("l")] {
            create(folder)?;
        }
        mount_memory(writable, order.storage)?;
        create(upper)?;
        create(work)?;
        let mut layers = Vec::with_capacity(order.layers.len());
        for (index, layer) in order.layers.iter().enumerate() {
            let link = format!("l/{index}");
            symlink(layer, &link).map_err(failed("link", layer))?;
            layers.push(link);
        }
        mount_overlay(&layers, upper, work, Path::new(ROOT))?;
        std::env::set_current_dir("/").map_err(io_failed("leave the folder"))?;
        let root = private.join(ROOT);
        let folder = File::open(&root).map_err(failed("open", &root))?.into();
        Ok(Self { bundle: private.to_owned(), folder })
    }

    /// The content of a file of the image; `None` where it is none. Links are followed as the container would.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, ShimError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match self.resolve(path, flags) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(io_failed("open a file of the image")(error)),
        };
        let found = fstat(&file).map_err(io_failed("examine a file of the image"))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        read_all(File::from(file), MAX_READ)
            .map(Some)
            .map_err(|error| ShimError::cannot_start(format!("{path} of the image: {error}")))
    }

    /// Makes a folder and those above it where they are missing.
    pub(super) fn make_folder(&self, path: &str) -> Result<OwnedFd, ShimError> {
        let refused = |error: Errno| {
            let error = io::Error::from(error);
            ShimError::cannot_start(format!("the folder {path} cannot be used: {error}"))
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut folder = self.folder.try_clone().map_err(io_failed("open the root"))?;
        let mut prefix = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            prefix = format!("{prefix}/{part}");
            let found = match self.resolve(&prefix, flags) {
                Err(Errno::NOENT) => {
                    mkdirat(&folder, part, Mode::from_raw_mode(0o755)).map_err(refused)?;
                    self.resolve(&prefix, flags)
                }
                found => found,
            };
            folder = found.map_err(refused)?;
        }
        Ok(folder)
    }

    /// Puts a small file in the place of whatever the image has there; a folder there stays.
    pub(super) fn replace(&self, folder: &str, name: &str, content: &str) -> Result<(), ShimError> {
        const WRITE: &str = "write a file into the container";
        let parent = self.make_folder(folder)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Ok(()),
            Err(error) => return Err(io_failed(WRITE)(error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::from_raw_mode(0o644));
        let file = file.map_err(io_failed(WRITE))?;
        File::from(file).write_all(content.as_bytes()).map_err(io_failed(WRITE))
    }

    /// Refuses an image that has something else than a folder where the library mounts. It goes by plain paths before
    /// the root is the root, so a link would lead to the machine's files.
    pub(super) fn check_mount_points(&self, points: [&str; 6]) -> Result<(), ShimError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for point in points {
            match self.resolve_with(point, flags, ResolveFlags::NO_SYMLINKS) {
                Ok(_) | Err(Errno::NOENT) => {}
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let reason = format!("{point} of the image, or what is above, is no folder");
                    return Err(ShimError::cannot_start(reason));
                }
                Err(error) => return Err(io_failed("examine a folder of the image")(error)),
            }
        }
        Ok(())
    }

    /// Closes what is open of the root. Returns the folder of the shim's own files, in which it is mounted.
    pub(super) fn close(self) -> PathBuf {
        self.bundle
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.resolve_with(path, flags, ResolveFlags::NO_MAGICLINKS)
    }

    fn resolve_with(&self, path: &str, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let how = how | ResolveFlags::IN_ROOT;
        loop {
            match openat2(&self.folder, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
    }
}

/// Lets nothing that is mounted in this process's namespace be seen outside, while what is unmounted outside goes here,
/// too: it would stay in use otherwise.
pub(super) fn separate_mounts() -> Result<(), ShimError> {
    let all = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", all).map_err(io_failed("separate the mounts"))
}

/// Mounts an empty file system in memory of `size` bytes, for root alone.
pub(super) fn mount_memory(target: &Path, size: u64) -> Result<(), ShimError> {
    mount_memory_with(target, size, "").map_err(io_failed("mount a file system in memory"))
}

/// Mounts the file system for the shim's own files, which hold secrets, so they are not swapped out where the kernel
/// knows how; that is since 6.4.
fn mount_private(target: &Path) -> Result<(), ShimError> {
    match mount_memory_with(target, PRIVATE_SIZE, ",noswap") {
        Err(Errno::INVAL) => mount_memory(target, PRIVATE_SIZE),
        done => done.map_err(io_failed("mount a file system in memory")),
    }
}

fn mount_memory_with(target: &Path, size: u64, more: &str) -> Result<(), Errno> {
    // A file of no length takes memory, too.
    let files = (size >> 12).max(1_024);
    let options = CString::new(format!("size={size},nr_inodes={files},mode=0700{more}"))
        .map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("roadstead", target, "tmpfs", flags, options.as_c_str())
}

/// Mounts `layers`, the lowest first, with `upper` on top. Their names hold no comma and no colon.
pub(super) fn mount_overlay(
    layers: &[String],
    upper: &Path,
    work: &Path,
    target: &Path,
) -> Result<(), ShimError> {
    let lower: Vec<_> = layers.iter().rev().map(String::as_str).collect();
    let (lower, upper, work) = (lower.join(":"), upper.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("roadstead", target, "overlay", flags, text(&options)?.as_c_str())
        .map_err(io_failed("mount an overlay"))
}

fn text(options: &str) -> Result<CString, ShimError> {
    CString::new(options).map_err(io_failed("name the options of a mount"))
}

/// Writes a file of the shim, whose folder lies in memory.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<(), ShimError> {
    let file = File::options().create_new(true).write(true).mode(0o600).open(path);
    let mut file = file.map_err(failed("create", path))?;
    Ok(file.write_all(content).map_err(failed("write", path))?)
}

/// All lines of a small file.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = String> + '_ {
    content.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned())
}
