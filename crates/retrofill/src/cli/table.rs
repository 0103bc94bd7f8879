//! Aligned columns of text.

use std::fmt;

/// Cells are cut to so many characters.
const WIDEST: usize = 40;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A table of a few rows.
#[derive(Debug)]
pub(super) struct Table {
    align: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
    pub(super) fn new(heads: &[(&str, Align)]) -> Self {
        let align = heads.iter().map(|(_, align)| *align).collect();
        Table { align, rows: vec![heads.iter().map(|(head, _)| cell(head)).collect()] }
    }

    /// One more row.
    pub(super) fn row(&mut self, cells: &[String]) {
        debug_assert_eq!(cells.len(), self.align.len());
        self.rows.push(cells.iter().map(|c| cell(c)).collect());
    }
}

/// A text in one short line that no terminal takes for orders.
pub(super) fn cell(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == WIDEST {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |i: usize| self.rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..self.align.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((text, width), align) in row.iter().zip(&widths).zip(&self.align) {
                let space = " ".repeat(width - text.chars().count());
                let (before, after) = match align {
                    Align::Left => ("", space.as_str()),
                    Align::Right => (space.as_str(), ""),
                };
                line.push_str("  ");
                line.push_str(before);
                line.push_str(text);
                line.push_str(after);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let mut table = Table::new(&[("name", Align::Left), ("rows", Align::Right)]);
        table.row(&["größe".into(), "5".into()]);
        table.row(&["a\nb".into(), "12,345".into()]);
        assert_eq!(table.to_string(), "  name     rows\n  größe       5\n  a\\nb   12,345\n");
        assert_eq!(cell(&"x".repeat(50)), format!("{}...", "x".repeat(WIDEST)));
    }
}
