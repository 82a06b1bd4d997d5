//! A table of the document while it is read: every key that is asked for is known, every other one is a mistake.

use super::report::Report;
use super::values;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// One table, with its place in the document.
pub(super) struct Section<'d, 'i> {
    table: &'d DeTable<'i>,
    /// Like `service.web`; empty at the top.
    path: String,
    /// Where its header stands, for keys that are missing.
    offset: usize,
    known: Vec<&'static str>,
}

// === impl Section ===

impl<'d, 'i> Section<'d, 'i> {
    pub(super) fn new(table: &'d DeTable<'i>, path: impl Into<String>, offset: usize) -> Self {
        Section { table, path: path.into(), offset, known: Vec::new() }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// The place of a key of this table.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Names the table better, once what identifies it has been read.
    pub(super) fn rename(&mut self, path: String) {
        self.path = path;
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'i>>> {
        self.know(key);
        self.table.get(key)
    }

    /// Remembers a key for the hint about unknown ones, once however often it is asked for.
    fn know(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    /// A key that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let value = self.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(Spanned::new(value.span(), parsed)),
            Err(message) => {
                report.push(value.span().start, self.at(key), message);
                None
            }
        }
    }

    /// A key that may be absent and has a default.
    pub(super) fn or<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        default: T,
        parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        self.optional(report, key, parse).map_or(default, Spanned::into_inner)
    }

    /// A key that must be there; `example` shows how it is written.
    pub(super) fn required<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        example: &str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        if !self.table.contains_key(key) {
            self.know(key);
            report.missing(self.offset, self.at(key), example);
            return None;
        }
        self.optional(report, key, parse)
    }

    /// An array of values; each wrong one is a mistake of its own. `None` when the key is absent or no array.
    pub(super) fn list<T>(
        &mut self,
        report: &mut Report,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<Vec<Spanned<T>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            let kind = values::kind(value.get_ref());
            let message = format!("is {kind}, not a list; write {key} = [ … ]");
            report.push(value.span().start, self.at(key), message);
            return None;
        };
        let mut parsed = Vec::new();
        for element in array.iter() {
            match parse(element.get_ref()) {
                Ok(item) => parsed.push(Spanned::new(element.span(), item)),
                Err(message) => report.push(element.span().start, self.at(key), message),
            }
        }
        Some(parsed)
    }

    /// A table inside this one.
    pub(super) fn table(
        &mut self,
        report: &mut Report,
        key: &'static str,
    ) -> Option<Section<'d, 'i>> {
        let value = self.get(key)?;
        let at = self.at(key);
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(table, at, value.span().start)),
            DeValue::Array(_) => {
                report.push(value.span().start, &at, format!("is given once only; write [{at}]"));
                None
            }
            other => {
                let message = format!("is {}, not a table; write [{at}]", values::kind(other));
                report.push(value.span().start, &at, message);
                None
            }
        }
    }

    /// An array of tables inside this one.
    pub(super) fn tables(
        &mut self,
        report: &mut Report,
        key: &'static str,
    ) -> Vec<Section<'d, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let at = self.at(key);
        let header = at.split('.').filter(|part| !part.contains('[')).collect::<Vec<_>>().join(".");
        let Some(array) = value.get_ref().as_array() else {
            report.push(
                value.span().start,
                &at,
                format!("is a list of tables; write [[{header}]]"),
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, element) in array.iter().enumerate() {
            let at = format!("{at}[{index}]");
            match element.get_ref().as_table() {
                Some(table) => sections.push(Section::new(table, at, element.span().start)),
                None => report.push(element.span().start, at, "is not a table; write { … }"),
            }
        }
        sections
    }

    /// Reports every key nobody asked for.
    pub(super) fn finish(self, report: &mut Report) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let fix = match closest(name, &self.known) {
                Some(known) => format!("write {known}"),
                None => format!("known keys: {}", self.known.join(", ")),
            };
            report.push(key.span().start, self.at(name), format!("unknown key; {fix}"));
        }
    }
}

/// The known key that is at most two typing mistakes away, or the same without regard to `-`, `_` and case.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let plain = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let scored = known.iter().map(|key| (edit_distance(&plain(name), &plain(key)), *key));
    let (distance, key) = scored.min()?;
    (distance <= 2 && distance < key.len()).then_some(key)
}

/// Levenshtein's distance between two short words.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut above_left = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().zip(std::iter::once(None).chain(b.chars().map(Some))) {
            let above = *cell;
            let Some(to) = to else {
                *cell = left;
                continue;
            };
            let substitute = above_left + usize::from(from != to);
            left = substitute.min(above + 1).min(left + 1);
            above_left = above;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, distance) in [
            ("", "", 0),
            ("port", "port", 0),
            ("prot", "port", 2),
            ("listen", "lisen", 1),
            ("a", "", 1),
            ("", "abc", 3),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn near_misses_are_recognised() {
        let known = ["hold-time", "port", "asn"];
        assert_eq!(closest("hold_time", &known), Some("hold-time"));
        assert_eq!(closest("ports", &known), Some("port"));
        assert_eq!(closest("colour", &known), None);
    }
}
