//! Builds the demonstration's service as a static program, with nothing but the compiler and the linker that build
//! everything else: it uses no library, so none has to be there for static linking.
//!
//! Where the service's system calls are not known, an empty file takes its place.

use std::{
    env,
    error::Error,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = "service/main.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let program = PathBuf::from(given("OUT_DIR")?).join("service");
    let (system, machine) = (given("CARGO_CFG_TARGET_OS")?, given("CARGO_CFG_TARGET_ARCH")?);
    let known = system == "linux" && (machine == "x86_64" || machine == "aarch64");
    if known { compile(&program) } else { Ok(fs::write(program, [])?) }
}

fn compile(program: &Path) -> Result<(), Box<dyn Error>> {
    let mut compiler = Command::new(given("RUSTC")?);
    compiler
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=service"])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles", "-Clink-arg=-static"])
        .arg("-Clink-arg=-Wl,--build-id=none")
        .arg("--target")
        .arg(given("TARGET")?)
        .arg("-o")
        .arg(program)
        .arg(SOURCE)
        // Flags for the workspace, such as instrumentation, need the libraries that this does without.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = OsString::from("-Clinker=");
        flag.push(linker);
        compiler.arg(flag);
    }
    let status = compiler.status()?;
    if status.success() { Ok(()) } else { Err(format!("{SOURCE}: {status}").into()) }
}

fn given(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo sets no {name}"))
}
