//! What a container is kept from, whichever engine runs it.

use rustix::process::{Resource, getrlimit};

/// Length of the span in which the CPU limit holds, in microseconds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// The least CPU time in a span that the kernel takes.
const MIN_CPU_QUOTA: u64 = 1_000;

/// What the kernel counts per user and not per container, so it is little: root of the container is root of the
/// machine. Bytes in message queues, signals that wait, and bytes that are locked in memory.
pub(crate) const MAX_MESSAGES: u64 = 256 << 10;
pub(crate) const MAX_SIGNALS: u64 = 1_024;
pub(crate) const MAX_LOCKED: u64 = 64 << 10;

/// Open files of a process, at most and unless it asks for more.
const MAX_FILES: u64 = 1 << 20;
const SOFT_FILES: u64 = 1 << 16;

/// What would tell too much of the machine.
pub(crate) const MASKED: [&str; 18] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/fs/cgroup",
];

/// What may be read, but not changed.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// CPU time in each span, in microseconds, for so many thousandths of a core.
pub(crate) fn cpu_quota(thousandths: u64) -> u64 {
    (thousandths.saturating_mul(CPU_PERIOD) / 1_000).max(MIN_CPU_QUOTA)
}

/// How many files a process may have open unless it asks for more, and at most.
pub(crate) fn open_files() -> (u64, u64) {
    // Even root cannot give more than the machine allows.
    let most = getrlimit(Resource::Nofile).maximum.map_or(MAX_FILES, |most| most.min(MAX_FILES));
    (most.min(SOFT_FILES), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_what_the_kernel_takes() {
        assert_eq!(cpu_quota(250), 25_000);
        assert_eq!(cpu_quota(1), MIN_CPU_QUOTA);
        assert_eq!(cpu_quota(u64::MAX), u64::MAX / 1_000);
    }
}
