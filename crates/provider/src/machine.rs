//! What this machine has to offer, where its operator does not say.

use std::{fs, io, path::Path, thread};

use roadstead_types::Resources;
use rustix::fs::statvfs;

/// Bytes a second in each direction: a network of one gigabit.
const NETWORK: u64 = 125_000_000;

/// What of this machine is offered by default: the processors that this process may use, half of the memory, half of what
/// is free on the disk of `folder`, and a network of one gigabit. In the units of reservations.
pub fn measure(folder: &Path) -> io::Result<Resources<u64>> {
    let cores = thread::available_parallelism()?.get();
    let disk = statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(Resources {
        cpu: u64::try_from(cores).unwrap_or(u64::MAX).saturating_mul(1_000),
        memory: memory(&fs::read_to_string("/proc/meminfo")?)? / 2,
        storage: (free >> 20) / 2,
        network_in: NETWORK,
        network_out: NETWORK,
        accelerator: 0,
    })
}

/// All memory in MiB, as `/proc/meminfo` has it.
fn memory(text: &str) -> io::Result<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|total| total.trim().strip_suffix("kB")?.trim().parse().ok());
    let kibibytes: Option<u64> = kibibytes;
    let missing = || io::Error::other("/proc/meminfo says nothing about MemTotal");
    Ok(kibibytes.ok_or_else(missing)? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_something_to_offer() {
        let found = measure(Path::new("/")).unwrap();
        assert!(found.cpu >= 1_000 && found.memory > 0 && found.network_in > 0, "{found:?}");
        assert_eq!(found.accelerator, 0);
    }

    #[test]
    fn memory_is_what_the_kernel_says() {
        let text = "MemFree:         1 kB\nMemTotal:       24685000 kB\n";
        assert_eq!(memory(text).unwrap(), 24_106);
        assert!(memory("MemTotal: much\n").is_err());
    }
}
