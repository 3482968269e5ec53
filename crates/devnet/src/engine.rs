//! The container engine of a provider on this machine.

use std::{fmt, path::Path, str::FromStr, sync::Arc};

use roadstead_core::ports::{Engine, EngineError};
use roadstead_runtime::{DockerEngine, EmbeddedEngine};

/// Which container engine to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The one in this process. It needs root.
    Embedded,
    /// Docker Engine: the one that the user's environment names.
    Docker,
}

/// A text that names no engine.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is neither `embedded` nor `docker`")]
pub struct UnknownEngine {
    /// What was given.
    pub text: String,
}

impl FromStr for EngineChoice {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "docker" => Ok(Self::Docker),
            _ => Err(UnknownEngine { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Embedded => "embedded",
            Self::Docker => "docker",
        })
    }
}

impl EngineChoice {
    /// Opens the engine, which keeps its files in `folder`. `shim` is the program that the embedded one starts for each
    /// container: one whose `main` begins with [`roadstead_runtime::shim::answer`].
    pub async fn open(self, folder: &Path, shim: &Path) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Embedded => Arc::new(EmbeddedEngine::open(folder, shim).await?),
            Self::Docker => Arc::new(DockerEngine::open(folder).await?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_as_they_are_shown() {
        for text in ["embedded", "docker"] {
            assert_eq!(text.parse::<EngineChoice>().unwrap().to_string(), text);
        }
        for text in ["", "Docker", "podman"] {
            assert!(text.parse::<EngineChoice>().is_err(), "{text}");
        }
    }
}
