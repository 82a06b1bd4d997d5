//! What `./dev image` has built, and what is made from it for a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::lab::run;

/// The key and the certificate that OVMF's variables for tests trust; its password is in its name.
const SNAKEOIL: &str = "/usr/share/ovmf/PkKek-1-snakeoil";

/// Where the state partition begins, as the documentation has it.
const STATE_AT: u32 = 269_484_032;

/// The files of one image.
#[derive(Clone, Debug)]
pub struct Artefacts {
    dir: PathBuf,
    name: String,
}

impl Artefacts {
    /// The image that `./dev` has built: `$SLUICE_IMAGE`, or else the last one in the cache.
    ///
    /// # Errors
    /// When there is none; says how to build it.
    pub fn find() -> Result<Self> {
        let dir = directory().context("no image is built: run `./dev image`")?;
        let sums = std::fs::read_dir(&dir)
            .with_context(|| format!("no image in {}: run `./dev image`", dir.display()))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find_map(|name| name.strip_suffix(".SHA256SUMS").map(str::to_owned));
        let name = sums.with_context(|| format!("{} holds no image", dir.display()))?;
        Ok(Self { dir, name })
    }

    /// One of the files, by what its name ends with: `qcow2`, `efi`, `vmlinuz`, `initrd`.
    pub fn file(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.name))
    }

    /// The sums over all files.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn sums(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.file("SHA256SUMS"))?)
    }

    /// The same image once more, in this directory: from the recipe, the binary that is in the image, and the same packages.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn build_again(&self, dir: &Path) -> Result<Self> {
        let shell = |script: &str, arguments: &[&Path]| {
            run(Command::new("sh").args(["-euc", script, "sh"]).args(arguments))
        };
        let unpack = "cd \"$1\"; cpio --quiet -i root.squashfs <\"$2\"; unsquashfs -q -n -d root root.squashfs usr/bin/sluice";
        shell(unpack, &[dir, &std::fs::canonicalize(self.file("initrd"))?])?;
        let image = dir.join("image");
        std::fs::create_dir(&image)?;
        shell("ln -s \"$1\"/packages-* \"$2\"", &[&cache(), &image])?;
        let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../vm-images/build");
        let built = run(Command::new(recipe)
            .arg(dir.join("root/usr/bin/sluice"))
            .env("SLUICE_CACHE", dir)
            .env("SLUICE_UPDATE_KEY", update_key()))?;
        let dir = PathBuf::from(built.trim());
        ensure!(dir.is_dir(), "vm-images/build gave no directory but {built:?}");
        Ok(Self { dir, name: self.name.clone() })
    }

    /// One of the files for the laboratory's guest: `initrd`, `modules`.
    pub fn lab(&self, name: &str) -> PathBuf {
        self.dir.join("lab").join(name)
    }

    /// The version in the name.
    pub fn version(&self) -> &str {
        self.name.split('-').nth(1).unwrap_or("")
    }

    /// A disk for one machine, which keeps what differs from the image.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn disk(&self, path: &Path) -> Result<PathBuf> {
        overlay("qcow2", &std::fs::canonicalize(self.file("qcow2"))?, path)
    }

    /// A disk whose boot loader and system are signed for [`Firmware::SecureBoot`](super::Firmware::SecureBoot), as somebody
    /// with a key of his own does it, and with this file of the configuration on its state partition.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn signed_disk(&self, path: &Path, (name, content): (&str, &str)) -> Result<PathBuf> {
        let raw = path.with_extension("raw");
        run(Command::new("qemu-img")
            .args(["convert", "-O", "raw"])
            .arg(self.file("qcow2"))
            .arg(&raw))?;
        let key = path.with_extension("key");
        run(Command::new("openssl")
            .args(["pkey", "-in", &format!("{SNAKEOIL}.key"), "-passin", "pass:snakeoil", "-out"])
            .arg(&key))?;
        // The EFI system partition begins at the first mebibyte.
        let partition = format!("{}@@1M", raw.display());
        let system = format!("::/EFI/Linux/sluice_{}.efi", self.version());
        for file in ["::/EFI/BOOT/BOOTX64.EFI", "::/EFI/systemd/systemd-bootx64.efi", &system] {
            let signed = path.with_extension("efi");
            run(Command::new("mcopy").args(["-n", "-o", "-i", &partition, file]).arg(&signed))?;
            run(Command::new("sbsign")
                .args(["--cert", &format!("{SNAKEOIL}.pem"), "--key"])
                .arg(&key)
                .arg("--output")
                .args([&signed, &signed]))?;
            run(Command::new("mcopy").args(["-o", "-i", &partition]).arg(&signed).arg(file))?;
        }
        let file = path.with_extension("state");
        std::fs::write(&file, content)?;
        run(Command::new("debugfs")
            .args(["-w", "-R", &format!("write {} etc/{name}", file.display())])
            .arg(format!("{}?offset={STATE_AT}", raw.display())))?;
        overlay("raw", &raw, path)
    }

    /// An update as somebody else would have built it: this system, called another version by the boot loader and perhaps
    /// with another command line, signed with the key of this machine. Returns its path; the signature lies beside it.
    ///
    /// # Errors
    /// When a tool fails.
    pub fn update(&self, dir: &Path, version: &str, command_line: Option<&str>) -> Result<PathBuf> {
        let section = |name: &str, content: String| -> Result<String> {
            let path = dir.join(format!("update{name}"));
            // A section keeps its length in memory: what is longer would be cut off.
            let room = run(Command::new("objdump").args(["-h", "-j", name]).arg(self.file("efi")))?;
            let size = room
                .lines()
                .find(|line| line.contains(name))
                .and_then(|line| line.split_whitespace().nth(2));
            let size = usize::from_str_radix(size.context("objdump names no size")?, 16)?;
            ensure!(
                content.len() <= size,
                "{} octets of {name} do not fit into {size}",
                content.len()
            );
            std::fs::write(&path, format!("{content:size$}"))?;
            Ok(format!("{name}={}", path.display()))
        };
        let release = format!(
            "ID=sluice\nNAME=Sluice\nPRETTY_NAME=\"Sluice {version}\"\nVERSION_ID={version}\nIMAGE_ID=sluice\nIMAGE_VERSION={version}\n"
        );
        let path = dir.join(format!("sluice-{version}-amd64.efi"));
        let mut objcopy = Command::new("objcopy");
        objcopy.arg("--update-section").arg(section(".osrel", release)?);
        if let Some(line) = command_line {
            objcopy.arg("--update-section").arg(section(".cmdline", line.to_owned())?);
        }
        run(objcopy.arg(self.file("efi")).arg(&path))?;
        run(Command::new("minisign")
            .args(["-S", "-W", "-q", "-s"])
            .arg(update_key())
            .arg("-m")
            .arg(&path)
            .arg("-x")
            .arg(path.with_extension("efi.minisig")))?;
        Ok(path)
    }
}

/// A disk labelled CIDATA with these files.
///
/// # Errors
/// When it cannot be made.
pub fn seed(path: &Path, files: &[(&str, String)]) -> Result<PathBuf> {
    let content = path.with_extension("d");
    std::fs::create_dir_all(&content)?;
    for (name, text) in files {
        std::fs::write(content.join(name), text)?;
    }
    run(Command::new("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-V", "CIDATA", "-J", "-r", "-o"])
        .arg(path)
        .arg(&content))?;
    Ok(path.to_owned())
}

/// A disk that keeps what differs from another one of this format.
fn overlay(format: &str, below: &Path, path: &Path) -> Result<PathBuf> {
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", format, "-b"])
        .args([below, path]))?;
    Ok(path.to_owned())
}

/// Who signs updates for the image.
fn update_key() -> PathBuf {
    std::env::var_os("SLUICE_UPDATE_KEY").map_or_else(|| cache().join("update.key"), PathBuf::from)
}

fn directory() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("SLUICE_IMAGE") {
        return Some(PathBuf::from(path));
    }
    let current = cache().join("current");
    current.exists().then_some(current)
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/sluice");
    std::env::var_os("SLUICE_CACHE").map_or_else(home, PathBuf::from).join("image")
}
