//! Benchmarks. `demo` runs the demonstration of a release build with every set of parts that is present
//! and compares its stages.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::MetadataCommand;
use serde_json::{Value, json};

/// Every benchmark with a line about it.
const BENCHMARKS: [(&str, &str); 1] =
    [("demo", "the stages of the demonstration on every set of parts present (builds a release)")];

/// A set of parts for the demonstration.
struct Set {
    name: &'static str,
    arguments: &'static [&'static str],
    needs: &'static [Part],
}

/// What a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Anvil,
    Docker,
    Kubo,
    /// Containers of the embedded engine need it.
    Root,
}

/// The embedded parts first: the others are compared with them. Then each other part by itself, then all of them.
const SETS: [Set; 5] = [
    Set { name: "all embedded", arguments: &[], needs: &[Part::Root] },
    Set {
        name: "chain anvil",
        arguments: &["--chain", "anvil"],
        needs: &[Part::Root, Part::Anvil],
    },
    Set { name: "store kubo", arguments: &["--store", "kubo"], needs: &[Part::Root, Part::Kubo] },
    Set { name: "engine docker", arguments: &["--engine", "docker"], needs: &[Part::Docker] },
    Set {
        name: "none embedded",
        arguments: &["--chain", "anvil", "--store", "kubo", "--engine", "docker"],
        needs: &[Part::Anvil, Part::Kubo, Part::Docker],
    },
];

/// What chooses parts from outside of the command line.
const CHOOSERS: [&str; 3] = ["ROADSTEAD_CHAIN", "ROADSTEAD_STORE", "ROADSTEAD_ENGINE"];

/// Stages in the order they happen; others stand behind them.
const STAGES: [&str; 9] = [
    "market",
    "register",
    "seal",
    "publish",
    "open",
    "deploy",
    "first_response",
    "metering",
    "close",
];

/// Runs the benchmark of that name, or lists all.
pub(crate) fn run(root: &Path, name: Option<&str>, as_json: bool) -> Result<String> {
    match name {
        None if as_json => {
            Ok(json!({ "benchmarks": BENCHMARKS.map(|(name, _)| name) }).to_string())
        }
        None => Ok(BENCHMARKS.iter().map(|(name, about)| format!("{name:<8} {about}\n")).collect()),
        Some("demo") => demo(root, as_json),
        Some(other) => bail!("no benchmark {other}\nhint: without a name, all are listed"),
    }
}

/// The stages of one run, in the order of [`STAGES`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stages {
    set: &'static str,
    stages: Vec<(String, u64)>,
}

impl Stages {
    fn of(&self, stage: &str) -> Option<u64> {
        self.stages.iter().find(|(name, _)| name == stage).map(|(_, time)| *time)
    }

    fn total(&self) -> u64 {
        self.stages.iter().map(|(_, time)| time).sum()
    }
}

fn demo(root: &Path, as_json: bool) -> Result<String> {
    let binary = build(root)?;
    let (mut runs, mut absent) = (Vec::new(), Vec::new());
    for Set { name, arguments, needs } in SETS {
        let missing: Vec<_> =
            needs.iter().filter(|part| !part.is_present()).map(|part| part.name()).collect();
        if missing.is_empty() {
            runs.push(Stages { set: name, stages: stages(&binary, arguments)? });
        } else {
            absent.push(format!("{name} (no {})", missing.join(", no ")));
        }
    }
    ensure!(!runs.is_empty(), "not one set of parts is whole: {}", absent.join("; "));
    Ok(if as_json { object(&runs, &absent).to_string() } else { table(&runs, &absent) })
}

/// Builds the command as its users get it; cargo's own words go to standard error.
fn build(root: &Path) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--release", "--locked", "--package", "roadstead-cli"])
        .current_dir(root)
        .stdout(Stdio::null())
        .status()
        .context("cargo")?;
    ensure!(status.success(), "the release build failed");
    let metadata =
        MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let binary = metadata.target_directory.join("release").join("roadstead").into_std_path_buf();
    ensure!(fs::exists(&binary)?, "the build made no {}", binary.display());
    Ok(binary)
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Anvil => "anvil",
            Self::Docker => "docker daemon",
            Self::Kubo => "kubo",
            Self::Root => "root",
        }
    }

    fn is_present(self) -> bool {
        match self {
            Self::Anvil => succeeds("anvil".as_ref(), &["--version"]),
            // It asks the daemon as well.
            Self::Docker => succeeds("docker".as_ref(), &["version"]),
            Self::Kubo => {
                let program = env::var_os("KUBO_BINARY").unwrap_or_else(|| "ipfs".into());
                succeeds(&program, &["version"])
            }
            Self::Root => fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0),
        }
    }
}

