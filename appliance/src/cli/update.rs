//! `sluice update`: the face of [`crate::update`].

use super::client::print;
use super::table::Align::{Left, Right};
use super::table::Table;
use crate::update::{Done, Listing, Machine, Request};
use anyhow::{Context as _, bail};
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// `sluice update`.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The update: the .efi file of a release; `-` is standard input, with --signature
    #[arg(value_name = "FILE", required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Its signature, made with minisign
    #[arg(
        long,
        value_name = "FILE",
        help = "Its signature, made with minisign [default: FILE.minisig]"
    )]
    signature: Option<PathBuf>,
    /// The public key that it must be signed with
    #[arg(long, value_name = "FILE", default_value = "/usr/share/sluice/update.pub")]
    key: PathBuf,
    /// Where the EFI system partition is mounted
    #[arg(long, value_name = "DIR", default_value = "/efi")]
    boot_dir: PathBuf,
    /// Install an older version too, and also where nothing could be fallen back to
    #[arg(long)]
    force: bool,
    /// Restart the machine at once when it is installed
    #[arg(long, conflicts_with = "list")]
    reboot: bool,
    /// Only show which versions there are, which one runs and which one starts next
    #[arg(long, conflicts_with = "file")]
    list: bool,
}

/// Installs, or lists.
///
/// # Errors
/// When nothing was installed, and why; the machine starts what it started before.
pub(crate) fn run(args: UpdateArgs) -> anyhow::Result<()> {
    let machine = Machine {
        boot_dir: args.boot_dir,
        firmware: "/sys/firmware/efi".into(),
        os_release: "/etc/os-release".into(),
    };
    let Some(file) = args.file else {
        print(&listing(&machine.list()?))?;
        return Ok(());
    };
    let beside = || {
        let mut name = file.clone().into_os_string();
        name.push(".minisig");
        PathBuf::from(name)
    };
    if file.as_os_str() == "-" && args.signature.is_none() {
        bail!(
            "an update from standard input has no signature beside it: name it with --signature FILE"
        );
    }
    let signature = args.signature.unwrap_or_else(beside);
    let request = Request { file, signature, key: args.key, force: args.force };
    print(&next_steps(&machine.install(&request)?, args.reboot))?;
    if args.reboot {
        let status = Command::new("systemctl").arg("reboot").status();
        let status = status.context("the update is installed; cannot run systemctl reboot")?;
        if !status.success() {
            bail!("the update is installed; systemctl reboot: {status}");
        }
    }
    Ok(())
}

fn next_steps(done: &Done, reboots: bool) -> String {
    let Done { entry, running, removed, comment, shadowed_by } = done;
    let mut text = String::new();
    // Writing to a String cannot fail.
    _ = writeln!(text, "signed       {comment}");
    for entry in removed {
        _ = writeln!(text, "removed      {entry}");
    }
    _ = writeln!(text, "installed    {entry}");
    _ = match shadowed_by {
        Some(newer) => writeln!(
            text,
            "The boot loader prefers the newer {newer}: choose {entry} once in its menu or with\n\
             `bootctl set-oneshot {entry}`; to stay with {}, remove {newer} once it runs.",
            entry.version
        ),
        None if reboots => writeln!(text, "Restarting into {}.", entry.version),
        None => writeln!(text, "Restart to run {}: systemctl reboot", entry.version),
    };
    _ = writeln!(
        text,
        "It goes back to {running} by itself when {} is not healthy.",
        entry.version
    );
    text
}

fn listing(listing: &Listing) -> String {
    let columns =
        [("VERSION", Left), ("STATE", Left), ("NEXT", Left), ("MIB", Right), ("FILE", Left)];
    let mut table = Table::new(columns);
    for (index, (entry, bytes)) in listing.entries.iter().enumerate() {
        let runs = entry.version == listing.running;
        let state = match entry.tries {
            None => "good".to_owned(),
            Some(tries) if tries.left == 0 => "bad: no tries left".to_owned(),
            Some(tries) => format!("not proven: {} tries left", tries.left),
        };
        table.row([
            entry.version.to_string(),
            if runs { format!("runs, {state}") } else { state },
            if index == 0 { "next" } else { "" }.to_owned(),
            bytes.div_ceil(1 << 20).to_string(),
            entry.to_string(),
        ]);
    }
    table.render("no version of Sluice in EFI/Linux")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::Entry;

    fn entry(name: &str) -> Entry {
        Entry::parse(&format!("sluice_{name}.efi")).unwrap()
    }

    #[test]
    fn the_list_says_what_runs_and_what_is_next() {
        let text = listing(&Listing {
            running: "0.2.0".parse().unwrap(),
            entries: vec![
                (entry("0.3.0+2"), 41 << 20),
                (entry("0.2.0"), 1),
                (entry("0.1.0+0-2"), 1),
            ],
        });
        assert_eq!(
            text,
            "VERSION  STATE                     NEXT  MIB  FILE\n\
             0.3.0    not proven: 2 tries left  next   41  sluice_0.3.0+2.efi\n\
             0.2.0    runs, good                        1  sluice_0.2.0.efi\n\
             0.1.0    bad: no tries left                1  sluice_0.1.0+0-2.efi\n"
        );
    }

    #[test]
    fn the_next_step_is_told() {
        let done = Done {
            entry: entry("0.3.0+2"),
            running: "0.2.0".parse().unwrap(),
            removed: vec![entry("0.1.0")],
            comment: "sluice 0.3.0".to_owned(),
            shadowed_by: None,
        };
        assert_eq!(
            next_steps(&done, false),
            "signed       sluice 0.3.0\n\
             removed      sluice_0.1.0.efi\n\
             installed    sluice_0.3.0+2.efi\n\
             Restart to run 0.3.0: systemctl reboot\n\
             It goes back to 0.2.0 by itself when 0.3.0 is not healthy.\n"
        );
        let older = Done { shadowed_by: Some(entry("0.4.0")), ..done };
        assert!(next_steps(&older, true).contains("bootctl set-oneshot sluice_0.3.0+2.efi"));
    }
}
