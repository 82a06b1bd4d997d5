//! Where the programs of the laboratory are. `./dev` builds them from `tests/kube`, once.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The directory with `kube`, `criproc`, `labdns`, `agnhost`, `e2e.test`, `kubectl` and `tools/`.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Finds them: `$SLUICE_KUBE`, or what `./dev kube` built last.
    ///
    /// # Errors
    /// When they are not built; says how.
    pub fn find() -> Result<Self> {
        let dir = match std::env::var_os("SLUICE_KUBE") {
            Some(dir) => PathBuf::from(dir),
            None => cache()?.join("kube").join("current"),
        };
        ensure!(
            dir.join("complete").is_file(),
            "the Kubernetes laboratory is not built in {}: run `./dev kube` once",
            dir.display()
        );
        // Containers see the programs by mounts, which follow no link.
        let dir = dir.canonicalize().with_context(|| format!("looking up {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Path of one of them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory that comes first in the PATH of containers.
    pub fn tools(&self) -> PathBuf {
        self.dir.join("tools")
    }

    /// All of them.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn cache() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("SLUICE_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let home = std::env::var_os("HOME").context("neither SLUICE_CACHE nor HOME is set")?;
    Ok(Path::new(&home).join(".cache").join("sluice"))
}
