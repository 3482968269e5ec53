//! The committed artefacts in `abi/`: what the Rust side knows of the contracts without a compiler.
//!
//! Each contract is compiled for itself, from exactly the files it imports, by the compiler and with the
//! settings that `foundry.toml` names, so its artefact changes only when its own sources do. The *source
//! hash* in it covers our own files by content and a library by its pin in `package-lock.json`; it is
//! compared in every `cargo test`, also where no compiler and no libraries are installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use foundry_compilers::{
    Graph, ProjectPathsConfig,
    artifacts::{
        BytecodeObject, CompilerOutput, EvmVersion, Settings, Severity, SolcInput, Source, Sources,
        output_selection::OutputSelection, remappings::Remapping,
    },
    resolver::parse::SolParser,
    solc::{Solc, SolcLanguage},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Contracts with an artefact, and where they live.
const CONTRACTS: [(&str, &str); 3] = [
    ("Registry", "contracts/Registry.sol"),
    ("Payment", "contracts/Payment.sol"),
    ("TestToken", "contracts/mocks/TestToken.sol"),
];

/// Where the artefacts are, from the top of the checkout.
const FOLDER: &str = "abi";

/// Where libraries are, from the top of the checkout.
const LIBRARIES: &str = "node_modules";

const REWRITE: &str = "hint: cargo run -p xtask -- abi";
const SET_UP: &str = "hint: script/setup installs the compiler and the libraries";

/// Keys of `foundry.toml` that do not change what the compiler is given for a contract. A key that is
/// neither here nor read by [`Compiler::read`] is an error, so that none is ignored by accident.
const OTHER_KEYS: [&str; 15] = [
    "additional_compiler_profiles",
    "auto_detect_solc",
    "broadcast",
    "cache_path",
    "fs_permissions",
    "fuzz",
    "ignored_warnings_from",
    "invariant",
    "isolate",
    "libs",
    "lint",
    "offline",
    "out",
    "script",
    "test",
];

/// Compiles every contract and writes its artefact.
pub(crate) fn write(root: &Path) -> Result<String> {
    let mut report = String::new();
    for (name, text) in compile_all(root)? {
        let file = artefact(root, name);
        let changed = fs::read_to_string(&file).ok().as_deref() != Some(&text);
        if changed {
            fs::create_dir_all(root.join(FOLDER))?;
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
        }
        report += &format!(
            "abi: {FOLDER}/{name}.json {}\n",
            if changed { "written" } else { "is up to date" }
        );
    }
    Ok(report)
}

/// Compiles every contract and compares the result with its artefact.
pub(crate) fn check(root: &Path) -> Result<String> {
    let mut differing = Vec::new();
    for (name, text) in compile_all(root)? {
        if fs::read_to_string(artefact(root, name)).ok().as_deref() != Some(&text) {
            differing.push(format!("{FOLDER}/{name}.json"));
        }
    }
    ensure!(
        differing.is_empty(),
        "not what the sources compile to: {}\n{REWRITE}",
        differing.join(", ")
    );
    Ok(format!("abi: {} artefacts match the sources", CONTRACTS.len()))
}

/// Compares the source hashes in the artefacts with the sources, without compiling.
#[cfg(test)]
fn check_source_hashes(root: &Path) -> Result<()> {
    let compiler = Compiler::read(root)?;
    for (name, path) in CONTRACTS {
        let file = artefact(root, name);
        let text = fs::read_to_string(&file)
            .with_context(|| format!("reading {}\n{REWRITE}", file.display()))?;
        let committed: Value = serde_json::from_str(&text)?;
        let current = source_hash(root, &Closure::read(root, path, &compiler)?, &compiler)?;
        ensure!(
            committed["sourceHash"] == current,
            "{FOLDER}/{name}.json is older than {path}, its imports, their pins or the settings\n{REWRITE}"
        );
    }
    Ok(())
}

