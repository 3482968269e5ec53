//! Keeps containers from writing to this program.
//!
//! Until it starts its program, a container's first process runs this one, and what runs then can be made the image's
//! own code: the program may be `/proc/self/exe`, or a script that names it, and its libraries are those of the image.
//! That code can keep a descriptor on the file that it was started from, and write to it once nobody runs it any more.
//! So a shim is started again from the same file on a mount that nobody can write through, or where the kernel has no
//! such mounts, before 5.12, from a sealed copy in memory.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use rustix::{
    fs::{CWD, MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};

use super::{ARGUMENT as SHIM, ShimError, Task, io_failed};
use crate::embedded::sys;

/// The argument of a shim that was started again.
pub(super) const ARGUMENT: &str = "protected";

/// This program.
const OWN: &str = "/proc/self/exe";

/// Starts this process again from a file that cannot be written. Returns only where that fails.
pub(super) fn start_again(task: Task, folder: &OsStr) -> ShimError {
    let program = match read_only().or_else(|_| sealed()) {
        Ok(program) => program,
        Err(error) => return io_failed("protect the program from containers")(error),
    };
    // Whoever started the engine may have let it ignore the end of a child.
    sys::reset_signals();
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.arg0("roadstead").args([SHIM, task.name()]).arg(folder).arg(ARGUMENT);
    io_failed("start again")(command.exec())
}

fn read_only() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, OWN, flags)?;
    sys::make_read_only(&program)?;
    Ok(program)
}

fn sealed() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Older kernels know no files in memory that cannot be executed.
    let copy = match memfd_create("roadstead", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("roadstead", flags)?,
        copy => copy?,
    };
    let mut copy = File::from(copy);
    io::copy(&mut File::open(OWN)?, &mut copy)?;
    fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{StatVfsMountFlags, fstatvfs};

    use super::*;

    #[test]
    fn nobody_writes_through_the_mount() {
        let program = read_only().expect("it needs root and Linux 5.12");
        assert!(fstatvfs(&program).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY));
    }

    #[test]
    fn a_copy_is_whole_starts_and_stays_as_it_is() {
        let copy = File::from(sealed().unwrap());
        assert_eq!(copy.metadata().unwrap().len(), std::fs::metadata(OWN).unwrap().len());
        assert!(copy.write_at(b"x", 0).is_err() && copy.set_len(0).is_err());
        let path = format!("/proc/{}/fd/{}", std::process::id(), copy.as_raw_fd());
        let listed = Command::new(path).args(["--list", "protect"]).output().unwrap();
        assert!(listed.status.success());
    }
}
