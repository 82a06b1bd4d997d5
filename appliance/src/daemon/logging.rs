//! Log lines on standard error, and words to the service manager.

use super::log_limit::Limit;
use crate::cli::LogFormat;
use crate::human;
use sd_notify::NotifyState;
use std::io::{self, IsTerminal as _, Write};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Which lines are written: `SLUICE_LOG=debug`, or by module as in `info,sluice::health=debug`.
const FILTER: &str = "SLUICE_LOG";

/// Begins to log.
pub(super) fn start(format: LogFormat) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER) {
        Ok(filter) => EnvFilter::try_new(&filter)
            .map_err(|error| anyhow::anyhow!("{FILTER}={filter} is not a filter: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let has_colours = format == LogFormat::Human && io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Visible { format, has_colours, to: io::stderr() })
        .with_ansi(has_colours);
    let lines = match format {
        LogFormat::Human => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry().with(lines).with(Limit).with(filter).try_init();
    started.map_err(|error| anyhow::anyhow!("cannot log: {error}"))
}

/// Writes a line of the log, whatever it repeats of others' texts. The subscriber gives each line in one piece.
struct Visible<W> {
    format: LogFormat,
    /// The subscriber's own; those of texts it escapes itself.
    has_colours: bool,
    to: W,
}

// === impl Visible ===

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = match self.format {
            LogFormat::Json => human::visible_json(&text),
            LogFormat::Human if self.has_colours => {
                text.split('\u{1b}').map(human::visible_lines).collect::<Vec<_>>().join("\u{1b}")
            }
            LogFormat::Human => human::visible_lines(&text),
        };
        // A line that follows is one of the same text: it does not look like the next of the log.
        let shown = match (self.format, shown.strip_suffix('\n')) {
            (LogFormat::Human, Some(line)) => format!("{}\n", line.replace('\n', "\n  | ")),
            _ => shown,
        };
        self.to.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Tells the service manager; without one nothing happens.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_one_line_whatever_it_says() {
        let shown = |format, has_colours, line: &str| {
            let mut to = Vec::new();
            let mut log = Visible { format, has_colours, to: &mut to };
            log.write_all(line.as_bytes()).unwrap();
            String::from_utf8(to).unwrap()
        };
        let line = "INFO peer says: bye\u{9b}2J\u{202e}\r\nERROR forged\n";
        assert_eq!(
            shown(LogFormat::Human, false, &format!("\u{1b}[2J{line}")),
            "\\u{1b}[2JINFO peer says: bye\\u{9b}2J\\u{202e}\\u{d}\n  | ERROR forged\n"
        );
        assert!(
            shown(LogFormat::Human, true, "\u{1b}[2mINFO\u{1b}[0m x\u{8}\n")
                .starts_with("\u{1b}[2mINFO")
        );
        let json = format!("{}\n", serde_json::json!({ "message": "a\u{1b}\u{9b}\n" }));
        let shown = shown(LogFormat::Json, false, &json);
        assert_eq!(shown, "{\"message\":\"a\\u001b\\u009b\\n\"}\n");
    }
}
