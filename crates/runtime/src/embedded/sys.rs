//! The calls that cannot be had without unsafe code.

#![expect(unsafe_code, reason = "the kernel's interfaces that the library offers no safe form of")]

use std::{
    io,
    ops::RangeInclusive,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    ioctl::{Opcode, Updater, ioctl, opcode},
    process::Signal,
    thread::{UnshareFlags, unshare_unsafe},
};

/// The real-time signals that the C library leaves to programs.
pub(crate) const REAL_TIME: RangeInclusive<i32> = 34..=64;

/// The real-time signal with this number.
pub(crate) fn real_time_signal(number: i32) -> Option<Signal> {
    // SAFETY: it is a signal of Linux, and none that the C library keeps for itself.
    REAL_TIME.contains(&number).then(|| unsafe { Signal::from_raw_unchecked(number) })
}

/// Leaves the namespaces of this process for new ones.
///
/// # Panics
///
/// Where `flags` asks for a table of file descriptors of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared");
    // SAFETY: only a table of descriptors of its own could make a descriptor mean something else.
    Ok(unsafe { unshare_unsafe(flags) }?)
}

/// Gives this process all signals as they are by default. Those that are ignored or blocked stay so over the start of a
/// program, and who started this process may have done either to any.
pub(crate) fn reset_signals() {
    // Handler, flags, restorer and mask: zeros mean the default.
    let default = [0_u64; 4];
    for number in 1..=*REAL_TIME.end() {
        // SAFETY: the kernel reads no more than `default` holds and writes nothing. No handler is called afterwards,
        // so none can be called in vain. Two of the signals have no other action, which is no harm.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::c_long::from(number),
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            );
        }
    }
    let none = 0_u64;
    // SAFETY: the kernel reads no more than `none` holds and writes nothing.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::c_long::from(libc::SIG_SETMASK),
            &raw const none,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        );
    }
}

/// Closes every descriptor of this process but the standard ones and `kept`, whoever made them. To be called by a
/// process that does nothing more with any of them.
pub(crate) fn close_others(kept: impl AsFd) -> io::Result<()> {
    let kept = kept.as_fd().as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept - 1), (kept.max(2) + 1, u32::MAX)] {
        // SAFETY: the call reads and writes no memory.
        let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        // A range that ends before it begins has nothing in it.
        if first <= last && done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets nobody write through the mount that `mount` stands for, whatever the file system allows elsewhere.
pub(crate) fn make_read_only(mount: impl AsFd) -> io::Result<()> {
    // SAFETY: zeros are no attribute, no propagation and no namespace.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = libc::MOUNT_ATTR_RDONLY;
    // SAFETY: the path is empty and ends in a zero, and the kernel reads no more than `attributes` holds.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct pidfd_info` of the kernel in its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    control_group: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xff, 11);

/// In `mask`: the exit code is wanted, and is there.
const EXIT: u64 = 1 << 3;

/// How a process ended that `handle` was opened on while it ran and that somebody has waited for since, as `wait`
/// tells it. `None` before, and with kernels before 6.15.
pub(crate) fn exit_code(handle: impl AsFd) -> Option<i32> {
    let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
    // SAFETY: the opcode is made for this structure, which the kernel fills within its size.
    let asked = unsafe { ioctl(handle, Updater::<GET_INFO, PidfdInfo>::new(&mut info)) };
    (asked.is_ok() && info.mask & EXIT != 0).then_some(info.exit_code)
}

/// The status of a raw one, as a shell has it: 128 + signal where a signal ended the process.
pub(crate) const fn shell_status(raw: i32) -> i32 {
    match raw & 0x7f {
        0 => (raw >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    #[test]
    fn a_handle_knows_how_its_process_ended_where_the_kernel_can_tell() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let number = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
        let handle = pidfd_open(number, PidfdFlags::empty()).unwrap();
        child.wait().unwrap();
        let version = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
        let tells = (parts.next().unwrap(), parts.next().unwrap()) >= (6, 15);
        assert_eq!(exit_code(&handle).map(shell_status), tells.then_some(7));
    }

    #[test]
    fn statuses_are_a_shells() {
        assert_eq!(shell_status(0x0700), 7);
        assert_eq!(shell_status(9), 137);
        assert_eq!(shell_status(0x86), 134, "with a memory dump");
    }

    #[test]
    fn signals_of_the_library_are_not_used() {
        assert!(real_time_signal(33).is_none());
        assert!(real_time_signal(65).is_none());
        assert_eq!(real_time_signal(37).unwrap().as_raw(), 37);
    }
}
