//! Compiles a crate of BPF programs from a `build.rs`.
//!
//! A BPF crate has its own target (`bpfel-unknown-none`), its own lock file and its own linker, so the outer cargo
//! cannot build it as a dependency. This crate finds a compiler that can (see [`Toolchain`]), runs a nested cargo that
//! inherits nothing of the outer build, and copies the objects to `OUT_DIR`. It never downloads or installs anything:
//! what is missing is named, with the command that brings it.
//!
//! ```no_run
//! // build.rs: makes OUT_DIR/sluice-xdp.o from the `[[bin]] name = "sluice-xdp"` of ./ebpf
//! sluice_ebpf_build::run("ebpf", &["sluice-xdp"]);
//! ```

mod linker;
mod nested;
mod toolchain;

use std::path::{Path, PathBuf};

pub use linker::FindLinkerError;
pub use nested::CompileError;
pub use toolchain::{FindToolchainError, Toolchain};

/// Why no object came out.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Called from elsewhere than a build script.
    #[error("{0} is not set; this is for build scripts run by cargo")]
    NotABuildScript(&'static str),
    /// The crate of BPF programs is not where the caller says.
    #[error("there is no Cargo.toml in {0}")]
    NoSuchCrate(PathBuf),
    /// No compiler here can make BPF.
    #[error(transparent)]
    Toolchain(#[from] FindToolchainError),
    /// No bpf-linker here.
    #[error(transparent)]
    Linker(#[from] FindLinkerError),
    /// The nested cargo failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Compiles `bins` of the crate in `crate_dir` (relative to the calling package) into `OUT_DIR/<bin>.o`, and tells
/// cargo when to do it again. Ends the build script with a readable message when that fails.
pub fn run(crate_dir: impl AsRef<Path>, bins: &[&str]) {
    if let Err(error) = compile(crate_dir.as_ref(), bins) {
        eprintln!("error: cannot build the BPF programs in {}", crate_dir.as_ref().display());
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// As [`run`], for a build script that wants the error. Returns the paths of the objects in the order of `bins`.
///
/// # Errors
/// When a tool is missing (the text says what to install) or the nested build fails.
pub fn compile(crate_dir: &Path, bins: &[&str]) -> Result<Vec<PathBuf>, BuildError> {
    let manifest_dir = dir_from_env("CARGO_MANIFEST_DIR")?;
    let out_dir = dir_from_env("OUT_DIR")?;
    let crate_dir = manifest_dir.join(crate_dir);
    for path in ["Cargo.toml", "Cargo.lock", "src"] {
        println!("cargo::rerun-if-changed={}", crate_dir.join(path).display());
    }
    for variable in [linker::LINKER_ENV, linker::CACHE_ENV, toolchain::TOOLCHAIN_ENV] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if !crate_dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoSuchCrate(crate_dir));
    }
    let toolchain = Toolchain::find()?;
    let linker = linker::find()?;
    Ok(nested::compile(&nested::Job { crate_dir, out_dir, toolchain, linker }, bins)?)
}

fn dir_from_env(name: &'static str) -> Result<PathBuf, BuildError> {
    std::env::var_os(name).map(PathBuf::from).ok_or(BuildError::NotABuildScript(name))
}
