//! `sluice check`: says whether a file would be accepted.

use super::{Config, load};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// Prints what the file holds to standard output, or every mistake to standard error.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]
pub(crate) fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(config) => {
            println!("{}: ok: {}", path.display(), summary(&config));
            ExitCode::SUCCESS
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            eprintln!("{}", crate::human::visible_lines(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// What the file holds, in one line.
fn summary(config: &Config) -> String {
    let count = |number: usize, noun: &str| {
        format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
    };
    let vips = sluice_model::Desired::new(Default::default(), config.services.iter().cloned());
    let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
    let mut words = [
        count(config.services.len(), "service"),
        count(vips.0.vips().len(), "VIP"),
        count(backends, "backend"),
    ]
    .join(", ");
    // Writing to a String cannot fail.
    let _infallible = match &config.bgp {
        Some(bgp) => write!(words, ", {}", count(bgp.speaker.peers.len(), "BGP peer")),
        None => write!(words, ", no BGP"),
    };
    words
}
