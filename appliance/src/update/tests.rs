//! Whole updates: real signatures, real files, in directories that look like an ESP.
//!
//! The signatures were made once with minisign 0.11 over the very bytes that `uki::tests` makes, with a key that exists
//! no longer.

use super::uki::tests::{pe, uki};
use super::*;
use crate::scratch::Scratch;
use std::fs;

/// The key that signed.
const KEY: &str =
    "untrusted comment: test key\nRWTkO2TEzUfhX9TbCwqSJ9RrW6buxwJsi235DMMyeYU6z9sbuSQujh0d\n";
/// Another one.
const OTHER_KEY: &str =
    "untrusted comment: test key\nRWTk461w1S88L4wFKzXqEnm/EMJP+7Eij8ZTWXFeOGlelfaPs9A/C8Iw\n";

/// Over `uki("0.1.0")`.
const SIGNED_0_1_0: &str = "\
untrusted comment: test signature
RUTkO2TEzUfhX2LKIxDrmlMR1geC3bsF5asa4FG2ll76+A3Uev2maaVmntcm16rZhFhzwj9m8kxeGuZSMk11qlaZJd+ZhyWMjwQ=
trusted comment: sluice-0.1.0
N+U42rS8g+JTdXAgoQBClSo+spn99bOFuWfZElgySwqq25f+kBVPcuVYUKVFBXKsNY6/oitsOumk4ZVHKZ3bBw==
";
/// Over `uki("0.2.0")`.
const SIGNED_0_2_0: &str = "\
untrusted comment: test signature
RUTkO2TEzUfhX1AX+vuVjkDDRQw9rfUCkOHAucJ6ehpbzcPIw3T/Oc3mysRNni8HR3TFPr9PYo6jJ6QJOnK/JiQcA8OwWFMnxQ4=
trusted comment: sluice-0.2.0
x0YpjPbWbrlYPDcj1qB0vy5TI9Q2gFt+NpEFK0rJdcdm7VYc5biVgdFihMq0zcvhDXD8nvQCjuOtBrzBHN8RAA==
";
/// Over `uki("0.3.0")`.
const SIGNED_0_3_0: &str = "\
untrusted comment: test signature
RUTkO2TEzUfhX9vP3GTkC9epRipK4lkeB07mnZk8EsVvdyQtU2v4vLt1U7aNoqAt0/hXAGnhMRa//dPiWKdfNgHwl77mIANKjAc=
trusted comment: sluice-0.3.0
qeQa14ou8aftxcbPVzuBgwvPIvAm+WDUcAyTtHw9jEzyXu8vo1vIddvttEs9eP6yjeAzq6H7JH/lWqqTWakDBg==
";
/// Over [`debian`].
const SIGNED_DEBIAN: &str = "\
untrusted comment: test signature
RUTkO2TEzUfhX1ioY7iQgVU4fyPkjaOTpAKf2nzC25Yf8IJwhecz07EXx+oLUODVHyPYIyM8mIs6ggFDqUbldM79PB9haO5hoAs=
trusted comment: debian
nFapjSgGTrEOqapJjUq7tIyc/7eiUFdd0P1K6QucsgPvecmSkShmqY2wC2EbMx2RayHRi3arK5TaxniuUgo9Bg==
";

fn debian() -> Vec<u8> {
    let words: &[u8] = b"ID=debian\nVERSION_ID=12\n";
    pe(0x8664, &[(".osrel", words), (".linux", b"k"), (".initrd", b"r")])
}

/// A machine started by UEFI with version 0.2.0, which has proven itself.
struct Bench {
    scratch: Scratch,
}

