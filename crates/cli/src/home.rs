//! The folder for everything that is kept: a locked subfolder for each role, and the file of settings.
//!
//! ```text
//! roadstead.toml   settings          devnet/     a local market: its files, its content store
//! provider/        a provider        publisher/  a publisher's keys, plans, transactions, blocks
//! agent/           who accepts the publisher's bills
//! ```

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use roadstead_journal::{FolderError, StateFolder};
use tempfile::TempDir;

use crate::output::Progress;

/// How long a folder in use is waited for, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// Who has a subfolder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Devnet,
    Provider,
    Publisher,
    Agent,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Devnet => "devnet",
            Self::Provider => "provider",
            Self::Publisher => "publisher",
            Self::Agent => "agent",
        }
    }
}

/// The folder for everything that is kept.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
}

impl Home {
    /// The user's choice, else the place for data by the XDG rules. Nothing is made yet.
    pub(crate) fn find(chosen: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = chosen
            .or_else(|| Some(dirs::data_dir()?.join("roadstead")))
            .context("there is no home folder; name one by --home or ROADSTEAD_HOME")?;
        let path = std::path::absolute(&path);
        Ok(Self { path: path.context("the home folder cannot be used")? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn settings_file(&self) -> PathBuf {
        self.path.join("roadstead.toml")
    }

    /// Where a role keeps what it has. It may not be there yet.
    pub(crate) fn role_path(&self, role: Role) -> PathBuf {
        self.path.join(role.name())
    }

    /// Locks the subfolder of a role, which is made where it is missing, for this process. A command that only looks has it
    /// for a moment, so one that is in use is waited for.
    pub(crate) fn lock(&self, role: Role) -> Result<StateFolder, FolderError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match StateFolder::open(self.role_path(role)) {
                Err(FolderError::InUse { .. }) if Instant::now() < end => thread::sleep(PAUSE),
                opened => return opened,
            }
        }
    }

    /// An empty folder for one run of the demonstration.
    pub(crate) fn demo_folder(&self) -> anyhow::Result<DemoFolder> {
        let is_new = !self.path.exists();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.with_context(|| format!("cannot create {}", self.path.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("demo-")
            .tempdir_in(&self.path)
            .with_context(|| format!("cannot create a folder in {}", self.path.display()))?;
        Ok(DemoFolder { folder, new_home: is_new.then(|| self.path.clone()) })
    }
}

/// The folder of one run of the demonstration.
pub(crate) struct DemoFolder {
    folder: TempDir,
    /// The home, where it was made for this run, and goes again if nothing stays in it.
    new_home: Option<PathBuf>,
}

impl DemoFolder {
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    pub(crate) fn clean_up(self, keep: bool, progress: &Progress) -> anyhow::Result<()> {
        let Self { folder, new_home } = self;
        if keep {
            progress.line(format!("Kept: {}", folder.keep().display()));
            return Ok(());
        }
        let path = folder.path().to_owned();
        folder.close().with_context(|| format!("cannot remove {}", path.display()))?;
        if let Some(home) = new_home {
            // It stays where somebody else uses it by now.
            let _ = fs::remove_dir(home);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_in_use_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path().to_owned())).unwrap();
        let lock = home.lock(Role::Agent).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| home.lock(Role::Agent));
            thread::sleep(PAUSE);
            drop(lock);
            waiting.join().unwrap().unwrap();
        });
    }
}