fn artefact(root: &Path, name: &str) -> PathBuf {
    root.join(FOLDER).join(format!("{name}.json"))
}

fn compile_all(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let compiler = Compiler::read(root)?;
    let solc = Solc::new(&compiler.solc)
        .map_err(|error| anyhow!("{} does not run: {error}\n{SET_UP}", compiler.solc.display()))?;
    CONTRACTS
        .into_iter()
        .map(|(name, path)| Ok((name, compile(root, &solc, &compiler, name, path)?)))
        .collect()
}

/// The text of one artefact.
fn compile(
    root: &Path,
    solc: &Solc,
    compiler: &Compiler,
    name: &str,
    path: &str,
) -> Result<String> {
    let closure = Closure::read(root, path, compiler)?;
    ensure!(closure.missing.is_empty(), "not found: {}\n{SET_UP}", closure.missing.join(", "));

    let mut settings = compiler.settings.clone();
    settings.output_selection = serde_json::from_value::<OutputSelection>(
        json!({ path: { name: ["abi", "evm.bytecode.object"] } }),
    )?;
    let input = SolcInput::new(SolcLanguage::Solidity, closure.sources.clone(), settings);
    let output: CompilerOutput = solc.compile(&input).context("the compiler failed")?;
    let errors = output.errors.iter().filter(|error| error.severity == Severity::Error);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    ensure!(errors.is_empty(), "{path} does not compile\n{}", errors.join("\n"));

    let contract = output
        .contracts
        .get(Path::new(path))
        .and_then(|contracts| contracts.get(name))
        .with_context(|| format!("{path} has no contract {name}"))?;
    let abi = contract.abi.as_ref().context("the compiler returned no ABI")?;
    let code = contract.evm.as_ref().and_then(|evm| evm.bytecode.as_ref());
    let bytecode = match code.map(|code| &code.object) {
        Some(BytecodeObject::Bytecode(bytes)) if !bytes.is_empty() => bytes.to_string(),
        _ => bail!("{name} is abstract or needs a linked library"),
    };

    let mut artefact = json!({
        "contractName": name,
        "sourceName": path,
        "compiler": { "version": version(solc), "settings": compiler.described()? },
        "sourceHash": source_hash(root, &closure, compiler)?,
        "abi": abi,
        "bytecode": bytecode,
    });
    // The order of keys must not depend on the features other crates switch on in serde_json.
    artefact.sort_all_objects();
    Ok(serde_json::to_string_pretty(&artefact)? + "\n")
}

/// The compiler's version without the platform it was built for.
fn version(solc: &Solc) -> String {
    let version = solc.version.to_string();
    version.split('.').take(4).collect::<Vec<_>>().join(".")
}

/// One digest over all that decides the artefact and is known without a compiler.
fn source_hash(root: &Path, closure: &Closure, compiler: &Compiler) -> Result<String> {
    let mut parts =
        vec![("settings".to_owned(), serde_json::to_string(&sorted(compiler.described()?))?)];
    let lock: Value = serde_json::from_str(&fs::read_to_string(root.join("package-lock.json"))?)?;
    let pin = |package: &str| -> Result<(String, String)> {
        let entry = format!("{LIBRARIES}/{package}");
        let integrity = lock["packages"][&entry]["integrity"].as_str();
        Ok((entry, integrity.with_context(|| format!("no pin of {package}"))?.to_owned()))
    };
    parts.push(pin("solc")?);
    for package in &closure.packages {
        parts.push(pin(package)?);
    }
    for (path, source) in closure.sources.iter().filter(|(path, _)| !path.starts_with(LIBRARIES)) {
        parts.push((path.display().to_string(), source.content.to_string()));
    }
    let mut digest = Sha256::new();
    for (name, content) in parts {
        for field in [name, content] {
            digest.update(u64::try_from(field.len())?.to_be_bytes());
            digest.update(field.as_bytes());
        }
    }
    Ok(format!("0x{}", hex::encode(digest.finalize())))
}

