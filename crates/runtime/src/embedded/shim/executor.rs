//! The last steps of a process before it becomes the container's program.

use std::{
    io::Write,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
    sync::Arc,
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};

use super::seccomp::Filters;
use crate::embedded::sys;

/// Starts a program under the filters. A program that does not start says why in a pipe that is closed where it does.
#[derive(Clone)]
pub(super) struct Launcher {
    filters: Filters,
    refusal: Arc<OwnedFd>,
}

impl Launcher {
    /// `refusal` must be closed on exec.
    pub(super) fn new(filters: Filters, refusal: OwnedFd) -> Self {
        Self { filters, refusal: Arc::new(refusal) }
    }

    fn refuse(&self, reason: String) -> ExecutorError {
        if let Ok(pipe) = self.refusal.try_clone() {
            // Nobody listens only where the shim is dead, and then nobody asks.
            let _ = std::fs::File::from(pipe).write_all(reason.as_bytes());
        }
        ExecutorError::Other(reason)
    }
}

impl Executor for Launcher {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let args = process.args().as_deref().unwrap_or_default();
        let (program, args) = args.split_first().ok_or(ExecutorError::InvalidArg)?;
        let env = process.env().as_deref().unwrap_or_default();
        sys::reset_signals();
        // A descriptor that is only closed on exec can still be named by the path of a program or of a folder, and one
        // of a folder leads out of the root. What this process inherited goes, too.
        if let Err(error) = sys::close_others(&*self.refusal) {
            return Err(self.refuse(format!("descriptors cannot be closed: {error}")));
        }
        // The kernel itself says so where the folder is not below the root; the C library would look for a name.
        match rustix::process::getcwd(Vec::new()) {
            Ok(folder) if folder.as_bytes().starts_with(b"/") => {}
            _ => return Err(self.refuse("its working folder is not in its root".to_owned())),
        }
        if let Err(error) = self.filters.apply() {
            return Err(self.refuse(format!("no filter of system calls: {error}")));
        }
        let mut command = Command::new(program);
        command.args(args).env_clear();
        command.envs(env.iter().filter_map(|line| line.split_once('=')));
        let error = command.exec();
        Err(self.refuse(format!("{program}: {error}")))
    }

    /// Nothing to say yet: whether a program starts is known once it was tried.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// Nothing to do: the program is given its environment, and this process keeps the one it has.
    fn setup_envs(
        &self,
        _env: std::collections::HashMap<String, String>,
    ) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
