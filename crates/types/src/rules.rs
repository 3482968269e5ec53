//! What a value of a workload must look like: bounds, and rules that are pure functions over one value.

use std::ops::RangeInclusive;

/// Thousandths of a core: a hundredth of a core to 1024 cores.
pub(crate) const CPU: RangeInclusive<u64> = 10..=1_024_000;
/// MiB of memory, up to 16 TiB.
pub(crate) const MEMORY: RangeInclusive<u64> = 4..=16 << 20;
/// MiB of storage, up to 1 PiB.
pub(crate) const STORAGE: RangeInclusive<u64> = 1..=1 << 30;
/// Bytes a second in one direction, up to 128 GiB.
pub(crate) const NETWORK: RangeInclusive<u64> = 1..=128 << 30;
/// Processes and threads.
pub(crate) const PIDS: RangeInclusive<u64> = 1..=32_768;
/// Seconds between the request to stop and the kill.
pub(crate) const GRACE: RangeInclusive<u32> = 0..=300;
/// TCP ports.
pub(crate) const PORT: RangeInclusive<u64> = 1..=65_535;

/// The most ports of a container.
pub(crate) const MAX_PORTS: usize = 16;
/// The most words of a command, and of its arguments.
pub(crate) const MAX_WORDS: usize = 256;
/// The longest word of a command and the longest value of a variable, in bytes. Linux takes 128 KiB.
pub(crate) const MAX_WORD: usize = 32 << 10;
/// The most environment variables.
pub(crate) const MAX_VARIABLES: usize = 256;
/// The most bytes of all names and values of an environment together.
pub(crate) const MAX_ENVIRONMENT: usize = 64 << 10;
/// The longest path, in bytes, as in Linux.
pub(crate) const MAX_PATH: usize = 4095;
/// The longest name of an environment variable, of a user or of a group, in bytes.
const MAX_NAME: usize = 256;
/// The longest DNS label, in bytes (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS label in lower case (RFC 1123, section 2.1).
pub(crate) fn label(text: &str) -> Result<(), String> {
    let within = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(within)
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {MAX_LABEL} characters of a-z, 0-9 and `-`, and neither begin nor end with `-`"
    ))
}

/// The name of an environment variable.
pub(crate) fn variable(name: &str) -> Result<(), String> {
    let within = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(within)
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if fits {
        return Ok(());
    }
    Err(format!(
        "is no name for a variable: 1 to {MAX_NAME} characters of A-Z, a-z, 0-9 and `_`, not a digit first"
    ))
}

/// A text that a program can be given: no NUL, at most `max` bytes.
pub(crate) fn word(text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("is {} bytes long; the most is {max}", text.len()));
    }
    if text.contains('\0') {
        return Err("must not hold a NUL character".into());
    }
    Ok(())
}

/// A path.
pub(crate) fn path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    word(text, MAX_PATH)
}

/// An absolute path.
pub(crate) fn absolute(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("must be an absolute path: it begins with `/`".into());
    }
    path(text)
}

/// `user`, `uid`, `user:group` or `uid:gid`.
pub(crate) fn user(text: &str) -> Result<(), String> {
    let mut parts = text.split(':');
    let user = parts.next().is_some_and(is_account);
    let group = parts.next().is_none_or(is_account);
    if user && group && parts.next().is_none() {
        return Ok(());
    }
    Err("must be `user`, `uid`, `user:group` or `uid:gid`; an id is at most 4294967294".into())
}

/// An id, or a name as in `/etc/passwd`: no blank, no colon, nothing that a path could be.
fn is_account(text: &str) -> bool {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number stands for "leave it as it is" in the system calls.
        return text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
    }
    let within = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(within)
        && !text.starts_with(['-', '.'])
}
