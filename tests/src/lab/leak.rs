//! What a lab leaves in the system, how it is found and how it is removed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use nix::sys::signal::{SigSet, Signal};

use super::netns::NETNS_DIR;
use super::process::run;
use super::root::PREFIX;

/// Names of lab namespaces (without the directory).
fn namespaces() -> Vec<String> {
    names_in(NETNS_DIR)
}

fn names_in(dir: impl Into<PathBuf>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir.into()) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(PREFIX))
        .collect()
}

/// Mount points below a lab's directory, innermost first.
fn mounts(prefix: &str) -> Vec<String> {
    let root = std::env::temp_dir().join(prefix).to_string_lossy().into_owned();
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|point| point.strip_prefix(&root).is_some_and(|rest| rest.starts_with('/')))
        .map(str::to_owned)
        .collect();
    found.reverse();
    found
}

/// The process a lab name belongs to: `slc-<pid>-…`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn alive(pid: u32) -> bool {
    std::path::Path::new("/proc").join(pid.to_string()).exists()
}

/// Everything of the lab family that is in the system now, in words: namespaces, processes in them, mounts, directories.
/// Labs of processes that live are left out when `dead_only`.
pub fn leftovers(dead_only: bool) -> Vec<String> {
    let wanted = |name: &String| !dead_only || owner(name).is_none_or(|pid| !alive(pid));
    let mut found = Vec::new();
    for name in namespaces().into_iter().filter(wanted) {
        for pid in pids(&name) {
            found.push(format!("process {pid} in namespace {name}"));
        }
        found.push(format!("namespace {name}"));
    }
    for name in names_in(std::env::temp_dir()).into_iter().filter(wanted) {
        found.extend(mounts(&name).into_iter().map(|point| format!("mount {point}")));
        found.push(format!("directory {}", std::env::temp_dir().join(name).display()));
    }
    found
}

fn pids(namespace: &str) -> Vec<i32> {
    run(Command::new("ip").args(["netns", "pids", namespace]))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

/// Removes the labs of processes that no longer live.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_dead() -> Result<()> {
    let mut names = namespaces();
    names.extend(names_in(std::env::temp_dir()));
    for name in names {
        if owner(&name).is_some_and(|pid| !alive(pid)) {
            remove(&name)?;
        }
    }
    Ok(())
}

/// Removes every process, namespace, mount and file of the lab with this prefix (or of one namespace, by its name).
pub(super) fn remove(prefix: &str) -> Result<()> {
    let ours = |name: &String| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    for name in namespaces().into_iter().filter(ours) {
        let me = i32::try_from(std::process::id()).unwrap_or_default();
        for pid in pids(&name).into_iter().filter(|pid| *pid != me) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // It lives in a namespace of ours, so it is ours; gone already is fine.
            _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
        // Two processes may clean after the same dead one.
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", &name]))
            && namespaces().contains(&name)
        {
            return Err(error);
        }
    }
    for point in mounts(prefix) {
        run(Command::new("umount").arg("-l").arg(&point))?;
    }
    for name in names_in(std::env::temp_dir()).into_iter().filter(ours) {
        match std::fs::remove_dir_all(std::env::temp_dir().join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// From now on SIGINT, SIGTERM and SIGHUP remove every lab of this process and end it. Call it before any thread starts.
///
/// # Errors
/// When the signals cannot be blocked.
pub fn clean_on_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Every thread inherits the mask; processes of the lab start with an empty one.
    signals.thread_block()?;
    std::thread::spawn(move || {
        let code = signals.wait().map_or(1, |signal| 128 + signal as i32);
        for name in namespaces().into_iter().chain(names_in(std::env::temp_dir())) {
            if owner(&name) == Some(std::process::id())
                && let Err(error) = remove(&name)
            {
                eprintln!("cleaning up {name}: {error:#}");
            }
        }
        std::process::exit(code);
    });
    Ok(())
}