fn sorted(mut value: Value) -> Value {
    value.sort_all_objects();
    value
}

/// What `foundry.toml` says about compiling.
#[derive(Debug)]
struct Compiler {
    solc: PathBuf,
    settings: Settings,
    remappings: Vec<Remapping>,
}

impl Compiler {
    fn read(root: &Path) -> Result<Self> {
        let file = root.join("foundry.toml");
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(root, &text).context("foundry.toml")
    }

    fn parse(root: &Path, text: &str) -> Result<Self> {
        let file: toml::Table = toml::from_str(text)?;
        let mut profile = file
            .get("profile")
            .and_then(|profiles| profiles.get("default"))
            .and_then(toml::Value::as_table)
            .context("no [profile.default]")?
            .clone();
        let mut take = |key: &str| profile.remove(key).with_context(|| format!("no key {key}"));

        let solc: PathBuf = take("solc")?.try_into()?;
        // A bare name is searched on the path, anything else is a file in the checkout.
        let solc = if solc.components().count() > 1 { root.join(solc) } else { solc };
        let remappings = take("remappings")?.try_into::<Vec<String>>()?;
        let mut remappings = remappings
            .iter()
            .map(|line| Ok(Remapping::from_str(line)?))
            .collect::<Result<Vec<_>>>()?;
        let mut settings = Settings { remappings: remappings.clone(), ..Settings::default() };
        settings.optimizer.enabled = Some(take("optimizer")?.try_into()?);
        settings.optimizer.runs = Some(take("optimizer_runs")?.try_into()?);
        settings.via_ir = Some(take("via_ir")?.try_into()?);
        let evm = take("evm_version")?.try_into::<String>()?;
        settings.evm_version =
            Some(EvmVersion::from_str(&evm).map_err(|error| anyhow!("evm_version: {error}"))?);
        let hash = take("bytecode_hash")?.try_into::<String>()?;
        let hash = serde_json::from_value::<Settings>(json!({
            "metadata": { "bytecodeHash": hash }
        }));
        settings.metadata = hash.context("bytecode_hash")?.metadata;
        ensure!(take("src")?.as_str() == Some("contracts"), "src is not contracts");

        // Tests may be compiled otherwise, the contracts may not.
        if let Ok(restrictions) = take("compilation_restrictions") {
            let all = restrictions.as_array().context("compilation_restrictions")?;
            let tests = all.iter().filter_map(|one| one.get("paths")?.as_str());
            let tests = tests.filter(|paths| paths.starts_with("tests/"));
            ensure!(tests.count() == all.len(), "compilation_restrictions outside of tests/");
        }

        let unknown: BTreeSet<_> =
            profile.keys().filter(|key| !OTHER_KEYS.contains(&key.as_str())).collect();
        ensure!(unknown.is_empty(), "keys that xtask does not know: {unknown:?}");

        for remapping in &mut remappings {
            remapping.path = root.join(&remapping.path).display().to_string();
        }
        Ok(Self { solc, settings, remappings })
    }

    /// The settings as they stand in an artefact.
    fn described(&self) -> Result<Value> {
        let mut settings = serde_json::to_value(&self.settings)?;
        let fields = settings.as_object_mut().context("settings are an object")?;
        fields.remove("outputSelection");
        Ok(settings)
    }
}

/// A contract's file and all it imports.
#[derive(Debug)]
struct Closure {
    /// By path from the top of the checkout.
    sources: Sources,
    /// Packages under [`LIBRARIES`] that our own files import from.
    packages: BTreeSet<String>,
    /// Imports that were not found, as written.
    missing: Vec<String>,
}

