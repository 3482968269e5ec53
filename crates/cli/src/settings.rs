//! The file of settings: what a user does not want to say each time.
//!
//! `roadstead.toml` in the home folder holds flags under their names. At the top they count for every command that has
//! them; in a table that is named like a command, such as `[provider.run]`, for that command alone. A flag that is
//! given, or set by its environment variable (`--price-cpu` by `ROADSTEAD_PRICE_CPU`), counts more than the file.
//!
//! An account is named by a key file or by a keystore, so each of the two counts against the other as against itself: what
//! is said on the command line more than a variable, that more than the file, and there a command's table more than the top.
//!
//! A provider's account is its own: what says where the publisher's key is counts for no `provider` command.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches, parser::ValueSource};
use roadstead_types::SyntaxError;
use toml::{Table, Value};

use crate::{
    arguments::Arguments,
    file::{FileError, read_text},
    home::Home,
};

/// The most bytes that the file has.
const MAX_BYTES: u64 = 256 << 10;

/// Flags that stand neither in the file nor in the environment: they are about one call.
const ABOUT_ONE_CALL: [&str; 13] = [
    "json",
    "help",
    "version",
    "file",
    "yes",
    "new",
    "prepare",
    "plan",
    "publisher",
    "signer",
    "key-variable",
    "keep",
    "i-know-this-is-early",
];

/// Where the file is follows from it, so it has a variable and cannot stand in the file.
const HOME: &str = "home";

/// The command whose account is not the publisher's.
const PROVIDER: &str = "provider";

/// What says where an account's key is.
const ACCOUNT: [&str; 3] = ["key-file", "keystore", "password-file"];

/// The longest name that is shown, in bytes.
const LONGEST_NAME: usize = 32;

/// Either of them names an account.
const KEYS: [&str; 2] = ["key-file", "keystore"];

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
        source: SyntaxError,
    },
    #[error("{}: `{key}` is no setting of `{command}`", path.display())]
    Unknown { path: PathBuf, key: String, command: String },
    #[error("{}: `{key}` can only be said on the command line", path.display())]
    AboutOneCall { path: PathBuf, key: String },
    #[error("{}: `{key}` must be a text in quotes, a whole number, true or false", path.display())]
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
    let Said { home, names_key } = look_over(line);
    let home = Home::find(home).map_err(Misuse::Other)?;
    let table = read(&home).map_err(|error| Misuse::Other(error.into()))?;
    let command = with_defaults(Arguments::command(), &table, names_key, &home.settings_file());
    let command = command.map_err(|error| Misuse::Other(error.into()))?;
    let matches = command.try_get_matches_from(line).map_err(usage)?;
    Ok((Arguments::from_arg_matches(&matches).map_err(usage)?, home))
}

/// What of a command line decides how the rest of it is read.
#[derive(Default)]
struct Said {
    home: Option<PathBuf>,
    /// Whether it names an account.
    names_key: bool,
}

/// Looks at a command line, whatever else is wrong with it.
fn look_over(line: &[OsString]) -> Said {
    let command = with_defaults(Arguments::command(), &Table::new(), false, Path::new(""));
    let lenient = command.map(|command| command.ignore_errors(true).disable_help_flag(true)).ok();
    let matches = lenient.and_then(|command| command.try_get_matches_from(line).ok());
    let Some(matches) = matches else { return Said::default() };
    let matches = innermost(&matches);
    let is_said = |id: &str| {
        matches.try_contains_id(id).unwrap_or_default()
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    Said {
        home: matches.get_one::<PathBuf>("home").cloned(),
        names_key: KEYS.iter().any(|key| is_said(&key.replace('-', "_"))),
    }
}

fn innermost(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| innermost(inner))
}

