//! The manual pages, made from the command line itself and from the example configuration: `sluice manual DIR`, for who
//! builds a package.

use super::Cli;
use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Every key with its meaning.
const EXAMPLE: &str = include_str!("../../sluice.example.toml");

/// System administration.
const SECTION: &str = "8";

/// `sluice manual`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ManualArgs {
    /// The directory to write them to
    dir: PathBuf,
}

/// Writes `sluice.8`, a page for each command and `sluice.toml.5`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn run(args: &ManualArgs) -> anyhow::Result<()> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let cannot = || format!("cannot write to {}", args.dir.display());
    commands(&command, &args.dir).with_context(cannot)?;
    fs::write(args.dir.join("sluice.toml.5"), configuration()).with_context(cannot)
}

fn commands(command: &Command, dir: &Path) -> std::io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        commands(sub, dir)?;
    }
    let source = format!("Sluice {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).section(SECTION).source(source).manual("Sluice");
    page.generate_to(dir).map(drop)
}

fn configuration() -> String {
    let mut page = format!(
        ".TH sluice.toml 5 \"\" \"Sluice {}\" Sluice\n\
         .SH NAME\n\
         sluice.toml \\- configuration of the appliance Sluice\n\
         .SH DESCRIPTION\n\
         .B /etc/sluice/sluice.toml\n\
         says everything that\n\
         .BR sluice (8)\n\
         does without a cluster. This is every key; what is in it is TOML.\n\
         .SH KEYS\n\
         .nf\n",
        env!("CARGO_PKG_VERSION")
    );
    for line in EXAMPLE.lines() {
        // Writing to a String cannot fail.
        _ = writeln!(page, "{}", escaped(line));
    }
    page.push_str(
        ".fi\n\
         .SH FILES\n\
         .I /etc/sluice/sluice.toml\n\
         .br\n\
         .I /usr/share/doc/sluice/sluice.example.toml\n\
         .SH SEE ALSO\n\
         .BR sluice (8),\n\
         .BR sluice\\-check (8)\n",
    );
    page
}

/// A line as roff prints it literally (groff_man(7)).
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn every_command_and_every_key_has_its_place() {
        let scratch = Scratch::new();
        run(&ManualArgs { dir: scratch.path().to_owned() }).unwrap();
        let page = |name: &str| fs::read_to_string(scratch.path().join(name)).unwrap();
        for sub in Cli::command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let name = sub.get_name();
            assert!(page("sluice.8").contains(&escaped(&format!("sluice-{name}(8)"))), "{name}");
            assert!(page(&format!("sluice-{name}.8")).contains(".SH SYNOPSIS"), "{name}");
        }
        let keys = page("sluice.toml.5");
        assert_eq!(keys.lines().filter(|line| line.contains("shutdown\\-grace")).count(), 1);
        assert!(!scratch.path().join("sluice-manual.8").exists());
    }

    #[test]
    fn nothing_is_taken_for_a_request() {
        assert_eq!(escaped(".a-'\\"), "\\&.a\\-\\(aq\\e");
    }
}
