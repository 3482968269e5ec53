//! What is asked of an engine, checked before anything is done.

use roadstead_core::ports::{EngineError, InstanceSpec, Network};
use roadstead_types::{Container, ImageKey};

/// The most ports of a container.
const MAX_PORTS: usize = 64;

/// The most of each resource that is asked of the kernel: a thousand cores, 16 TiB, as many processes as it has.
const MAX_CPU: u64 = 1_000_000;
const MAX_MIB: u64 = 1 << 24;
const MAX_PIDS: u32 = 1 << 22;

/// Checks what can be checked without the image.
pub(crate) fn check(spec: &InstanceSpec) -> Result<(&ImageKey, &Container), EngineError> {
    let cannot = |what: &str| EngineError::Unsupported { what: what.to_owned() };
    let [(key, container)] = &spec.containers[..] else {
        return Err(cannot("run an instance of other than one container"));
    };
    let Network::Isolated = spec.network;
    let limits = spec.limits;
    let fits = |value: u64, most: u64| (1..=most).contains(&value);
    let all = [(limits.cpu, MAX_CPU), (limits.memory, MAX_MIB), (limits.storage, MAX_MIB)];
    let pids = fits(u64::from(limits.pids), u64::from(MAX_PIDS));
    if !pids || !all.iter().all(|(value, most)| fits(*value, *most)) {
        return Err(cannot("hold an instance to such limits"));
    }
    if container.ports.len() > MAX_PORTS || container.ports.contains(&0) {
        return Err(cannot("forward such ports"));
    }
    let name = container.name.as_bytes();
    let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if name.is_empty() || name.len() > 63 || !name.iter().all(plain) {
        return Err(cannot("call a container by a name that is no DNS label"));
    }
    Ok((key, container))
}
