//! The nested cargo.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::{env, fs, io};

use crate::toolchain::Toolchain;

/// The only target: every machine we run on is little endian.
const TARGET: &str = "bpfel-unknown-none";

/// Third version of the instruction set (Linux 5.1): 32-bit registers and compares. The fourth needs 6.6, which
/// Debian 12 does not have.
const CPU: &str = "v3";

/// What to build, where, with what.
pub(crate) struct Job {
    pub(crate) crate_dir: PathBuf,
    pub(crate) out_dir: PathBuf,
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

/// The nested build did not deliver.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// cargo could not be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// The executable.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// cargo ran and failed; its own messages stand above.
    #[error("cargo failed in {dir} ({status}){hint}", hint = llvm_hint(*.nightly))]
    Failed {
        /// The BPF crate.
        dir: PathBuf,
        /// cargo's exit status.
        status: ExitStatus,
        /// Built with rustup's nightly.
        nightly: bool,
    },
    /// cargo succeeded without making this binary.
    #[error("cannot copy {from} to {to}: {source}")]
    Copy {
        /// cargo's artefact.
        from: PathBuf,
        /// The object in `OUT_DIR`.
        to: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Builds and copies; returns the objects in the order of `bins`.
pub(crate) fn compile(job: &Job, bins: &[&str]) -> Result<Vec<PathBuf>, CompileError> {
    // Below OUT_DIR, never the outer target directory: the outer cargo holds its lock while we run.
    let target_dir = job.out_dir.join("bpf-target");
    let mut command = command(job, bins, &target_dir);
    let status = command.status().map_err(|source| CompileError::Spawn {
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if !status.success() {
        let nightly = matches!(job.toolchain, Toolchain::Nightly { .. });
        return Err(CompileError::Failed { dir: job.crate_dir.clone(), status, nightly });
    }
    let release_dir = target_dir.join(TARGET).join("release");
    bins.iter().map(|bin| collect(job, &release_dir, bin)).collect()
}

fn command(job: &Job, bins: &[&str], target_dir: &Path) -> Command {
    let mut command = job.toolchain.cargo();
    let chosen: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for (name, _) in env::vars_os() {
        if belongs_to_outer_build(&name) && !chosen.contains(&name) {
            command.env_remove(name);
        }
    }
    command.current_dir(&job.crate_dir).args(["build", "--release", "--target", TARGET]);
    command.args(job.toolchain.build_args()).arg("--target-dir").arg(target_dir);
    if job.crate_dir.join("Cargo.lock").is_file() {
        command.arg("--locked");
    }
    for bin in bins {
        command.args(["--bin", bin]);
    }
    let linker = format!("-Clinker={}", job.linker.display());
    let cpu = format!("-Ctarget-cpu={CPU}");
    let outer = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut flags = vec![
        linker.as_str(),
        cpu.as_str(),
        "-Clink-arg=--btf",
        // Debug information is where bpf-linker takes the BTF from.
        "-Cdebuginfo=2",
        // Headers in a frame lie at odd offsets; every machine we run on loads them whole all the same, and without
        // this each load is assembled byte by byte.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
        // By default the linker expands only memcpy in place and calls a loop over bytes for memset and memmove.
        "-Clink-arg=--disable-expand-memcpy-in-order",
    ];
    flags.extend(remaps(&outer));
    // What lies beside the crate is its own matter: the outer flags must not differ from one checkout to the next.
    let beside = job.crate_dir.parent().filter(|_| remaps(&outer).next().is_some());
    let beside = beside.map(|dir| format!("--remap-path-prefix={}=/bpf", dir.display()));
    flags.extend(beside.as_deref());
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command
}

/// Of the outer build's flags (separated as cargo does it) those that replace paths: the object's BTF names its sources,
/// and what ships must not tell where it was built.
fn remaps(outer: &str) -> impl Iterator<Item = &str> {
    outer.split('\x1f').filter(|flag| flag.starts_with("--remap-path-prefix="))
}

/// Variables that cargo (or its user, for the host) sets for the outer build and that would change the nested one.
/// Where crates come from and how the network is reached stays.
fn belongs_to_outer_build(name: &OsStr) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const STRIPPED: [&str; 5] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    const EXACT: [&str; 5] = ["MAKEFLAGS", "MFLAGS", "OUT_DIR", "TARGET", "DEBUG"];
    let name = name.to_string_lossy();
    let starts = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    !starts(&KEPT) && (starts(&STRIPPED) || EXACT.contains(&name.as_ref()))
}

/// Copies one artefact to `OUT_DIR` and tells cargo which files it was made of.
fn collect(job: &Job, release_dir: &Path, bin: &str) -> Result<PathBuf, CompileError> {
    let from = release_dir.join(bin);
    let to = job.out_dir.join(format!("{bin}.o"));
    fs::copy(&from, &to).map_err(|source| CompileError::Copy { from, to: to.clone(), source })?;
    // The dependency file also lists path dependencies, such as the ABI crate.
    if let Ok(dependencies) = fs::read_to_string(release_dir.join(format!("{bin}.d"))) {
        for source in sources(&dependencies) {
            println!("cargo::rerun-if-changed={source}");
        }
    }
    Ok(to)
}

/// The right-hand sides of a Makefile-style dependency file: `target: a b\ c` is `a` and `b c`.
fn sources(dependencies: &str) -> Vec<String> {
    const ESCAPED_SPACE: &str = "\\ ";
    let right_hand_sides = dependencies.lines().filter_map(|line| line.split_once(": "));
    right_hand_sides
        .flat_map(|(_, right)| {
            let right = right.replace(ESCAPED_SPACE, "\0");
            right.split_whitespace().map(|path| path.replace('\0', " ")).collect::<Vec<_>>()
        })
        .collect()
}

fn llvm_hint(nightly: bool) -> &'static str {
    if nightly {
        "\nIf the linker could not read the bitcode, bpf-linker was built with an older LLVM than nightly's: \
         rebuild it against the LLVM that `rustc +nightly -vV` names."
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_build_leaves_no_trace_but_registries_stay() {
        for name in
            ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_TARGET_DIR", "CARGO"]
        {
            assert!(belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_REGISTRIES_X_INDEX", "CARGO_HTTP_PROXY", "PATH", "RUSTUP_HOME"]
        {
            assert!(!belongs_to_outer_build(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn only_replaced_paths_are_inherited() {
        let outer = "-Cstrip=symbols\x1f--remap-path-prefix=/a b=/c\x1f--remap-path-prefix=/d=/e";
        let inherited: Vec<_> = remaps(outer).collect();
        assert_eq!(inherited, ["--remap-path-prefix=/a b=/c", "--remap-path-prefix=/d=/e"]);
        assert_eq!(remaps("").count(), 0);
    }

    #[test]
    fn dependency_files_give_sources_with_spaces() {
        let text = "/t/bin: /a/main.rs /b\\ c/lib.rs\n";
        assert_eq!(sources(text), ["/a/main.rs", "/b c/lib.rs"]);
    }
}
