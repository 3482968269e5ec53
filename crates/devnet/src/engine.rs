//! The container engine of a provider on this machine, and how it is found again.

use std::{fmt, path::Path, str::FromStr, sync::Arc};

use roadstead_core::ports::{Engine, EngineError};
use roadstead_runtime::{DockerEngine, EmbeddedEngine};

/// The program for [`EngineChoice::open`] where this one is it, even if its file was replaced meanwhile.
pub const SHIM: &str = "/proc/self/exe";

/// Which container engine to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// The one in this process. It needs root.
    Embedded,
    /// Docker Engine: the one that the user's environment names.
    Docker,
}

/// The most characters of a text that an error repeats.
const MAX_SHOWN: usize = 80;

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
    /// Which engine that is now, by the user's environment.
    pub fn place(self) -> EnginePlace {
        match self {
            Self::Embedded => EnginePlace::Embedded,
            Self::Docker => EnginePlace::Docker { host: DockerEngine::usual_host() },
        }
    }

    /// Opens the engine, which keeps its files in `folder`. `shim` is the program that the embedded one starts for each
    /// container: one whose `main` begins with [`roadstead_runtime::shim::answer`].
    pub async fn open(self, folder: &Path, shim: &Path) -> Result<Arc<dyn Engine>, EngineError> {
        self.place().open(folder, shim).await
    }
}

/// A container engine as it is found again, whatever the user's environment says by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnginePlace {
    /// The one in this process.
    Embedded,
    /// Docker Engine.
    Docker {
        /// The address of its daemon, as `DOCKER_HOST` has it.
        host: String,
    },
}

/// A text by which no engine is found.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is neither `embedded` nor `docker` with the address of its daemon")]
pub struct UnknownPlace {
    /// What was given, as far as it is shown.
    pub text: String,
}

impl FromStr for EnginePlace {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let unknown = || UnknownPlace { text: text.chars().take(MAX_SHOWN).collect() };
        match text.split_once(' ') {
            None if text == "embedded" => Ok(Self::Embedded),
            Some(("docker", host)) if !host.is_empty() => {
                Ok(Self::Docker { host: host.to_owned() })
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for EnginePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded"),
            Self::Docker { host } => write!(formatter, "docker {host}"),
        }
    }
}

impl EnginePlace {
    /// What it is an engine of.
    pub const fn choice(&self) -> EngineChoice {
        match self {
            Self::Embedded => EngineChoice::Embedded,
            Self::Docker { .. } => EngineChoice::Docker,
        }
    }

    /// Opens the engine as [`EngineChoice::open`] does.
    pub async fn open(&self, folder: &Path, shim: &Path) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(match self {
            Self::Embedded => Arc::new(EmbeddedEngine::open(folder, shim).await?),
            Self::Docker { host } => Arc::new(DockerEngine::open_at(folder, host).await?),
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

    #[test]
    fn an_engine_is_found_again_with_its_daemon() {
        for text in ["embedded", "docker unix:///run/docker.sock", "docker tcp://127.0.0.1:2375"] {
            assert_eq!(text.parse::<EnginePlace>().unwrap().to_string(), text);
        }
        for text in ["", "docker", "docker ", "embedded unix:///run/docker.sock", "podman x"] {
            assert!(text.parse::<EnginePlace>().is_err(), "{text}");
        }
    }
}