fn read(home: &Home) -> Result<Table, SettingsError> {
    let path = home.settings_file();
    let text = match read_text(&path, MAX_BYTES) {
        Ok(text) => text,
        Err(FileError::TooLarge { .. }) => return Err(SettingsError::TooLarge { path }),
        Err(FileError::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Table::new());
        }
        Err(FileError::Unreadable(source)) => {
            return Err(SettingsError::Unreadable { path, source });
        }
    };
    text.parse().map_err(|error| SettingsError::Malformed {
        path,
        source: SyntaxError::of_toml(&error, &text),
    })
}

/// The command with the values of the file as defaults, and with a variable for each flag. With `names_key`, the command
/// line names an account, and nothing else may.
fn with_defaults(
    command: Command,
    table: &Table,
    names_key: bool,
    file: &Path,
) -> Result<Command, SettingsError> {
    let inherited = Inherited { names_key, ..Inherited::default() };
    apply(command, table, &inherited, "roadstead", file)
}

/// What a command has from those above it.
#[derive(Clone, Default)]
struct Inherited {
    values: BTreeMap<String, String>,
    is_provider: bool,
    names_key: bool,
}

fn apply(
    mut command: Command,
    table: &Table,
    inherited: &Inherited,
    name: &str,
    file: &Path,
) -> Result<Command, SettingsError> {
    let mut inherited = inherited.clone();
    if KEYS.iter().any(|key| table.contains_key(*key)) {
        inherited.values.retain(|key, _| !KEYS.contains(&key.as_str()));
    }
    for (key, value) in table {
        if command.find_subcommand(key).is_some() && value.is_table() {
            continue;
        }
        let (path, key) = (file.to_owned(), key.clone());
        if ABOUT_ONE_CALL.contains(&key.as_str()) && knows(&command, &key) {
            return Err(SettingsError::AboutOneCall { path, key });
        }
        if key == HOME || !knows(&command, &key) {
            return Err(SettingsError::Unknown {
                path,
                key: shown(&key),
                command: name.to_owned(),
            });
        }
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Boolean(switch) => switch.to_string(),
            _ => return Err(SettingsError::NoValue { path, key }),
        };
        inherited.values.insert(key, value);
    }
    let is_key_set =
        KEYS.iter().any(|key| std::env::var_os(variable(key, inherited.is_provider)).is_some());
    command = command.mut_args(|argument| {
        let Some(long) = argument.get_long().map(str::to_owned) else { return argument };
        if ABOUT_ONE_CALL.contains(&long.as_str()) {
            return argument;
        }
        let is_key = KEYS.contains(&long.as_str());
        if is_key && inherited.names_key {
            return argument;
        }
        let argument = argument.env(variable(&long, inherited.is_provider));
        if is_key && is_key_set {
            return argument;
        }
        match inherited.values.get(&long) {
            Some(value) => argument.default_value(value.clone()).required(false),
            None => argument,
        }
    });
    let names: Vec<_> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for sub in names {
        let empty = Table::new();
        let inner = table.get(&sub).and_then(Value::as_table).unwrap_or(&empty);
        let full = format!("{name} {sub}");
        let mut passed_on = inherited.clone();
        if sub == PROVIDER {
            passed_on.is_provider = true;
            passed_on.values.retain(|key, _| !ACCOUNT.contains(&key.as_str()));
        }
        let mut failed = None;
        command = command.mut_subcommand(&sub, |found| {
            apply(found.clone(), inner, &passed_on, &full, file).unwrap_or_else(|error| {
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

/// A name from the file. One that is longer than that of any flag may be a key in the wrong place.
fn shown(key: &str) -> String {
    match key.len() {
        ..=LONGEST_NAME => key.to_owned(),
        length => format!("({length} bytes)"),
    }
}

/// The variable that stands for a flag.
fn variable(long: &str, is_provider: bool) -> String {
    let whose = if is_provider && ACCOUNT.contains(&long) { "PROVIDER_" } else { "" };
    format!("ROADSTEAD_{whose}{}", long.replace('-', "_").to_uppercase())
}

/// Whether the command, or one below it, has such a flag.
fn knows(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(long))
        || command.get_subcommands().any(|sub| knows(sub, long))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn every_flag_has_a_variable_and_a_providers_account_is_its_own() {
        let command =
            with_defaults(Arguments::command(), &Table::new(), false, Path::new("")).unwrap();
        let provider = command.find_subcommand("provider").unwrap();
        let init = provider.find_subcommand("init").unwrap();
        let publish = command.find_subcommand("publish").unwrap();
        let variable = |command: &Command, long| {
            let mut arguments = command.get_arguments();
            let argument = arguments.find(|argument| argument.get_long() == Some(long)).unwrap();
            argument.get_env().map(|name| name.to_str().unwrap().to_owned())
        };
        for (command, long, expected) in [
            (&command, "home", Some("ROADSTEAD_HOME")),
            (init, "price-cpu", Some("ROADSTEAD_PRICE_CPU")),
            (init, "key-file", Some("ROADSTEAD_PROVIDER_KEY_FILE")),
            (publish, "key-file", Some("ROADSTEAD_KEY_FILE")),
            (publish, "new", None),
        ] {
            assert_eq!(variable(command, long).as_deref(), expected, "{long}");
        }
    }

    #[test]
    fn the_publishers_key_is_not_taken_for_the_providers() {
        let key_file = |settings| {
            let arguments = read_with(settings, &["provider", "init"]).unwrap();
            match arguments.command {
                arguments::Command::Provider(provider) => format!("{provider:?}"),
                other => panic!("{other:?}"),
            }
        };
        assert!(!key_file("key-file = '/publisher.key'").contains("/publisher.key"));
        assert!(key_file("[provider]\nkey-file = '/own.key'").contains("/own.key"));
    }

    #[test]
    fn the_stronger_source_names_the_account() {
        let account =
            |settings, line: &[&str]| match read_with(settings, &[&["withdraw"], line].concat())
                .unwrap()
                .command
            {
                arguments::Command::Withdraw(withdraw) => {
                    let account = withdraw.account;
                    [account.key_file, account.keystore].map(|path| path.is_some())
                }
                other => panic!("{other:?}"),
            };
        let (key, keystore) = ([true, false], [false, true]);
        assert_eq!(account("key-file = '/a'", &["--keystore", "/b"]), keystore);
        assert_eq!(account("keystore = '/a'", &["--key-file", "/b"]), key);
        assert_eq!(account("key-file = '/a'\n[withdraw]\nkeystore = '/b'", &[]), keystore);
        assert_eq!(account("[withdraw]\nkey-file = '/a'", &[]), key);
        assert_eq!(account("key-file = '/a'\nkeystore = '/b'", &[]), [true, true]);
        let both = ["withdraw", "--key-file", "/a", "--keystore", "/b"];
        assert!(read_with("", &both).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn a_file_that_does_not_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roadstead.toml");
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let home = Home::find(Some(folder.path().to_owned())).unwrap();
        assert!(matches!(read(&home), Err(SettingsError::TooLarge { .. })));
    }

    #[test]
    fn what_no_command_knows_is_refused_with_its_name() {
        for (settings, expected) in [
            ("chian = 'anvil'", "`chian` is no setting of `roadstead`"),
            ("[demo]\nchian = 'anvil'", "`chian` is no setting of `roadstead demo`"),
            ("home = '/'", "`home` is no setting"),
            ("[demos]\nchain = 'anvil'", "`demos` is no setting"),
            ("chain = ['anvil']", "`chain` must be a text in quotes"),
            ("[provider]\nprice-cpu = 0.02", "`price-cpu` must be a text in quotes"),
            ("[provider.reset]\nyes = true", "`yes` can only be said on the command line"),
            ("[provider]\ni-know-this-is-early = true", "can only be said on the command line"),
            ("chain = ", "is no TOML file"),
            ("chain = 'ganache'", "ganache"),
        ] {
            let refused = read_with(settings, &["demo"]).unwrap_err();
            assert!(refused.contains(expected), "{settings}: {refused}");
        }
    }
}
