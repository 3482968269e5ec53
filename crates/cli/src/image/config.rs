//! What an image's configuration says of a container, without the values of its environment: they may be secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};

/// A configuration that cannot be read. What stands there instead is not quoted.
#[derive(Debug, thiserror::Error)]
#[error("the image's configuration cannot be read at line {line}, column {column}")]
pub(super) struct Unreadable {
    line: usize,
    column: usize,
}

#[derive(Deserialize)]
struct Document {
    config: Option<Settings>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// What may be shown of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ContainerConfig {
    pub(super) exposed_ports: Vec<String>,
    pub(super) entry_point: Vec<String>,
    pub(super) arguments: Vec<String>,
    /// The names of the variables alone.
    pub(super) environment: Vec<String>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
}

impl ContainerConfig {
    pub(super) fn read(config: &[u8]) -> Result<Self, Unreadable> {
        let read = serde_json::from_slice(config);
        let document: Document =
            read.map_err(|error| Unreadable { line: error.line(), column: error.column() })?;
        let settings = document.config.unwrap_or_default();
        let name = |variable: String| match variable.split_once('=') {
            Some((name, _)) => name.to_owned(),
            None => variable,
        };
        let environment = settings.env.unwrap_or_default();
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            exposed_ports: settings.exposed_ports.unwrap_or_default().into_keys().collect(),
            entry_point: settings.entrypoint.unwrap_or_default(),
            arguments: settings.cmd.unwrap_or_default(),
            environment: environment.into_iter().map(name).collect(),
            working_dir: said(settings.working_dir),
            user: said(settings.user),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_gets_is_read_without_secrets() {
        let text = br#"{"os": "linux", "config": {
            "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
            "Entrypoint": ["/bin/serve"], "Cmd": null, "User": "", "WorkingDir": "/srv",
            "Env": ["TOKEN=secret=more", "EMPTY=", "BARE"]
        }}"#;
        let config = ContainerConfig::read(text).unwrap();
        assert_eq!(config.exposed_ports, ["53/udp", "8080/tcp"]);
        assert_eq!(config.entry_point, ["/bin/serve"]);
        assert!(config.arguments.is_empty());
        assert_eq!(config.environment, ["TOKEN", "EMPTY", "BARE"]);
        assert_eq!((config.working_dir.as_deref(), config.user), (Some("/srv"), None));
        let nothing = ContainerConfig::read(b"{}").unwrap();
        assert!(nothing.environment.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_not_quoted() {
        let refused = ContainerConfig::read(br#"{"config": {"Env": "TOKEN=secret"}}"#).unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains("secret"));
    }
}
