//! The file of settings: what a user does not want to say each time.
//!
//! `roadstead.toml` in the home folder holds flags under their names. At the top they count for every command that has
//! them; in a table that is named like a command, such as `[provider.run]`, for that command alone. A flag that is
//! given, or set by its environment variable, counts more than the file.

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::PathBuf};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use crate::{arguments::Arguments, home::Home};

/// The most bytes that are read of the file.
const MAX_BYTES: u64 = 256 << 10;

/// Flags that cannot stand in the file: where it is follows from the one, and the others are about one call.
const ABOUT_ONE_CALL: [&str; 4] = ["home", "json", "help", "version"];

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("the settings in {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {MAX_BYTES} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is no TOML file", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{}: `{key}` is no setting of `{command}`", path.display())]
    Unknown { path: PathBuf, key: String, command: String },
    #[error("{}: `{key}` must be a text, a number or true", path.display())]
    NoValue { path: PathBuf, key: String },
}

/// Why there are no arguments.
pub(crate) enum Misuse {
    /// The command line is wrong, or asks for help.
    Usage(Box<clap::Error>),
    /// Anything else.
    Other(anyhow::Error),
}

/// Reads the command line, with what the file of settings adds to it.
pub(crate) fn read_arguments(line: &[OsString]) -> Result<(Arguments, Home), Misuse> {
    let usage = |error| Misuse::Usage(Box::new(error));
    let home = Home::find(home_of(line)).map_err(Misuse::Other)?;
    let table = read(&home).map_err(|error| Misuse::Other(error.into()))?;
    let command = with_defaults(Arguments::command(), &table, &home.settings_file());
    let command = command.map_err(|error| Misuse::Other(error.into()))?;
    let matches = command.try_get_matches_from(line).map_err(usage)?;
    Ok((Arguments::from_arg_matches(&matches).map_err(usage)?, home))
}

/// The home folder that a command line names, whatever else is wrong with it.
fn home_of(line: &[OsString]) -> Option<PathBuf> {
    let lenient = Arguments::command().ignore_errors(true).disable_help_flag(true);
    let matches = lenient.try_get_matches_from(line).ok()?;
    innermost(&matches).get_one::<PathBuf>("home").cloned()
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

fn read(home: &Home) -> Result<Table, SettingsError> {
    let path = home.settings_file();
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::new()),
        Ok(found) if found.len() > MAX_BYTES => return Err(SettingsError::TooLarge { path }),
        Ok(_) | Err(_) => {}
    }
    let text = fs::read_to_string(&path);
    let text = text.map_err(|source| SettingsError::Unreadable { path: path.clone(), source })?;
    let parsed = text.parse();
    parsed.map_err(|source| SettingsError::Malformed { path, source: Box::new(source) })
}

/// The command with the values of the file as defaults.
fn with_defaults(
    command: Command,
    table: &Table,
    file: &std::path::Path,
) -> Result<Command, SettingsError> {
    apply(command, table, &BTreeMap::new(), "roadstead", file)
}

fn apply(
    mut command: Command,
    table: &Table,
    inherited: &BTreeMap<String, String>,
    name: &str,
    file: &std::path::Path,
) -> Result<Command, SettingsError> {
    let mut values = inherited.clone();
    for (key, value) in table {
        if command.find_subcommand(key).is_some() && value.is_table() {
            continue;
        }
        if ABOUT_ONE_CALL.contains(&key.as_str()) || !knows(&command, key) {
            let (key, command) = (key.clone(), name.to_owned());
            return Err(SettingsError::Unknown { path: file.to_owned(), key, command });
        }
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(true) => "true".to_owned(),
            _ => {
                let key = key.clone();
                return Err(SettingsError::NoValue { path: file.to_owned(), key });
            }
        };
        values.insert(key.clone(), value);
    }
    command =
        command.mut_args(|argument| match argument.get_long().and_then(|long| values.get(long)) {
            Some(value) => argument.default_value(value.clone()).required(false),
            None => argument,
        });
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for sub in names {
        let empty = Table::new();
        let inner = table.get(&sub).and_then(Value::as_table).unwrap_or(&empty);
        let full = format!("{name} {sub}");
        let mut failed = None;
        command = command.mut_subcommand(&sub, |found| {
            apply(found.clone(), inner, &values, &full, file).unwrap_or_else(|error| {
                failed = Some(error);
                found
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(command)
}

/// Whether the command, or one below it, has such a flag.
fn knows(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(long))
        || command.get_subcommands().any(|sub| knows(sub, long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    fn read_with(settings: &str, line: &[&str]) -> Result<Arguments, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("roadstead.toml"), settings).unwrap();
        let home = folder.path().to_str().unwrap();
        let line = [&["roadstead", "--home", home], line].concat();
        let line: Vec<_> = line.into_iter().map(OsString::from).collect();
        match read_arguments(&line) {
            Ok((arguments, home)) => {
                assert_eq!(home.path(), folder.path());
                Ok(arguments)
            }
            Err(Misuse::Usage(error)) => Err(error.to_string()),
            Err(Misuse::Other(error)) => Err(format!("{error:#}")),
        }
    }

    fn chain(settings: &str, line: &[&str]) -> String {
        match read_with(settings, line).unwrap().command {
            arguments::Command::Demo(demo) => demo.chain.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flag_counts_more_than_the_file_and_a_table_more_than_the_top() {
        assert_eq!(chain("", &["demo"]), "embedded");
        assert_eq!(chain("chain = 'anvil'", &["demo"]), "anvil");
        assert_eq!(chain("chain = 'anvil'\n[demo]\nchain = 'http://a'", &["demo"]), "http://a");
        assert_eq!(chain("[demo]\nchain = 'anvil'", &["demo", "--chain", "embedded"]), "embedded");
    }

    #[test]
    fn a_switch_can_be_on_in_the_file() {
        let arguments = read_with("[demo]\nkeep = true", &["demo"]).unwrap();
        assert!(matches!(arguments.command, arguments::Command::Demo(demo) if demo.keep));
    }

    #[test]
    fn what_no_command_knows_is_refused_with_its_name() {
        for (settings, expected) in [
            ("chian = 'anvil'", "`chian` is no setting of `roadstead`"),
            ("[demo]\nchian = 'anvil'", "`chian` is no setting of `roadstead demo`"),
            ("home = '/'", "`home` is no setting"),
            ("[demos]\nchain = 'anvil'", "`demos` is no setting"),
            ("chain = ['anvil']", "`chain` must be a text"),
            ("chain = ", "is no TOML file"),
            ("chain = 'ganache'", "ganache"),
        ] {
            let refused = read_with(settings, &["demo"]).unwrap_err();
            assert!(refused.contains(expected), "{settings}: {refused}");
        }
    }
}
