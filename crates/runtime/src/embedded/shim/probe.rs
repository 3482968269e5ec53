//! Tries what a container needs, so that a machine that lacks it is refused with a name and not at the first start.
//!
//! Everything is made in namespaces of this process alone, so it is gone with it.

use std::{fs, path::Path};

use rustix::thread::UnshareFlags;

use super::{ShimError, io_failed, root, seccomp::Filters};
use crate::embedded::{control_group::Hierarchies, sys};

const NAMESPACES: [(UnshareFlags, &str); 6] = [
    (UnshareFlags::NEWNS, "make a mount namespace"),
    (UnshareFlags::NEWPID, "make a process namespace"),
    (UnshareFlags::NEWNET, "make a network namespace"),
    (UnshareFlags::NEWIPC, "make an IPC namespace"),
    (UnshareFlags::NEWUTS, "make a host name namespace"),
    (UnshareFlags::NEWCGROUP, "make a control group namespace"),
];

/// Tries everything, with `folder` as a mount point.
pub(super) fn run(folder: &Path) -> Result<(), ShimError> {
    let missing = Hierarchies::read()?.missing();
    if !missing.is_empty() {
        let names = missing.join(", ");
        return Err(ShimError::cannot_start(format!(
            "the kernel offers no control groups for {names} at /sys/fs/cgroup"
        )));
    }
    for (namespace, operation) in NAMESPACES {
        sys::unshare(namespace).map_err(io_failed(operation))?;
    }
    root::separate_mounts()?;
    root::mount_memory(folder, 1 << 20)?;
    std::env::set_current_dir(folder).map_err(io_failed("enter a folder in memory"))?;
    for name in ["lower", "upper", "work", "root"] {
        fs::create_dir(name).map_err(io_failed("create a folder in memory"))?;
    }
    let [upper, work, root] = ["upper", "work", "root"].map(Path::new);
    root::mount_overlay(&["lower".to_owned()], upper, work, root)?;
    Filters::compile()?.apply()?;
    Ok(())
}
