//! Rows on standard output: as a table, tab-separated, or JSON.

use std::{
    io::{self, Write},
    sync::Arc,
};

use clap::ValueEnum;
use control_plane::results::{ResultRow, column_names, escape, row_json, unescape};
use proto::types::{Field, RowKind};
use serde_json::{Value, json};

/// How rows are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    Table,
    /// Tab-separated values, the first line `# ` and the names; NULL is \N.
    Tsv,
    /// One JSON object per row.
    Json,
}

/// Prints the rows of one result.
pub(crate) struct Printer<'a> {
    out: &'a mut (dyn Write + Send),
    format: Format,
    columns: Vec<Field>,
    names: Vec<String>,
    /// Whether rows come with their kind.
    changelog: bool,
    /// Widths of the table's columns, once they are known.
    widths: Option<Vec<usize>>,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(
        out: &'a mut (dyn Write + Send),
        format: Format,
        columns: Vec<Field>,
        changelog: bool,
    ) -> Printer<'a> {
        Printer {
            names: column_names(&columns),
            out,
            format,
            columns,
            changelog,
            widths: None,
        }
    }

    /// Prints rows that come together; the first call prints the header as well, so it is made
    /// even when there are no rows.
    pub(crate) fn rows(&mut self, rows: &[ResultRow]) -> io::Result<()> {
        match self.format {
            Format::Table => self.table(rows)?,
            Format::Tsv => self.tsv(rows)?,
            Format::Json => self.json(rows)?,
        }
        self.out.flush()
    }

    fn tsv(&mut self, rows: &[ResultRow]) -> io::Result<()> {
        if self.widths.replace(Vec::new()).is_none() {
            let mut header = String::from("# ");
            if self.changelog {
                header.push_str("op\t");
            }
            for (index, column) in self.columns.iter().enumerate() {
                if index > 0 {
                    header.push('\t');
                }
                escape(&column.name, &mut header);
            }
            writeln!(self.out, "{header}")?;
        }
        for row in rows {
            if self.changelog {
                write!(self.out, "{}\t", row.kind.symbol())?;
            }
            writeln!(self.out, "{}", row.line)?;
        }
        Ok(())
    }

    fn json(&mut self, rows: &[ResultRow]) -> io::Result<()> {
        for row in rows {
            let object: Value = row_json(row, &self.columns, &self.names);
            if self.changelog {
                let change = json!({"op": row.kind.symbol(), "row": object});
                writeln!(self.out, "{change}")?;
            } else {
                writeln!(self.out, "{object}")?;
            }
        }
        Ok(())
    }

    /// Widths are those of the names and the first rows; a later value that is wider shifts its
    /// line only.
    fn table(&mut self, rows: &[ResultRow]) -> io::Result<()> {
        let cells: Vec<Vec<String>> = rows.iter().map(|row| self.cells(row)).collect();
        let widths = match self.widths.take() {
            Some(widths) => widths,
            None => {
                let mut header: Vec<String> = Vec::new();
                if self.changelog {
                    header.push("op".to_owned());
                }
                header.extend(self.columns.iter().map(|column| printable(&column.name)));
                let widths = widths(&header, &cells);
                self.line(&header, &widths)?;
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                writeln!(self.out, "{}", rule.join("─┼─"))?;
                widths
            }
        };
        for cells in &cells {
            self.line(cells, &widths)?;
        }
        self.widths = Some(widths);
        Ok(())
    }

    fn cells(&self, row: &ResultRow) -> Vec<String> {
        let mut cells = Vec::with_capacity(self.columns.len() + 1);
        if self.changelog {
            cells.push(row.kind.symbol().to_owned());
        }
        let values = row.line.split('\t').map(|value| match value {
            "\\N" => "NULL".to_owned(),
            value => printable(&unescape(value)),
        });
        cells.extend(values);
        cells
    }

    fn line(&mut self, cells: &[String], widths: &[usize]) -> io::Result<()> {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(self.out, "{}", padded.join(" │ ").trim_end())
    }
}

fn widths(header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

/// Control characters would break the table, or worse the terminal.
fn printable(text: &str) -> String {
    let shown = |character: char| {
        if character.is_control() {
            '␣'
        } else {
            character
        }
    };
    text.chars().map(shown).collect()
}

/// Lines that are not changes, as rows.
pub(super) fn inserts(lines: Vec<Arc<str>>) -> Vec<ResultRow> {
    let kind = RowKind::Insert;
    lines
        .into_iter()
        .map(|line| ResultRow { kind, line })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[allow(clippy::needless_pass_by_value)]
    fn check(format: Format, changelog: bool, expected: Expect) {
        let columns = vec![
            Field::new("id", "INT".parse().expect("a type")),
            Field::new("name", "STRING".parse().expect("a type")),
        ];
        let row = |kind, line: &str| ResultRow {
            kind,
            line: line.into(),
        };
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format, columns, changelog);
        let first = [
            row(RowKind::Insert, "1\tlonger"),
            row(RowKind::Delete, "2\t\\N"),
        ];
        printer.rows(&first).expect("memory takes it");
        let later = [row(RowKind::UpdateAfter, "3\ta\\tb")];
        printer.rows(&later).expect("memory takes it");
        expected.assert_eq(&String::from_utf8(out).expect("text"));
    }

    #[test]
    fn rows_in_every_format() {
        check(
            Format::Tsv,
            true,
            expect![[r#"
            # op	id	name
            +I	1	longer
            -D	2	\N
            +U	3	a\tb
        "#]],
        );
        check(
            Format::Tsv,
            false,
            expect![[r#"
            # id	name
            1	longer
            2	\N
            3	a\tb
        "#]],
        );
        check(
            Format::Json,
            true,
            expect![[r#"
            {"op":"+I","row":{"id":1,"name":"longer"}}
            {"op":"-D","row":{"id":2,"name":null}}
            {"op":"+U","row":{"id":3,"name":"a\tb"}}
        "#]],
        );
        check(
            Format::Json,
            false,
            expect![[r#"
            {"id":1,"name":"longer"}
            {"id":2,"name":null}
            {"id":3,"name":"a\tb"}
        "#]],
        );
        check(
            Format::Table,
            true,
            expect![[r#"
            op │ id │ name
            ───┼────┼───────
            +I │ 1  │ longer
            -D │ 2  │ NULL
            +U │ 3  │ a␣b
        "#]],
        );
        check(
            Format::Table,
            false,
            expect![[r#"
            id │ name
            ───┼───────
            1  │ longer
            2  │ NULL
            3  │ a␣b
        "#]],
        );
    }
}