impl Bench {
    fn new() -> Self {
        let bench = Bench { scratch: Scratch::new() };
        for dir in ["efi/EFI/Linux", "efi/EFI/systemd", "firmware"] {
            fs::create_dir_all(bench.path(dir)).unwrap();
        }
        bench.put("efi/EFI/systemd/systemd-bootx64.efi", b"loader");
        bench.put("os-release", b"ID=sluice\nIMAGE_VERSION=0.2.0\n");
        bench.put("efi/EFI/Linux/sluice_0.2.0.efi", b"old");
        bench.put("key.pub", KEY.as_bytes());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn machine(&self) -> Machine {
        Machine {
            boot_dir: self.path("efi"),
            firmware: self.path("firmware"),
            os_release: self.path("os-release"),
        }
    }

    fn install(&self, file: &[u8], signature: &str, force: bool) -> Result<Done, String> {
        self.put("update.efi", file);
        self.put("update.efi.minisig", signature.as_bytes());
        let request = Request {
            file: self.path("update.efi"),
            signature: self.path("update.efi.minisig"),
            key: self.path("key.pub"),
            force,
        };
        let done = self.machine().install(&request);
        done.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    /// What is on the ESP.
    fn files(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("efi/EFI/Linux")).unwrap();
        let name =
            |file: io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = files.map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn an_update_is_installed_beside_the_running_one() {
    let bench = Bench::new();
    for (name, bytes) in [
        ("sluice_0.1.0.efi", "older"),
        ("sluice_0.3.0+0-2.efi", "the same, tried and bad"),
        ("sluice_0.4.0+2.efi.tmp", "power was lost here"),
        ("debian.efi", "somebody else's"),
    ] {
        bench.put(&format!("efi/EFI/Linux/{name}"), bytes.as_bytes());
    }
    let done = bench.install(&uki("0.3.0"), SIGNED_0_3_0, false).unwrap();
    assert_eq!(done.comment, "sluice-0.3.0");
    assert_eq!(done.shadowed_by, None);
    assert_eq!(bench.files(), ["debian.efi", "sluice_0.2.0.efi", "sluice_0.3.0+2.efi"]);
    let written = fs::read(bench.path("efi/EFI/Linux/sluice_0.3.0+2.efi")).unwrap();
    assert_eq!(written, uki("0.3.0"));
    let listing = bench.machine().list().unwrap();
    let names: Vec<String> = listing.entries.iter().map(|(entry, _)| entry.to_string()).collect();
    assert_eq!(names, ["sluice_0.3.0+2.efi", "sluice_0.2.0.efi"]);
}

#[test]
fn what_is_not_trusted_changes_nothing() {
    let bench = Bench::new();
    bench.put("efi/EFI/Linux/sluice_0.1.0.efi", b"older");
    let before = bench.files();
    let good = uki("0.3.0");
    let mut tampered = good.clone();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    let half = &good[..good.len() / 2];
    let forged = SIGNED_0_3_0.replace("sluice-0.3.0", "sluice-0.3.1");
    for (file, signature, expected) in [
        (&tampered[..], SIGNED_0_3_0, "was changed after it was signed"),
        (half, SIGNED_0_3_0, "was changed after it was signed"),
        (&good, SIGNED_0_2_0, "was changed after it was signed"),
        (&good, &forged, "was changed after it was signed"),
        (&good, "no signature", "cannot use the signature"),
        (&good, "", "cannot use the signature"),
        (b"", SIGNED_0_3_0, "it is empty"),
        (&debian(), SIGNED_DEBIAN, "is \"debian\" and not Sluice's own image"),
        (&uki("0.2.0"), SIGNED_0_2_0, "0.2.0 is what runs already"),
        (&uki("0.1.0"), SIGNED_0_1_0, "0.1.0 is older than the running 0.2.0"),
    ] {
        let error = bench.install(file, signature, false).unwrap_err();
        assert!(error.contains(expected), "{error}");
        assert_eq!(bench.files(), before, "{error}");
    }
    bench.put("key.pub", OTHER_KEY.as_bytes());
    let error = bench.install(&good, SIGNED_0_3_0, true).unwrap_err();
    assert!(error.contains("signed with another key"), "{error}");
    fs::remove_file(bench.path("key.pub")).unwrap();
    let error = bench.install(&good, SIGNED_0_3_0, true).unwrap_err();
    assert!(error.contains("--key FILE names another"), "{error}");
    assert_eq!(bench.files(), before);
}

#[test]
fn an_older_one_is_installed_when_it_is_meant() {
    let bench = Bench::new();
    let done = bench.install(&uki("0.1.0"), SIGNED_0_1_0, true).unwrap();
    assert_eq!(done.shadowed_by.unwrap().to_string(), "sluice_0.2.0.efi");
    assert_eq!(bench.files(), ["sluice_0.1.0+2.efi", "sluice_0.2.0.efi"]);
}

#[test]
fn what_cannot_be_done_leaves_what_runs() {
    let bench = Bench::new();
    // A directory in the place of a file stands for whatever keeps it from being changed.
    fs::create_dir(bench.path("efi/EFI/Linux/sluice_0.3.0+2.efi")).unwrap();
    let error = bench.install(&uki("0.3.0"), SIGNED_0_3_0, false).unwrap_err();
    assert!(error.contains("cannot remove"), "{error}");
    assert!(bench.files().contains(&"sluice_0.2.0.efi".to_owned()));
}

#[test]
fn where_nothing_could_be_undone_it_says_so() {
    let bench = Bench::new();
    let refused = |expected: &str| {
        let error = bench.install(&uki("0.3.0"), SIGNED_0_3_0, false).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    fs::rename(bench.path("efi/EFI/Linux/sluice_0.2.0.efi"), bench.path("moved")).unwrap();
    refused("the running 0.2.0 has no entry in EFI/Linux");
    fs::rename(bench.path("moved"), bench.path("efi/EFI/Linux/sluice_0.2.0+0-2.efi")).unwrap();
    refused("has used up its tries");
    fs::remove_file(bench.path("efi/EFI/systemd/systemd-bootx64.efi")).unwrap();
    refused("systemd-bootx64.efi is not there");
    bench.put("os-release", b"ID=debian\nVERSION_ID=12\n");
    fs::create_dir(bench.path("efi/EFI/BOOT")).unwrap();
    bench.put("efi/EFI/BOOT/BOOTX64.EFI", b"loader");
    refused("the running system cannot be updated");
    fs::remove_dir_all(bench.path("efi")).unwrap();
    refused("Is it mounted?");
    fs::remove_dir(bench.path("firmware")).unwrap();
    refused("started by BIOS");
}

#[test]
fn what_editors_do_to_keys_and_signatures_is_no_matter() {
    let bench = Bench::new();
    let edited = |text: &str| format!("\u{feff}{}\r\n", text.replace('\n', "\r\n"));
    bench.put("key.pub", edited(KEY).as_bytes());
    let done = bench.install(&uki("0.3.0"), &edited(SIGNED_0_3_0), false).unwrap();
    assert_eq!(done.comment, "sluice-0.3.0");
    // A name that somebody has made lead elsewhere is not followed.
    bench.put("victim", b"precious");
    let incoming = bench.path("efi/EFI/Linux/sluice_incoming.efi.tmp");
    std::os::unix::fs::symlink(bench.path("victim"), incoming).unwrap();
    drop(bench.install(&uki("0.3.0"), SIGNED_0_3_0, false));
    assert_eq!(fs::read(bench.path("victim")).unwrap(), b"precious");
}
