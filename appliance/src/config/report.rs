//! Mistakes in a configuration file: collected all, each with its line, what is wrong, and what to write instead.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mistake {
    /// Counted from 1; 0 when the file itself is the mistake.
    pub(crate) line: usize,
    /// Where in the document, like `service.web.port`; empty for the document as a whole.
    pub(crate) at: String,
    /// What is wrong; what to write instead.
    pub(crate) message: String,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// The file holds mistakes.
    #[error("{}", Listing { path, mistakes })]
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them, by line.
        mistakes: Vec<Mistake>,
    },
}

/// Collects mistakes while a document is read.
pub(super) struct Report {
    /// Byte offsets at which lines begin.
    line_starts: Vec<usize>,
    mistakes: Vec<Mistake>,
    /// Lines that did not parse. What is missing may only have been lost there, and what else is wrong with such a line
    /// is more likely the parser's guess than the operator's.
    broken: BTreeSet<usize>,
}

struct Listing<'a> {
    path: &'a Path,
    mistakes: &'a [Mistake],
}

// === impl Report ===

impl Report {
    pub(super) fn new(text: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Report { line_starts, mistakes: Vec::new(), broken: BTreeSet::new() }
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset).max(1)
    }

    pub(super) fn push(
        &mut self,
        offset: usize,
        at: impl Into<String>,
        message: impl Into<String>,
    ) {
        // Values the parser made up in place of broken ones have no place in the file.
        if offset == 0 && !self.broken.is_empty() {
            return;
        }
        let line = self.line(offset);
        self.mistakes.push(Mistake { line, at: at.into(), message: message.into() });
    }

    /// A key that must be there is not.
    pub(super) fn missing(&mut self, offset: usize, at: String, example: &str) {
        if self.broken.is_empty() {
            self.push(offset, at, format!("is missing; add {example}"));
        }
    }

    /// A mistake of the TOML itself.
    pub(super) fn syntax(&mut self, error: &toml::de::Error) {
        let offset = error.span().map_or(0, |span| span.start);
        self.broken.insert(self.line(offset));
        let (line, message) = (self.line(offset), format!("not TOML: {}", error.message()));
        self.mistakes.push(Mistake { line, at: String::new(), message });
    }

    /// All mistakes by line, each once; of a line that did not parse only the first.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort();
        let broken = self.broken;
        self.mistakes.dedup_by(|next, kept| {
            next == kept || (next.line == kept.line && broken.contains(&kept.line))
        });
        self.mistakes
    }
}

// === impl Mistake ===

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.at.is_empty() {
            write!(f, "{}: ", self.at)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.mistakes.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "{}: {count} {noun}", self.path.display())?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n{mistake}"))
    }
}
