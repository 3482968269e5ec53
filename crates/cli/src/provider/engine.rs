//! Which engine runs a provider's containers. The choice is remembered with all that it takes to find the engine again,
//! because an engine knows nothing of what another one runs: of two daemons of Docker, each would run the same job.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use roadstead_core::ports::{Engine, EngineError};
use roadstead_devnet::{EngineChoice, EnginePlace, SHIM};
use roadstead_journal::StateFolder;
use roadstead_provider::{clear_engine, remove};

use super::{ProviderError, read_text};
use crate::{failure::with_causes, output::Progress};

/// Which engine was used last, and where it is.
const FILE: &str = "engine.txt";

/// A folder for each engine.
const FOLDER: &str = "engine";

/// The engine that was used last.
pub(super) fn remembered(folder: &StateFolder) -> Result<Option<EnginePlace>, ProviderError> {
    let unusable = |source| ProviderError::UnknownEngine { path: folder.path().join(FILE), source };
    match read_text(folder, FILE) {
        Ok(text) => {
            text.map(|text| text.parse()).transpose().map_err(|error| unusable(Box::new(error)))
        }
        Err(error) => Err(unusable(Box::new(error))),
    }
}

/// The engines that may have something of this provider: the one that is remembered, or where what is remembered makes no
/// sense, all that have a folder here.
pub(super) async fn used(
    folder: &StateFolder,
    progress: &Progress,
) -> Result<Vec<Arc<dyn Engine>>, EngineError> {
    let places = match remembered(folder) {
        Ok(place) => place.into_iter().collect(),
        Err(error) => {
            let there = |choice: &EngineChoice| files(folder, *choice).exists();
            let choices = [EngineChoice::Embedded, EngineChoice::Docker].into_iter();
            let places: Vec<_> = choices.filter(there).map(EngineChoice::place).collect();
            let names: Vec<_> = places.iter().map(|place| format!("`{place}`")).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            progress.line(format!(
                "{}; so all engines that have a folder here are looked at: {names}",
                with_causes(&error),
            ));
            places
        }
    };
    let mut engines = Vec::new();
    for place in &places {
        engines.push(open(folder, place).await?);
    }
    Ok(engines)
}

/// Whether an engine was ever used, and not forgotten since.
pub(super) fn is_remembered(folder: &Path) -> bool {
    [FILE, FOLDER].iter().any(|name| folder.join(name).exists())
}

/// What all engines have in the folder. Which was used is forgotten last.
pub(super) fn all_files(folder: &StateFolder) -> [PathBuf; 2] {
    [FOLDER, FILE].map(|name| folder.path().join(name))
}

fn files(folder: &StateFolder, choice: EngineChoice) -> PathBuf {
    folder.path().join(FOLDER).join(choice.to_string())
}

/// Opens an engine.
pub(super) async fn open(
    folder: &StateFolder,
    place: &EnginePlace,
) -> Result<Arc<dyn Engine>, EngineError> {
    place.open(&files(folder, place.choice()), SHIM.as_ref()).await
}

/// Opens the engine that is chosen, else the one that was used last, and remembers it. Another one than that is refused
/// while that one has containers.
pub(super) async fn choose(
    folder: &StateFolder,
    chosen: Option<EngineChoice>,
) -> anyhow::Result<(EngineChoice, Arc<dyn Engine>)> {
    let used = remembered(folder)?;
    let chosen = chosen.map(EngineChoice::place);
    let place = chosen.or_else(|| used.clone()).unwrap_or(EnginePlace::Embedded);
    if let Some(used) = used.filter(|used| *used != place) {
        let unknown = || format!("whether the engine `{used}` still has containers is not known");
        let before = open(folder, &used).await.with_context(unknown)?;
        let containers = before.instances().await.with_context(unknown)?.len();
        if containers > 0 {
            let (used, chosen) = (used.to_string(), place.to_string());
            return Err(ProviderError::OtherEngine { used, chosen, containers }.into());
        }
        clear_engine(&before, |_| {}).await?;
        drop(before);
        remove(&files(folder, used.choice()))?;
    }
    // Remembered before it can be given anything to run.
    folder.write(FILE, place.to_string().as_bytes())?;
    let engine = open(folder, &place).await?;
    Ok((place.choice(), engine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_makes_no_sense_is_named_and_keeps_no_engine_from_being_found() {
        let home = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(home.path()).unwrap();
        assert_eq!(remembered(&folder).unwrap(), None);
        assert!(!is_remembered(home.path()));
        for place in ["embedded", "docker unix:///run/docker.sock"] {
            folder.write(FILE, place.as_bytes()).unwrap();
            assert_eq!(remembered(&folder).unwrap().unwrap().to_string(), place);
        }
        for damaged in [&b""[..], b"docker", b"podman", b"\xff\xfe"] {
            folder.write(FILE, damaged).unwrap();
            let error = remembered(&folder).unwrap_err().to_string();
            assert!(error.contains("engine.txt"), "{error}");
            // Nothing has a folder, so nothing has a container.
            assert!(used(&folder, &Progress::start()).await.unwrap().is_empty());
        }
        assert!(is_remembered(home.path()));
    }
}