impl Closure {
    fn read(root: &Path, path: &str, compiler: &Compiler) -> Result<Self> {
        let paths = ProjectPathsConfig::builder()
            .sources(root.join("contracts"))
            .lib(root.join(LIBRARIES))
            .remappings(compiler.remappings.clone())
            .build_with_root::<SolcLanguage>(root);
        let first = root.join(path);
        let start = Sources::from([(first.clone(), Source::read(&first)?)]);
        let graph = Graph::<SolParser>::resolve_sources(&paths, start)?;

        let mut closure =
            Self { sources: Sources::new(), packages: BTreeSet::new(), missing: Vec::new() };
        for node in graph.files().values().map(|index| graph.node(*index)) {
            let (file, source) = node.unpack();
            let name = file
                .strip_prefix(root)
                .with_context(|| format!("{} is outside of the checkout", file.display()))?;
            if !name.starts_with(LIBRARIES) {
                let imports = node.data.imports.iter().map(|import| import.data().path());
                closure.packages.extend(imports.filter_map(package));
            }
            closure.sources.insert(name.to_owned(), source.clone());
        }
        let (_, edges) = graph.into_sources();
        for (import, importer) in edges.unresolved_imports() {
            closure.missing.push(format!("{} (in {})", import.display(), importer.display()));
        }
        closure.missing.sort();
        Ok(closure)
    }
}

/// The package an import names: none for a file beside the importer.
fn package(import: &Path) -> Option<String> {
    let parts: Vec<_> = import.iter().map(|part| part.to_string_lossy()).collect();
    match parts.as_slice() {
        [first, ..] if first.starts_with('.') => None,
        [scope, name, ..] if scope.starts_with('@') => Some(format!("{scope}/{name}")),
        [name, ..] => Some(name.to_string()),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUNDRY: &str = r#"
        [profile.default]
        src = "contracts"
        solc = "script/solc"
        remappings = ["@openzeppelin/=node_modules/@openzeppelin/"]
        optimizer = true
        optimizer_runs = 10_000
        via_ir = true
        evm_version = "osaka"
        bytecode_hash = "none"
        offline = true
    "#;

    #[test]
    fn committed_artefacts_were_made_from_the_current_sources() {
        check_source_hashes(&crate::root().unwrap()).unwrap();
    }

    #[test]
    fn settings_come_from_foundry_toml() {
        let compiler = Compiler::parse(Path::new("top"), FOUNDRY).unwrap();
        assert_eq!(compiler.solc, Path::new("top/script/solc"));
        let settings = compiler.described().unwrap();
        assert_eq!(settings["optimizer"], json!({ "enabled": true, "runs": 10_000 }));
        assert_eq!(settings["viaIR"], true);
        assert_eq!(settings["evmVersion"], "osaka");
        assert_eq!(settings["metadata"], json!({ "bytecodeHash": "none" }));
        assert_eq!(settings["remappings"], json!(["@openzeppelin/=node_modules/@openzeppelin/"]));
    }

    #[test]
    fn a_key_of_foundry_toml_that_is_not_known_is_an_error() {
        let text = format!("{FOUNDRY}\nextra_output = []");
        let error = Compiler::parse(Path::new("top"), &text).unwrap_err();
        assert!(error.to_string().contains("extra_output"), "{error}");
    }

    #[test]
    fn only_tests_may_be_compiled_otherwise() {
        let with = |paths: &str| {
            let rule = format!(r#"[{{ paths = "{paths}", via_ir = false }}]"#);
            Compiler::parse(
                Path::new("top"),
                &format!("{FOUNDRY}\ncompilation_restrictions = {rule}"),
            )
        };
        assert!(with("tests/contracts/*.t.sol").is_ok());
        assert!(with("contracts/Payment.sol").is_err());
    }

    #[test]
    fn packages_are_told_from_neighbours() {
        let named = |import: &str| package(Path::new(import));
        assert_eq!(named("@openzeppelin/contracts/a.sol").unwrap(), "@openzeppelin/contracts");
        assert_eq!(named("solady/src/a.sol").unwrap(), "solady");
        assert_eq!(named("./a.sol"), None);
        assert_eq!(named("../interfaces/a.sol"), None);
    }
}
