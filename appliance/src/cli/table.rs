//! Aligned columns of text.

use crate::human;

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    /// For numbers.
    Right,
}

/// Space between columns.
const GAP: &str = "  ";

/// A heading, then rows; every column is as wide as its widest cell, and no line ends in spaces.
pub(super) struct Table<const COLUMNS: usize> {
    columns: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(super) fn new(columns: [(&'static str, Align); COLUMNS]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// What cells say comes from anywhere; nothing in them moves the cursor, nor begins another line.
    pub(super) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.map(|cell| human::visible(&cell)));
    }

    /// The table, or `nothing` when it has no rows.
    pub(super) fn render(self, nothing: &str) -> String {
        if self.rows.is_empty() {
            return format!("{nothing}\n");
        }
        let headings = self.columns.map(|(heading, _)| heading.to_owned());
        let lines: Vec<&[String; COLUMNS]> = std::iter::once(&headings).chain(&self.rows).collect();
        let mut widths = [0; COLUMNS];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(*line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            let cells: Vec<String> = line
                .iter()
                .zip(widths)
                .zip(self.columns)
                .map(|((cell, width), (_, align))| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                })
                .collect();
            text.push_str(cells.join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new([("NAME", Align::Left), ("N", Align::Right), ("", Align::Left)]);
        table.row(["web".into(), "1".into(), "x".into()]);
        table.row(["größer".into(), "100".into(), String::new()]);
        assert_eq!(table.render("none"), "NAME      N\nweb       1  x\ngrößer  100\n");
    }

    #[test]
    fn nothing_in_a_cell_is_obeyed() {
        let mut table = Table::new([("NAME", Align::Left), ("N", Align::Right)]);
        table.row(["\u{1b}[2J".into(), "a\nb".into()]);
        assert_eq!(table.render("none"), "NAME             N\n\\u{1b}[2J  a\\u{a}b\n");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(Table::new([("NAME", Align::Left)]).render("no services"), "no services\n");
    }
}
