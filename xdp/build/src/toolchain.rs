//! Which compiler makes BPF here.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::linker::in_path;

/// `debian` or `nightly`: takes that toolchain and no other.
pub(crate) const TOOLCHAIN_ENV: &str = "SLUICE_BPF_TOOLCHAIN";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

/// A compiler with a `core` for `bpfel-unknown-none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// Debian's stable compiler, which has a prebuilt `core` for BPF in a package of its own.
    Debian,
    /// rustup's nightly, which builds `core` from rust-src. rustup ships no `core` for this target.
    Nightly {
        /// Where the toolchain lies; its cargo and rustc are in `bin`.
        sysroot: PathBuf,
    },
}

/// No compiler for BPF.
#[derive(Debug, thiserror::Error)]
pub enum FindToolchainError {
    /// `$SLUICE_BPF_TOOLCHAIN` is neither of the two words.
    #[error("$SLUICE_BPF_TOOLCHAIN is `{0}`; it takes `debian` or `nightly`")]
    UnknownName(String),
    /// Neither toolchain is complete.
    #[error(
        "no Rust compiler for BPF: {debian}; {nightly}.\n\
         Run `./dev setup`, or install one of:\n  \
         Debian: apt install rustc-web cargo-web libstd-rust-web-dev-bpf rust-web-llvm\n  \
         rustup: rustup toolchain install nightly --component rust-src"
    )]
    Missing {
        /// What Debian's lacks.
        debian: String,
        /// What rustup's lacks.
        nightly: String,
    },
}

// === impl Toolchain ===

impl Toolchain {
    /// Debian's where it is complete, else rustup's nightly with rust-src.
    ///
    /// # Errors
    /// When neither is there; the text says what each lacks and how to install it.
    pub fn find() -> Result<Self, FindToolchainError> {
        let wanted = env::var(TOOLCHAIN_ENV).ok().filter(|value| !value.is_empty());
        let (debian, nightly) = match wanted.as_deref() {
            None => (debian(), None),
            Some("debian") => (debian(), Some(Err("rustup's is not asked for".to_owned()))),
            Some("nightly") => (Err("Debian's is not asked for".to_owned()), None),
            Some(other) => return Err(FindToolchainError::UnknownName(other.to_owned())),
        };
        debian.or_else(|debian| {
            nightly
                .unwrap_or_else(rustup_nightly)
                .map_err(|nightly| FindToolchainError::Missing { debian, nightly })
        })
    }

    /// A cargo command of this toolchain, without arguments.
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                // aya-ebpf's inline assembly is behind a feature gate; the switch opens it for that crate alone, so
                // our own stays on stable features.
                command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "aya_ebpf");
                command
            }
            Self::Nightly { sysroot } => {
                // Both named outright: another rustc in front of rustup's in $PATH would be taken for nightly's.
                let mut command = Command::new(sysroot.join("bin/cargo"));
                command.env("RUSTC", sysroot.join("bin/rustc"));
                command
            }
        }
    }

    /// Flags for `cargo build` beyond the common ones.
    pub(crate) fn build_args(&self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[],
            Self::Nightly { .. } => &["-Zbuild-std=core"],
        }
    }
}

fn debian() -> Result<Toolchain, String> {
    for file in [DEBIAN_RUSTC, DEBIAN_CARGO] {
        if !Path::new(file).is_file() {
            return Err(format!("Debian's is not there ({file} is missing)"));
        }
    }
    let libdir = output(Command::new(DEBIAN_RUSTC).args([
        "--print",
        "target-libdir",
        "--target",
        "bpfel-unknown-none",
    ]))?;
    let has_core = Path::new(&libdir).read_dir().is_ok_and(|entries| {
        entries
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        Ok(Toolchain::Debian)
    } else {
        Err(format!("{DEBIAN_RUSTC} has no core for bpfel-unknown-none"))
    }
}

fn rustup_nightly() -> Result<Toolchain, String> {
    let rustup = in_path("rustup").ok_or("rustup is not in $PATH")?;
    let mut command = Command::new(&rustup);
    let rustc = output(command.args(["which", "--toolchain", "nightly", "rustc"]))
        .map_err(|_| "rustup has no nightly toolchain")?;
    let sysroot = Path::new(&rustc).ancestors().nth(2).ok_or("rustup's nightly has no sysroot")?;
    if sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        Ok(Toolchain::Nightly { sysroot: sysroot.to_owned() })
    } else {
        Err("rustup's nightly has no rust-src".to_owned())
    }
}

/// Standard output of a command that succeeds, trimmed.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    // rustup's proxies obey this variable, which an outer cargo of rustup sets.
    let output =
        command.env_remove("RUSTUP_TOOLCHAIN").output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
