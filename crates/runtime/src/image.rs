//! What an image's configuration says, and what comes out of it together with how a container is to run.

use alloy_primitives::B256;
use roadstead_core::ports::{EngineError, LayerSource};
use roadstead_types::{Container, ImageId, ImageKey, SecretText};
use rustix::process::Signal;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{embedded::sys, files::MAX_FILE};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The parts of an OCI image configuration that an engine needs.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageConfig {
    architecture: String,
    os: String,
    #[serde(default)]
    config: Option<Execution>,
    rootfs: RootFileSystem,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RootFileSystem {
    diff_ids: Vec<String>,
}

/// What a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The program and its arguments; at least one.
    pub(crate) args: Vec<String>,
    /// Names with values, each name once.
    pub(crate) env: Vec<(String, SecretText)>,
    /// Absolute.
    pub(crate) working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`; empty for root.
    pub(crate) user: String,
    /// What asks it to stop.
    pub(crate) stop_signal: i32,
}

/// The most layers of an image, as with other engines.
const MAX_LAYERS: usize = 127;

/// Checks that an image is what it is called and that its parts fit each other. Returns its configuration.
pub(crate) fn check(key: &ImageKey, image: &dyn LayerSource) -> Result<String, EngineError> {
    let bad = |reason: String| EngineError::BadImage { reason };
    let json = image.config();
    // Half of a file, which holds it as a text within a text.
    if json.len() as u64 > MAX_FILE / 4 {
        return Err(bad("its configuration is too large".to_owned()));
    }
    let digest = ImageId(B256::new(Sha256::digest(json).into()));
    if key.image != image.image() || key.image != digest {
        return Err(bad(format!("it is {digest}, not {}", key.image)));
    }
    let layers = image.layers();
    if layers.is_empty() {
        return Err(bad("it has no layers".to_owned()));
    }
    if layers.len() > MAX_LAYERS {
        return Err(bad(format!("it has more than {MAX_LAYERS} layers")));
    }
    let config = ImageConfig::parse(json)?;
    if !config.diff_ids()?.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
        return Err(bad("its layers are not those that its configuration names".to_owned()));
    }
    String::from_utf8(json.to_owned()).map_err(|_| bad("its configuration is no text".to_owned()))
}

impl ImageConfig {
    /// Reads a configuration and checks that this machine can run what it describes.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, EngineError> {
        let config: Self = serde_json::from_slice(json).map_err(|error| {
            bad(format!("its configuration makes no sense: {}", shown(error.to_string())))
        })?;
        let (os, architecture) = (&config.os, &config.architecture);
        if os != "linux" || architecture != machine() {
            let (machine, made_for) = (machine(), shown(format!("{os}/{architecture}")));
            return Err(bad(format!("it is for {made_for}, this is linux/{machine}")));
        }
        Ok(config)
    }

    /// The digests of its layers, the lowest first.
    pub(crate) fn diff_ids(&self) -> Result<Vec<B256>, EngineError> {
        let digest = |text: &String| {
            let digest = text.strip_prefix("sha256:").and_then(|digest| digest.parse().ok());
            digest.ok_or_else(|| bad(format!("{} is no SHA-256 digest", shown(text))))
        };
        self.rootfs.diff_ids.iter().map(digest).collect()
    }

    /// What `container` runs when it is made from this image.
    pub(crate) fn program(&self, container: &Container) -> Result<Program, EngineError> {
        let none = Execution::default();
        let image = self.config.as_ref().unwrap_or(&none);
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let (mut args, rest) = match (&container.command, &container.args) {
            (Some(command), args) => (command.clone(), list(args)),
            (None, Some(args)) => (list(&image.entrypoint), args.clone()),
            (None, None) => (list(&image.entrypoint), list(&image.cmd)),
        };
        args.extend(rest);
        if args.first().is_none_or(String::is_empty) {
            return Err(bad("it names nothing to start, and no command was given".to_owned()));
        }
        let env = environment(&list(&image.env), container)?;
        let own = container.working_dir.as_ref().or(image.working_dir.as_ref());
        let working_dir = own.filter(|folder| !folder.is_empty()).map_or("/", String::as_str);
        if !working_dir.starts_with('/') {
            let shown = shown(working_dir);
            return Err(bad(format!("its working folder {shown} is not absolute")));
        }
        let user = container.user.as_ref().or(image.user.as_ref()).cloned().unwrap_or_default();
        let texts = args.iter().map(String::as_str).chain([working_dir, &user]);
        if texts.chain(env.iter().flat_map(|(name, value)| [&**name, &**value])).any(has_null) {
            return Err(cannot_start("a text holds a null character"));
        }
        let stop_signal = match image.stop_signal.as_deref() {
            None | Some("") => Signal::TERM.as_raw(),
            Some(name) => signal(name).ok_or_else(|| {
                bad(format!("there is no signal {} to stop it with", shown(name)))
            })?,
        };
        Ok(Program { args, env, working_dir: working_dir.to_owned(), user, stop_signal })
    }
}

fn environment(
    image: &[String],
    container: &Container,
) -> Result<Vec<(String, SecretText)>, EngineError> {
    let text = |value: &str| SecretText::new(value.to_owned());
    let mut env = vec![
        ("PATH".to_owned(), text(DEFAULT_PATH)),
        ("HOSTNAME".to_owned(), text(&container.name)),
    ];
    let mut set = |name: &str, value: &str| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), text(value)));
    };
    for (name, value) in image.iter().filter_map(|line| line.split_once('=')) {
        if !name.is_empty() {
            set(name, value);
        }
    }
    for (name, value) in &container.env {
        if name.is_empty() || name.contains('=') {
            return Err(cannot_start("the name of a variable is empty or holds an equals sign"));
        }
        set(name, value);
    }
    Ok(env)
}

/// The most characters of an image's text that an error repeats.
const MAX_SHOWN: usize = 200;

/// A text of an image as an error repeats it: in quotes, escaped and cut, for whoever made the image may have written
/// anything there.
pub(crate) fn shown(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    let start = String::from_utf8_lossy(&text[..text.len().min(MAX_SHOWN)]);
    let escaped: String = start.escape_debug().take(MAX_SHOWN).collect();
    format!("\"{escaped}\"")
}

/// The first `max` characters of what somebody else says about an image, with whatever is no plain text escaped.
pub(crate) fn escaped(text: &str, max: usize) -> String {
    let mut escaped = String::new();
    for character in text.chars().take(max) {
        match character {
            '"' | '\'' | '\\' => escaped.push(character),
            other => escaped.extend(other.escape_debug()),
        }
    }
    escaped.chars().take(max).collect()
}

fn has_null(text: &str) -> bool {
    text.contains('\0')
}

/// The architecture of this machine, as images name it.
pub(crate) fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The number of a signal by its name, with or without `SIG`, or by its number.
fn signal(name: &str) -> Option<i32> {
    const NAMES: [(&str, Signal); 29] = [
        ("ABRT", Signal::ABORT),
        ("ALRM", Signal::ALARM),
        ("BUS", Signal::BUS),
        ("CHLD", Signal::CHILD),
        ("CONT", Signal::CONT),
        ("FPE", Signal::FPE),
        ("HUP", Signal::HUP),
        ("ILL", Signal::ILL),
        ("INT", Signal::INT),
        ("IO", Signal::IO),
        ("KILL", Signal::KILL),
        ("PIPE", Signal::PIPE),
        ("PROF", Signal::PROF),
        ("PWR", Signal::POWER),
        ("QUIT", Signal::QUIT),
        ("SEGV", Signal::SEGV),
        ("STOP", Signal::STOP),
        ("SYS", Signal::SYS),
        ("TERM", Signal::TERM),
        ("TRAP", Signal::TRAP),
        ("TSTP", Signal::TSTP),
        ("TTIN", Signal::TTIN),
        ("TTOU", Signal::TTOU),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("VTALRM", Signal::VTALARM),
        ("WINCH", Signal::WINCH),
        ("XCPU", Signal::XCPU),
        ("XFSZ", Signal::XFSZ),
    ];
    let upper = name.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(number) = name.parse::<i32>() {
        return to_signal(number).map(Signal::as_raw);
    }
    if let Some((_, signal)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Some(signal.as_raw());
    }
    let real_time = match name.strip_prefix("RTMIN")? {
        "" => 0,
        offset => offset.strip_prefix('+')?.parse::<i32>().ok()?,
    };
    to_signal(sys::REAL_TIME.start().checked_add(real_time)?).map(Signal::as_raw)
}

/// The signal with this number.
pub(crate) fn to_signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number).or_else(|| sys::real_time_signal(number))
}

fn bad(reason: String) -> EngineError {
    EngineError::BadImage { reason }
}

fn cannot_start(reason: &str) -> EngineError {
    EngineError::CannotStart { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use roadstead_types::Seconds;

    use super::*;

    fn container() -> Container {
        Container {
            name: "web".to_owned(),
            command: None,
            args: None,
            env: std::collections::BTreeMap::new(),
            working_dir: None,
            user: None,
            read_only: false,
            ports: Vec::new(),
            stop_grace_period: Seconds(1),
        }
    }

    fn image(config: &str) -> ImageConfig {
        let machine = machine();
        let json = format!(
            r#"{{"architecture":"{machine}","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        ImageConfig::parse(json.as_bytes()).unwrap()
    }

    fn list(text: &str) -> Option<Vec<String>> {
        Some(text.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn command_and_arguments_replace_as_in_kubernetes() {
        let image = image(r#"{"Entrypoint":["entry"],"Cmd":["cmd"]}"#);
        let args = |command: Option<&str>, args: Option<&str>| {
            let (command, args) = (command.and_then(list), args.and_then(list));
            image.program(&Container { command, args, ..container() }).unwrap().args.join(" ")
        };
        assert_eq!(args(None, None), "entry cmd");
        assert_eq!(args(Some("own"), None), "own", "the image's arguments are dropped");
        assert_eq!(args(None, Some("a b")), "entry a b");
        assert_eq!(args(Some("own"), Some("a b")), "own a b");
    }

    #[test]
    fn an_image_that_says_nothing_runs_a_given_command_as_root_in_the_root() {
        for config in ["null", "{}", r#"{"Entrypoint":null,"Cmd":null,"WorkingDir":"","User":""}"#]
        {
            let image = image(config);
            assert!(matches!(image.program(&container()), Err(EngineError::BadImage { .. })));
            let program = Container { command: list("sh"), ..container() };
            let program = image.program(&program).unwrap();
            assert_eq!((&*program.working_dir, &*program.user), ("/", ""));
            assert_eq!(program.stop_signal, 15);
        }
    }

    #[test]
    fn the_container_replaces_what_the_image_sets() {
        let image = image(
            r#"{"Cmd":["x"],"Env":["A=1","PATH=/bin","broken","=x","B=a=b"],"WorkingDir":"/w","User":"u","StopSignal":"SIGQUIT"}"#,
        );
        let program = image.program(&container()).unwrap();
        assert_eq!((&*program.working_dir, &*program.user, program.stop_signal), ("/w", "u", 3));
        let own = Container {
            env: [("A".to_owned(), SecretText::new("2".to_owned()))].into(),
            working_dir: Some("/own".to_owned()),
            user: Some("7:8".to_owned()),
            ..container()
        };
        let program = image.program(&own).unwrap();
        assert_eq!((&*program.working_dir, &*program.user), ("/own", "7:8"));
        let env: Vec<_> =
            program.env.iter().map(|(name, value)| format!("{name}={}", &**value)).collect();
        assert_eq!(env, ["HOSTNAME=web", "PATH=/bin", "B=a=b", "A=2"]);
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        let image = image("{}");
        let start = |container: Container| image.program(&container).map(|program| program.args);
        let own = || Container { command: list("sh"), ..container() };
        let value = || SecretText::new(String::new());
        assert!(start(Container { command: Some(vec!["a\0b".to_owned()]), ..own() }).is_err());
        assert!(start(Container { command: Some(vec![String::new()]), ..own() }).is_err());
        assert!(start(Container { env: [("A=B".to_owned(), value())].into(), ..own() }).is_err());
        assert!(start(Container { env: [(String::new(), value())].into(), ..own() }).is_err());
        assert!(start(Container { working_dir: Some("here".to_owned()), ..own() }).is_err());
        assert!(start(own()).is_ok());
    }

    #[test]
    fn images_for_other_machines_are_refused_by_name() {
        let json = br#"{"architecture":"s390x","os":"linux","rootfs":{"diff_ids":[]}}"#;
        let error = ImageConfig::parse(json).unwrap_err().to_string();
        assert!(error.contains("linux/s390x"), "{error}");
        assert!(ImageConfig::parse(b"{}").is_err());
    }

    #[test]
    fn hostile_text_is_escaped_and_cut_in_errors() {
        let hostile = format!("\u{1b}[2J\n{}", "x".repeat(100_000));
        let config = |architecture: &str, os: &str, digest: &str| {
            serde_json::json!({
                "architecture": architecture, "os": os, "rootfs": {"diff_ids": [digest]},
            })
            .to_string()
        };
        let parse = |json: String| ImageConfig::parse(json.as_bytes());
        let digest = parse(config(machine(), "linux", &hostile)).unwrap().diff_ids().unwrap_err();
        let mistaken =
            format!(r#"{{"architecture":"x","os":"x","rootfs":{:?}}}"#, "y".repeat(9_000));
        let errors = [
            parse(config(&hostile, "linux", "")).unwrap_err(),
            parse(config(machine(), &hostile, "")).unwrap_err(),
            parse(mistaken).unwrap_err(),
            digest,
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.len() < 400 && !text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (name, number) in
            [("SIGTERM", 15), ("quit", 3), ("9", 9), ("RTMIN+3", 37), ("SIGRTMIN", 34), ("64", 64)]
        {
            assert_eq!(signal(name), Some(number), "{name}");
        }
        for name in ["", "SIGNO", "0", "65", "-1", "RTMIN+99", "RTMIN-1", "RTMIN+2147483647"] {
            assert_eq!(signal(name), None, "{name}");
        }
    }
}
