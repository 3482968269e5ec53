//! How Docker's answers that are errors are read.
//!
//! Their texts repeat what an image or a container says, so none goes on as it came.

use bollard::errors::Error;
use roadstead_core::ports::EngineError;

use crate::{image::escaped, work::engine_failed};

/// The most characters of what Docker says that an error repeats.
const MAX_SAID: usize = 2_000;

/// The status of an answer that is an error.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an answer that is an error says.
pub(super) fn said(error: &Error) -> Option<&str> {
    match error {
        Error::DockerResponseServerError { message, .. } => Some(message),
        Error::DockerStreamError { error } => Some(error),
        _ => None,
    }
}

/// Turns an error of `operation` into an [`EngineError`] after which trying again may help.
pub(super) fn docker_failed(operation: &'static str) -> impl FnOnce(Error) -> EngineError {
    move |error| match said(&error) {
        Some(said) => engine_failed(operation)(escaped(said, MAX_SAID)),
        None => engine_failed(operation)(error),
    }
}

/// Whether what was asked about is not there, or about to go.
pub(super) fn is_absent(error: &Error) -> bool {
    status(error) == Some(404) || is_going(error)
}

/// Whether what was asked about is about to go.
pub(super) fn is_going(error: &Error) -> bool {
    status(error) == Some(409)
        && said(error).is_some_and(|said| said.contains("already in progress"))
}

/// Whether Docker says that its storage cannot be bounded.
pub(super) fn refuses_bound(error: &Error) -> bool {
    says(error, &["storage-opt is supported only for", "storage-opt is not supported"])
}

/// Whether Docker may not raise a limit above its own.
pub(super) fn refuses_limit(error: &Error) -> bool {
    says(error, &["error setting rlimit"])
}

/// The error of a container that never starts like this; `None` where the machine may be at fault.
pub(super) fn refusal(error: &Error) -> Option<EngineError> {
    // What the runtime says of a program and once it is in the container, by its name for that in each version; what a
    // kernel does to a container with too little memory to begin; and what Docker says of users.
    const OF_CONTAINERS: [&str; 7] = [
        "exec: ",
        "error during container init",
        "container init caused",
        "container init was OOM-killed",
        "unable to find user",
        "unable to find group",
        "no matching entries in",
    ];
    const OF_THE_MACHINE: [&str; 8] = [
        "bind source path does not exist",
        "cannot allocate memory",
        "device or resource busy",
        "error setting rlimit",
        "input/output error",
        "no space left",
        "resource temporarily unavailable",
        "too many open files",
    ];
    let said = said(error)?;
    let refuses = status(error) == Some(400) || says(error, &OF_CONTAINERS);
    let refuses = refuses && !says(error, &OF_THE_MACHINE);
    refuses.then(|| EngineError::CannotStart { reason: escaped(said, MAX_SAID) })
}

fn says(error: &Error, texts: &[&str]) -> bool {
    said(error).is_some_and(|said| texts.iter().any(|text| said.contains(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    fn reason(error: &Error) -> Option<String> {
        match refusal(error) {
            Some(EngineError::CannotStart { reason }) => Some(reason),
            _ => None,
        }
    }

    #[test]
    fn what_a_container_is_at_fault_for_is_told_from_what_the_machine_is() {
        let missing = "exec: \"x\": executable file not found in $PATH: unknown";
        assert_eq!(reason(&answer(400, missing)).unwrap(), missing);
        let runtime =
            "OCI runtime create failed: runc create failed: unable to start container process";
        for fault in [
            "unable to find user x: no matching entries",
            &format!("{runtime}: {missing}"),
            &format!("{runtime}: error during container init: mkdir /proc/x: no such file"),
            &format!("{runtime}: container init was OOM-killed (memory limit too low?)"),
        ] {
            assert!(reason(&answer(500, fault)).is_some(), "{fault}");
        }
        for fault in [
            "no space left on device",
            &format!("{runtime}: fork/exec /proc/self/exe: resource temporarily unavailable"),
            &format!("{runtime}: unable to apply cgroup configuration: no such device"),
            &format!("{runtime}: error during container init: mkdir /etc: no space left on device"),
            &format!("{runtime}: error during container init: mount: cannot allocate memory"),
            &format!("{runtime}: error during container init: error setting rlimit type 7"),
        ] {
            assert!(reason(&answer(500, fault)).is_none(), "{fault}");
        }
        assert!(reason(&answer(400, "bind source path does not exist: /x")).is_none());
        assert!(reason(&Error::RequestTimeoutError).is_none());
    }

    #[test]
    fn what_docker_repeats_of_an_image_is_escaped_and_cut() {
        let hostile = "exec: \"\u{1b}[2Jx\n\u{202e}\"";
        let shown = "exec: \"\\u{1b}[2Jx\\n\\u{202e}\"";
        assert_eq!(reason(&answer(400, hostile)).unwrap(), shown);
        let long = answer(500, &"unable to find user \n".repeat(1_000));
        assert_eq!(reason(&long).unwrap().chars().count(), MAX_SAID);
        let EngineError::Failed { source, .. } = docker_failed("x")(answer(500, hostile)) else {
            panic!("nothing else");
        };
        assert_eq!(source.to_string(), shown);
    }

    #[test]
    fn what_is_going_is_told_from_what_is_gone() {
        assert!(is_absent(&answer(404, "no such container")));
        assert!(!is_going(&answer(404, "no such container")));
        let going = answer(409, "removal of container x is already in progress");
        assert!(is_absent(&going) && is_going(&going));
        assert!(!is_absent(&answer(409, "container x is paused")));
    }

    #[test]
    fn only_the_refusal_of_any_bound_is_one() {
        let never =
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
        assert!(refuses_bound(&answer(500, never)));
        let too_small = "invalid storage-opt size: smaller than the image";
        assert!(!refuses_bound(&answer(500, too_small)));
    }
}
