//! Where bpf-linker lies.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Names the linker outright.
pub(crate) const LINKER_ENV: &str = "BPF_LINKER";
/// Moves the directory where `./dev` keeps the tools it builds.
pub(crate) const CACHE_ENV: &str = "SLUICE_CACHE";

const NAME: &str = "bpf-linker";

/// No linker for BPF objects.
#[derive(Debug, thiserror::Error)]
pub enum FindLinkerError {
    /// `$BPF_LINKER` names something that is not there.
    #[error("$BPF_LINKER is {0}, and there is no such file")]
    Named(PathBuf),
    /// Nowhere to be found.
    #[error(
        "bpf-linker is missing: neither $BPF_LINKER, nor $PATH, nor {tools}/bpf-linker-*/bin has it.\n\
         Run `./dev setup`, or build it on Debian with:\n  \
         apt install cargo-web rustc-web llvm-22-dev libpolly-22-dev\n  \
         LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 LLVM_PREFIX=/usr/lib/llvm-22 \\\n    \
         cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22\n\
         Elsewhere: `cargo install bpf-linker`."
    )]
    Missing {
        /// The directory searched for tools built by `./dev`.
        tools: PathBuf,
    },
}

/// `$BPF_LINKER`, else the first in `$PATH`, else the newest of `./dev`'s own.
pub(crate) fn find() -> Result<PathBuf, FindLinkerError> {
    if let Some(named) = env::var_os(LINKER_ENV).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() { Ok(named) } else { Err(FindLinkerError::Named(named)) };
    }
    let tools = cache_dir(env::var_os(CACHE_ENV), env::var_os("HOME")).join("tools");
    in_path(NAME).or_else(|| in_tools(&tools)).ok_or(FindLinkerError::Missing { tools })
}

/// The first file of this name in the directories of `$PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn cache_dir(cache: Option<OsString>, home: Option<OsString>) -> PathBuf {
    match cache.filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(home.unwrap_or_default()).join(".cache/sluice"),
    }
}

/// `tools/bpf-linker-<version>-<llvm>/bin/bpf-linker`, the last by name.
fn in_tools(tools: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = tools
        .read_dir()
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("bpf-linker-"))
        .map(|entry| entry.path().join("bin").join(NAME))
        .filter(|file| file.is_file())
        .collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_dir_prefers_the_variable_and_ignores_an_empty_one() {
        assert_eq!(cache_dir(Some("/c".into()), Some("/h".into())), Path::new("/c"));
        assert_eq!(cache_dir(Some("".into()), Some("/h".into())), Path::new("/h/.cache/sluice"));
        assert_eq!(cache_dir(None, Some("/h".into())), Path::new("/h/.cache/sluice"));
    }

    #[test]
    fn tools_of_the_highest_version_win() {
        let tools = env::temp_dir().join(format!("sluice-linker-{}", std::process::id()));
        for version in ["0.12.0-llvm-21", "0.13.0-llvm-22"] {
            let bin = tools.join(format!("bpf-linker-{version}")).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join(NAME), "").unwrap();
        }
        let found = in_tools(&tools);
        std::fs::remove_dir_all(&tools).unwrap();
        assert_eq!(found, Some(tools.join("bpf-linker-0.13.0-llvm-22/bin/bpf-linker")));
    }

    #[test]
    fn no_tools_directory_is_no_linker() {
        assert_eq!(in_tools(Path::new("/nonexistent/tools")), None);
    }
}
