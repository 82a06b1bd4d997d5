//! What the demo prints: one line for each thing that happened, with what was measured.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Columns left of the measured figure.
const TEXT: usize = 72;
/// Columns of the figure.
const FIGURE: usize = 14;

/// Prints, and remembers what did not hold.
#[derive(Debug)]
pub struct Stage {
    started: Instant,
    colour: bool,
    failed: Vec<String>,
    figures: Vec<(String, String)>,
}

impl Default for Stage {
    fn default() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), colour, failed: Vec::new(), figures: Vec::new() }
    }
}

impl Stage {
    /// A line as it is.
    pub fn say(&self, text: &str) {
        println!("{text}");
        // A pipe may hold lines back; the reader wants them when they happen.
        drop(std::io::stdout().flush());
    }

    /// Opens an act.
    pub fn act(&self, title: &str) {
        self.say(&format!("\n{}", self.paint("1", title)));
    }

    /// A thing that happened as it should, with its figure.
    pub fn did(&self, what: &str, figure: impl Into<String>) {
        self.line("32", "✓", what, &figure.into());
    }

    /// A thing that should hold; remembered when it does not.
    pub fn check(&mut self, holds: bool, what: &str, figure: impl Into<String>) {
        let figure = figure.into();
        if holds {
            self.did(what, figure);
        } else {
            self.line("31", "✗", what, &figure);
            self.failed.push(format!("{what} ({figure})"));
        }
    }

    /// Keeps a figure for the summary.
    pub fn keep(&mut self, name: &str, figure: impl Into<String>) {
        self.figures.push((name.to_owned(), figure.into()));
    }

    /// Prints the summary; true when everything held.
    pub fn summary(&self) -> bool {
        self.act("Summary");
        for (name, figure) in &self.figures {
            self.say(&format!("  {name:<TEXT$}{figure:>FIGURE$}", TEXT = TEXT + 2));
        }
        self.say("");
        for failed in &self.failed {
            self.say(&self.paint("31", &format!("  ✗ did not hold: {failed}")));
        }
        let took = self.started.elapsed().as_secs_f64();
        if self.failed.is_empty() {
            self.say(&self.paint("32", &format!("  Everything held. {took:.1} s")));
        } else {
            self.say(&format!("  {} things did not hold. {took:.1} s", self.failed.len()));
        }
        self.failed.is_empty()
    }

    fn line(&self, colour: &str, mark: &str, what: &str, figure: &str) {
        let mark = self.paint(colour, mark);
        self.say(&format!("  {mark} {what:<TEXT$}{figure:>FIGURE$}"));
    }

    /// Text in a colour, on terminals.
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A time as a person reads it: `412 ms`, `0.38 ms`, `2.1 s`.
pub fn time(took: Duration) -> String {
    let ms = took.as_secs_f64() * 1000.0;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}
