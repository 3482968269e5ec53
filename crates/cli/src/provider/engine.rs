//! Which engine runs a provider's containers. The choice is remembered, because an engine knows nothing of what another
//! one runs.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use roadstead_core::ports::{Engine, EngineError};
use roadstead_devnet::EngineChoice;
use roadstead_journal::StateFolder;
use roadstead_provider::{clear_engine, remove};

use super::{ProviderError, read_text};

const FILE: &str = "engine.txt";

/// The program that the embedded engine starts for each container: this one, even if its file was replaced meanwhile.
const SHIM: &str = "/proc/self/exe";

/// The engine that was used last.
pub(super) fn remembered(folder: &StateFolder) -> anyhow::Result<Option<EngineChoice>> {
    let unusable = || format!("{} names no engine", folder.path().join(FILE).display());
    let text = read_text(folder, FILE).with_context(unusable)?;
    text.map(|text| text.parse()).transpose().with_context(unusable)
}

/// What all engines have in the folder.
pub(super) fn all_files(folder: &StateFolder) -> [PathBuf; 2] {
    [folder.path().join("engine"), folder.path().join(FILE)]
}

fn files(folder: &StateFolder, choice: EngineChoice) -> PathBuf {
    folder.path().join("engine").join(choice.to_string())
}

/// Opens an engine.
pub(super) async fn open(
    folder: &StateFolder,
    choice: EngineChoice,
) -> Result<Arc<dyn Engine>, EngineError> {
    choice.open(&files(folder, choice), SHIM.as_ref()).await
}

/// Opens the engine that is chosen, else the one that was used last, and remembers it. Another one than that is refused
/// while that one has containers.
pub(super) async fn choose(
    folder: &StateFolder,
    chosen: Option<EngineChoice>,
) -> anyhow::Result<(EngineChoice, Arc<dyn Engine>)> {
    let used = remembered(folder)?;
    let choice = chosen.or(used).unwrap_or(EngineChoice::Embedded);
    if let Some(used) = used.filter(|used| *used != choice) {
        let unknown = || format!("whether the engine `{used}` still has containers is not known");
        let before = open(folder, used).await.with_context(unknown)?;
        let containers = before.instances().await.with_context(unknown)?.len();
        if containers > 0 {
            return Err(ProviderError::OtherEngine { used: used.to_string(), containers }.into());
        }
        clear_engine(&*before).await?;
        drop(before);
        remove(&files(folder, used))?;
    }
    let engine = open(folder, choice).await?;
    folder.write(FILE, choice.to_string().as_bytes())?;
    Ok((choice, engine))
}
