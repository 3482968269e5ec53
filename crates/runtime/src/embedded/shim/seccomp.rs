//! Which system calls a container may make.
//!
//! An allow list with the content of Docker's default profile for a container without capabilities, less what looks
//! into other processes. A call that is not in it fails with `EPERM`. The flags of `clone3` lie in memory where no
//! filter sees them, so that call does not exist for a container, and C libraries go on with `clone`. Neither does
//! `io_setup`: what it takes is counted for the whole machine alone. Calls of another architecture's numbering kill the
//! process.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID` and `NEWNET`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// Linux, Linux with short addresses, with 32-bit names, with both, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// Sockets within the machine, IPv4, IPv6 and netlink.
const SOCKET_FAMILIES: [u64; 4] = [1, 2, 10, 16];

/// Calls that look as if the kernel had none of them.
const ABSENT: [i64; 2] = [libc::SYS_clone3, libc::SYS_io_setup];

/// Sockets within the machine.
const PAIR_FAMILIES: [u64; 1] = [1];

/// Requests to terminals that put words into the mouth of whoever else uses them.
const REFUSED_REQUESTS: [u64; 2] = [0x5412, 0x541c];

/// Calls of every architecture, whatever their arguments.
const CALLS: [i64; 240] = [
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_adjtimex,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fanotify_mark,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_mremap,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_prlimit64,
    libc::SYS_process_mrelease,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_remap_file_pages,
    libc::SYS_removexattr,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setrlimit,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Calls that newer architectures do without.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: [i64; 39] = [
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_get_thread_area,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_set_thread_area,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: [i64; 0] = [];

/// Compiled filters.
#[derive(Clone)]
pub(super) struct Filters {
    allowed: BpfProgram,
    absent: BpfProgram,
}

impl Filters {
    /// Compiles the filters for this machine.
    pub(super) fn compile() -> Result<Self, seccompiler::Error> {
        let arch: TargetArch = std::env::consts::ARCH.try_into()?;
        let plain = CALLS.into_iter().chain(OLD_CALLS).map(|call| (call, Vec::new()));
        let allowed = SeccompFilter::new(
            plain.chain(with_rules()?).collect(),
            SeccompAction::Errno(errno(libc::EPERM)),
            SeccompAction::Allow,
            arch,
        )?;
        let absent = SeccompFilter::new(
            ABSENT.map(|call| (call, Vec::new())).into(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno(libc::ENOSYS)),
            arch,
        )?;
        Ok(Self { allowed: allowed.try_into()?, absent: absent.try_into()? })
    }

    /// Holds this process and all that it becomes to the filters.
    pub(super) fn apply(&self) -> Result<(), seccompiler::Error> {
        apply_filter(&self.absent)?;
        apply_filter(&self.allowed)
    }
}

/// Calls that are allowed with some arguments only; each of the rules of a call allows it.
fn with_rules() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::Error> {
    let one_of = |argument: u8, values: &[u64]| {
        let rule = |value: &u64| rule(&[(argument, SeccompCmpOp::Eq, *value)]);
        values.iter().map(rule).collect::<Result<Vec<_>, _>>()
    };
    let no_namespaces = rule(&[(0, SeccompCmpOp::MaskedEq(NEW_NAMESPACES), 0)])?;
    let request = REFUSED_REQUESTS.map(|request| (1, SeccompCmpOp::Ne, request));
    let mut rules = vec![
        (libc::SYS_clone, vec![no_namespaces]),
        (libc::SYS_ioctl, vec![rule(&request)?]),
        (libc::SYS_personality, one_of(0, &PERSONALITIES)?),
        (libc::SYS_socket, one_of(0, &SOCKET_FAMILIES)?),
        (libc::SYS_socketpair, one_of(0, &PAIR_FAMILIES)?),
    ];
    // The other filter answers.
    rules.extend(ABSENT.map(|call| (call, Vec::new())));
    Ok(rules)
}

fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::Error> {
    let condition = |(argument, comparison, value): &(u8, SeccompCmpOp, u64)| {
        // The kernel looks at the lower half of these arguments alone.
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, comparison.clone(), *value)
    };
    let conditions = conditions.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

const fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io, net::UdpSocket, os::unix::net::UnixStream, thread};

    use rustix::{
        io::Errno,
        net::{AddressFamily, SocketType, socket},
        thread::UnshareFlags,
    };

    use super::*;
    use crate::embedded::sys;

    /// What `attempt` says in a thread that the filters hold.
    fn filtered<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
        let filters = Filters::compile().unwrap();
        let thread = thread::spawn(move || {
            filters.apply().unwrap();
            attempt()
        });
        thread.join().unwrap()
    }

    #[test]
    fn ordinary_work_goes_on() {
        let done = filtered(|| {
            UdpSocket::bind(("127.0.0.1", 0))?;
            let status = std::process::Command::new("true").status()?;
            io::Result::Ok((status.success(), thread::spawn(|| 7).join().unwrap()))
        });
        assert_eq!(done.unwrap(), (true, 7));
    }

    #[test]
    fn namespaces_and_mounts_are_refused() {
        let refused = filtered(|| {
            let namespace = sys::unshare(UnshareFlags::NEWNET).unwrap_err();
            let mount = rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty());
            (namespace.raw_os_error(), mount)
        });
        assert_eq!(refused, (Some(libc::EPERM), Err(Errno::PERM)));
    }

    #[test]
    fn only_some_kinds_of_socket_can_be_made() {
        let tried = filtered(|| {
            let try_one = |family| socket(family, SocketType::DGRAM, None).map(drop);
            [
                AddressFamily::UNIX,
                AddressFamily::INET6,
                AddressFamily::VSOCK,
                AddressFamily::from_raw(38),
            ]
            .map(try_one)
        });
        assert_eq!(tried[0], Ok(()));
        assert_ne!(tried[1], Err(Errno::PERM), "a machine may have no IPv6");
        assert_eq!(tried[2..], [Err(Errno::PERM), Err(Errno::PERM)]);
    }

    /// The error of a call with these first arguments, which no kernel lets succeed.
    #[expect(unsafe_code, reason = "the library offers no calls that cannot succeed")]
    fn error_of(call: i64, arguments: [u64; 2]) -> Option<i32> {
        // SAFETY: none of the calls that the tests make gets as far as to use memory.
        let done = unsafe { libc::syscall(call, arguments[0], arguments[1], 0, 0, 0) };
        (done < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// Above what the kernel looks at.
    const HIGH: u64 = 1 << 32;

    #[test]
    fn a_new_namespace_comes_with_no_process() {
        // Together they make no sense to any kernel, so nothing is cloned where the filter fails.
        let flags = (libc::CLONE_NEWUSER | libc::CLONE_FS).unsigned_abs().into();
        for flags in [flags, flags | HIGH] {
            let error = filtered(move || error_of(libc::SYS_clone, [flags, 0]));
            assert_eq!(error, Some(libc::EPERM), "{flags:#x}");
        }
    }

    #[test]
    fn nothing_is_put_into_a_terminal() {
        let nowhere = u64::MAX;
        for request in REFUSED_REQUESTS.into_iter().flat_map(|number| [number, number | HIGH]) {
            let error = filtered(move || error_of(libc::SYS_ioctl, [nowhere, request]));
            assert_eq!(error, Some(libc::EPERM), "{request:#x}");
        }
        let other = filtered(move || error_of(libc::SYS_ioctl, [nowhere, 0x5413]));
        assert_eq!(other, Some(libc::EBADF), "the size of a terminal");
    }

    #[test]
    fn only_some_personalities_can_be_had() {
        let no_random_addresses = 0x0004_0000;
        let error = filtered(move || error_of(libc::SYS_personality, [no_random_addresses, 0]));
        assert_eq!(error, Some(libc::EPERM));
        assert_eq!(filtered(|| error_of(libc::SYS_personality, [0xffff_ffff, 0])), None);
    }

    #[test]
    fn some_calls_are_as_if_they_were_not_there() {
        for call in ABSENT {
            assert_eq!(filtered(move || error_of(call, [0, 0])), Some(libc::ENOSYS), "{call}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn calls_with_short_addresses_are_refused() {
        let short = 0x4000_0000;
        for call in [libc::SYS_getpid, libc::SYS_clone, libc::SYS_ioctl] {
            let error = filtered(move || error_of(short | call, [u64::MAX, u64::MAX]));
            assert_eq!(error, Some(libc::EPERM), "{call}");
        }
    }

    #[test]
    fn pairs_of_sockets_are_of_the_machine_only() {
        assert!(filtered(UnixStream::pair).is_ok());
        let vsock = 40;
        let error = filtered(move || error_of(libc::SYS_socketpair, [vsock, 1]));
        assert_eq!(error, Some(libc::EPERM));
    }

    #[test]
    fn what_reaches_beyond_a_container_is_not_in_the_list() {
        let listed: BTreeSet<_> = CALLS.into_iter().chain(OLD_CALLS).collect();
        assert_eq!(listed.len(), CALLS.len() + OLD_CALLS.len(), "each once");
        for call in [
            libc::SYS_add_key,
            libc::SYS_bpf,
            libc::SYS_chroot,
            libc::SYS_delete_module,
            libc::SYS_fsopen,
            libc::SYS_init_module,
            libc::SYS_io_uring_setup,
            libc::SYS_kexec_load,
            libc::SYS_keyctl,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_by_handle_at,
            libc::SYS_perf_event_open,
            libc::SYS_pivot_root,
            libc::SYS_process_vm_readv,
            libc::SYS_ptrace,
            libc::SYS_reboot,
            libc::SYS_request_key,
            libc::SYS_setns,
            libc::SYS_swapon,
            libc::SYS_umount2,
            libc::SYS_unshare,
            libc::SYS_userfaultfd,
        ] {
            assert!(!listed.contains(&call), "{call}");
        }
    }
}