fn succeeds(program: &OsStr, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the demonstration once.
fn stages(binary: &Path, arguments: &[&str]) -> Result<Vec<(String, u64)>> {
    let mut command = Command::new(binary);
    for variable in CHOOSERS {
        command.env_remove(variable);
    }
    let output = command
        .args(["demo", "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}", binary.display()))?;
    ensure!(output.status.success(), "demo {} failed: {}", arguments.join(" "), output.status);
    let text = String::from_utf8(output.stdout).context("the output of the demonstration")?;
    parse(text.lines().last().unwrap_or_default())
}

/// The stages in the last line that the demonstration prints.
fn parse(line: &str) -> Result<Vec<(String, u64)>> {
    let report: Value = serde_json::from_str(line).context("the last line is not JSON")?;
    let timings = report["timings_ms"].as_object().context("the last line has no timings_ms")?;
    let mut stages = timings
        .iter()
        .map(|(stage, time)| {
            let time = time.as_u64().with_context(|| format!("timings_ms.{stage}: {time}"))?;
            Ok((stage.clone(), time))
        })
        .collect::<Result<Vec<_>>>()?;
    sort(&mut stages, |(stage, _)| stage);
    Ok(stages)
}

fn sort<T>(stages: &mut [T], name: impl Fn(&T) -> &str) {
    stages.sort_by_key(|stage| {
        let place = STAGES.iter().position(|known| *known == name(stage));
        place.unwrap_or(STAGES.len())
    });
}

/// How many times longer a run took than the first one.
fn ratio(run: &Stages, first: &Stages) -> Option<f64> {
    let ratio = run.total() as f64 / first.total() as f64;
    ratio.is_finite().then_some((ratio * 100.0).round() / 100.0)
}

fn object(runs: &[Stages], absent: &[String]) -> Value {
    let sets: Vec<Value> = runs
        .iter()
        .map(|run| {
            let timings: serde_json::Map<String, Value> =
                run.stages.iter().map(|(stage, time)| (stage.clone(), json!(time))).collect();
            json!({
                "set": run.set,
                "timings_ms": timings,
                "total_ms": run.total(),
                "ratio": ratio(run, &runs[0]),
            })
        })
        .collect();
    json!({ "benchmark": "demo", "sets": sets, "not_run": absent })
}

/// Stages by sets, in milliseconds.
fn table(runs: &[Stages], absent: &[String]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut text = String::new();
    sort(&mut names, |name| name);
    let mut row = |head: &str, cell: &dyn Fn(&Stages) -> String| {
        let cells: String = runs.iter().map(|run| format!(" {:>16}", cell(run))).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{head:<16}{cells}");
    };
    row("ms", &|run| run.set.to_owned());
    for name in names {
        row(name, &|run| run.of(name).map_or("-".to_owned(), |time| time.to_string()));
    }
    row("total", &|run| run.total().to_string());
    row("ratio", &|run| ratio(run, &runs[0]).map_or("-".to_owned(), |ratio| format!("{ratio:.2}")));
    for set in absent {
        let _ = writeln!(text, "not run: {set}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<Stages> {
        let line = r#"{"job":"0x1","timings_ms":{"close":30,"open":10}}"#;
        let slower = r#"{"timings_ms":{"close":35,"open":10,"market":20}}"#;
        vec![
            Stages { set: "one", stages: parse(line).unwrap() },
            Stages { set: "two", stages: parse(slower).unwrap() },
        ]
    }

    #[test]
    fn stages_stand_beside_each_other() {
        let text = table(&runs(), &["three (no part)".to_owned()]);
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0], ["ms", "one", "two"]);
        assert_eq!(words[1], ["market", "-", "20"], "stages stand in the order they happen");
        assert!(words.contains(&vec!["total", "40", "65"]), "{text}");
        assert!(words.contains(&vec!["ratio", "1.00", "1.63"]), "{text}");
        assert_eq!(words.last().unwrap()[..2], ["not", "run:"]);
    }

    #[test]
    fn each_set_says_what_it_needs_and_the_first_is_what_others_are_compared_with() {
        assert!(SETS[0].arguments.is_empty(), "every part is the default one");
        for Set { name, arguments, needs } in SETS {
            for (argument, part) in
                [("anvil", Part::Anvil), ("kubo", Part::Kubo), ("docker", Part::Docker)]
            {
                assert_eq!(
                    arguments.contains(&argument),
                    needs.contains(&part),
                    "{name}: {argument}"
                );
            }
            assert_eq!(needs.contains(&Part::Root), !needs.contains(&Part::Docker), "{name}");
        }
    }

    #[test]
    fn a_program_that_is_missing_or_fails_is_not_there() {
        assert!(succeeds("true".as_ref(), &[]));
        assert!(!succeeds("false".as_ref(), &[]));
        assert!(!succeeds("/no/such/program".as_ref(), &[]));
    }

    #[test]
    fn the_object_has_the_same_figures() {
        let object = object(&runs(), &[]);
        assert_eq!(object["sets"][1]["total_ms"], 65);
        assert_eq!(object["sets"][1]["ratio"], 1.63);
        assert_eq!(object["sets"][0]["timings_ms"]["open"], 10);
    }

    #[test]
    fn a_report_without_timings_is_an_error() {
        assert!(parse("{}").is_err());
        assert!(parse("done").is_err());
    }
}
