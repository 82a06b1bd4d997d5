//! What was acknowledged is there after a kill at any moment, and after whatever else a disk does.
//!
//! The test's own binary is started again as the process that dies. It says which generation was acknowledged; what is
//! read afterwards must be that one or the one that was being written.

use super::tests::{forget, put, state};
use super::*;
use crate::scratch::Scratch;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough for a kill to fall into each step of a write; two milliseconds each, most of it the start of a process.
const KILLS: u32 = 300;

/// Where the child writes.
const DIRECTORY: &str = "SLUICE_TEST_LEDGER";

/// The process that is killed.
#[test]
#[ignore = "the process that the test beneath starts and kills"]
fn victim() {
    let path = Path::new(&std::env::var_os(DIRECTORY).unwrap()).join("desired.json");
    let mut ledger = Ledger::open(path, None);
    ledger.begin(Vec::new(), &Observed::default(), Expected::default());
    let known = ledger.content.bridges.get("b").map_or(0, |bridge| bridge.generation);
    let mut out = std::io::stdout().lock();
    for generation in known + 1.. {
        ledger.submit(put("b", state(generation, &[("b/1", "192.0.2.1")]))).unwrap();
        // One piece, so that no acknowledgement is half read.
        out.write_all(format!("\nkept {generation}\n").as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

fn start_victim(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ledger::kills::victim", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The generation that a line acknowledges.
fn kept(line: &str) -> Option<u64> {
    line.strip_prefix("kept ")?.parse().ok()
}

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let scratch = Scratch::new();
    let mut last = 0;
    for kill in 0..KILLS {
        let mut child = start_victim(scratch.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let first = lines.by_ref().find_map(|line| kept(&line)).expect("the victim has written");
        // A multiplicative sequence: moments from none to three milliseconds, other ones each time.
        let moment =
            Duration::from_micros(u64::from(kill.wrapping_mul(2_654_435_761) >> 20) * 3000 / 4096);
        let until = Instant::now() + moment;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        // What it said before it died was acknowledged as well.
        let acknowledged = lines.filter_map(|line| kept(&line)).last().unwrap_or(first);
        child.wait().unwrap();
        let ledger = Ledger::open(scratch.path().join("desired.json"), None);
        assert_eq!(ledger.content.recovery, None, "after {kill} kills the newest state is whole");
        let bridge = &ledger.content.bridges["b"];
        let written = acknowledged..=acknowledged + 1;
        assert!(written.contains(&bridge.generation), "{} of {written:?}", bridge.generation);
        assert!(first > last && bridge.wishes.len() == 1);
        last = bridge.generation;
    }
    let names = std::fs::read_dir(scratch.path()).unwrap().count();
    assert!(names <= 4, "{names} files are left of {KILLS} kills");
}

/// A small file system of the test's own, gone with its namespace.
#[test]
#[ignore = "runs in the namespace that the test beneath makes"]
fn on_a_small_disk() {
    let directory = std::env::var_os(DIRECTORY).map(PathBuf::from).unwrap();
    let remount = |how: &str| {
        let status = Command::new("mount").args(["-o", how]).arg(&directory).status().unwrap();
        assert!(status.success());
    };
    let path = directory.join("desired.json");
    let mut ledger = Ledger::open(path.clone(), None);
    ledger.begin(Vec::new(), &Observed::default(), Expected::default());
    let kept = |ledger: &Ledger| {
        let again = Ledger::open(path.clone(), None);
        assert_eq!(again.content.recovery, None);
        assert_eq!(
            again.content.bridges, ledger.content.bridges,
            "what is in force is on the disk"
        );
        again.content.bridges.len()
    };
    // One source after the other, until the disk is full.
    let name = |number: usize| format!("source-{number}");
    let wide: Vec<(String, String)> =
        (0..20).map(|n| (format!("service-{n}"), format!("192.0.2.{n}"))).collect();
    let wide: Vec<(&str, &str)> = wide.iter().map(|(n, vip)| (n.as_str(), vip.as_str())).collect();
    let full =
        (0..1000).find(|number| ledger.submit(put(&name(*number), state(1, &wide))).is_err());
    let full = full.expect("a disk of 256 KiB is full at last");
    assert!(full > 5, "{full}");
    assert_eq!(kept(&ledger), full, "nothing was promised that is not there");
    assert!(ledger.subscribe().borrow().unkept.as_ref().unwrap().contains("No space"));
    assert!(!directory.join("desired.json.new").exists(), "the room of what failed is free");
    // Less is always possible.
    for number in 0..full / 2 {
        assert_eq!(ledger.submit(forget(&name(number))).unwrap(), Accepted::New);
    }
    assert_eq!(ledger.subscribe().borrow().unkept, None);
    let left = kept(&ledger);
    remount("remount,ro");
    let refused = ledger.submit(put("late", state(1, &[])));
    assert!(matches!(refused, Err(SubmitError::Write { .. })));
    assert_eq!(kept(&ledger), left);
    // A start on such a disk serves what is kept, and says so.
    let mut start = Ledger::open(path.clone(), None);
    start.begin(super::tests::services(&["a"]), &Observed::default(), Expected::default());
    assert!(start.subscribe().borrow().unkept.as_ref().unwrap().contains("Read-only"));
    assert_eq!(start.content.bridges.len(), left);
    remount("remount,rw");
    assert_eq!(ledger.submit(put("late", state(1, &[]))).unwrap(), Accepted::New);
    assert_eq!(kept(&ledger), left + 1);
}

#[test]
fn a_disk_that_is_full_or_read_only_loses_nothing() {
    let scratch = Scratch::new();
    let script = "mount -t tmpfs -o size=256k,mode=700 none \"$1\" && exec \"$2\" --exact ledger::kills::on_a_small_disk --ignored";
    let mut command = Command::new("unshare");
    // A mount namespace; as root of a user namespace where the caller is not root.
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(scratch.path());
    command.arg(std::env::current_exe().unwrap()).env(DIRECTORY, scratch.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}
