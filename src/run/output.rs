//! Rows on standard output: as a table, tab-separated, or JSON.

use std::{io, sync::Arc};

use clap::ValueEnum;
use cli::{pad_join, printable};
use control_plane::results::{
    ResultRow, column_names, escape, push_separated, row_cells, row_json,
};
use proto::types::{Field, RowKind};
use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use unicode_width::UnicodeWidthStr as _;

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

/// Rows that become text at once.
const ROWS_PER_WRITE: usize = 4096;

/// Where a result goes. Writing waits without holding a thread: a pipe may take no more for long.
pub type Output = dyn AsyncWrite + Unpin + Send;

/// Prints the rows of one result.
pub(crate) struct Printer {
    format: Format,
    columns: Vec<Field>,
    names: Vec<String>,
    /// Whether rows come with their kind.
    changelog: bool,
    /// Widths of the table's columns, once the header is printed.
    widths: Option<Vec<usize>>,
}

impl Printer {
    pub(crate) fn new(format: Format, columns: Vec<Field>, changelog: bool) -> Printer {
        Printer {
            names: column_names(&columns),
            format,
            columns,
            changelog,
            widths: None,
        }
    }

    /// Prints rows that come together; the first call prints the header as well, so it is made
    /// even when there are no rows.
    pub(crate) async fn print(&mut self, out: &mut Output, rows: &[ResultRow]) -> io::Result<()> {
        if self.widths.is_none() {
            let header = self.header(rows);
            out.write_all(header.as_bytes()).await?;
        }
        for rows in rows.chunks(ROWS_PER_WRITE) {
            let text = self.text(rows);
            out.write_all(text.as_bytes()).await?;
        }
        out.flush().await
    }

    /// Widths are those of the names and the first rows; a later value that is wider shifts its
    /// line only.
    fn header(&mut self, rows: &[ResultRow]) -> String {
        let mut names: Vec<String> = Vec::new();
        if self.changelog {
            names.push("op".to_owned());
        }
        names.extend(self.columns.iter().map(|column| column.name.clone()));
        let mut widths = Vec::new();
        let text = match self.format {
            Format::Json => String::new(),
            Format::Tsv => {
                let mut text = String::from("# ");
                for (index, name) in names.iter().enumerate() {
                    if index > 0 {
                        text.push('\t');
                    }
                    escape(name, &mut text);
                }
                text.push('\n');
                text
            }
            Format::Table => {
                let names: Vec<String> = names.iter().map(|name| printable(name)).collect();
                widths = names.iter().map(|name| name.width()).collect();
                for row in rows {
                    for (width, cell) in widths.iter_mut().zip(self.cells(row)) {
                        *width = cell.width().max(*width);
                    }
                }
                let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                format!("{}\n{}\n", line(&names, &widths), rule.join("─┼─"))
            }
        };
        self.widths = Some(widths);
        text
    }

    fn text(&self, rows: &[ResultRow]) -> String {
        let mut text = String::new();
        for row in rows {
            match self.format {
                Format::Table => {
                    let widths = self.widths.as_deref().unwrap_or_default();
                    text.push_str(&line(&self.cells(row), widths));
                }
                Format::Tsv => {
                    if self.changelog {
                        text.push_str(row.kind.symbol());
                        text.push('\t');
                    }
                    push_separated(row, &self.columns, &mut text);
                }
                Format::Json => text.push_str(&self.json(row).to_string()),
            }
            text.push('\n');
        }
        text
    }

    fn json(&self, row: &ResultRow) -> Value {
        let object = row_json(row, &self.columns, &self.names);
        if self.changelog {
            json!({"op": row.kind.symbol(), "row": object})
        } else {
            object
        }
    }

    fn cells(&self, row: &ResultRow) -> Vec<String> {
        let mut cells = Vec::with_capacity(self.columns.len() + 1);
        if self.changelog {
            cells.push(row.kind.symbol().to_owned());
        }
        let values = row_cells(row, &self.columns);
        cells.extend(values.iter().map(|value| printable(value)));
        cells
    }
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut line = pad_join(cells, widths, " │ ");
    line.truncate(line.trim_end().len());
    line
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

    async fn print(
        columns: Vec<Field>,
        format: Format,
        changelog: bool,
        rows: &[&[ResultRow]],
    ) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(format, columns, changelog);
        for rows in rows {
            printer
                .print(&mut out, rows)
                .await
                .expect("memory takes it");
        }
        String::from_utf8(out).expect("text")
    }

    #[allow(clippy::needless_pass_by_value)]
    async fn check(format: Format, changelog: bool, expected: Expect) {
        let columns = vec![
            Field::new("id", "INT".parse().expect("a type")),
            Field::new("name", "STRING".parse().expect("a type")),
        ];
        let row = |kind, line: &str| ResultRow {
            kind,
            line: line.into(),
        };
        let first = [
            row(RowKind::Insert, "1\tlonger"),
            row(RowKind::Delete, "2\t\\N"),
        ];
        let later = [row(RowKind::UpdateAfter, "3\ta\\tb")];
        let text = print(columns, format, changelog, &[&first, &later]).await;
        expected.assert_eq(&text);
    }

    #[tokio::test]
    async fn columns_are_as_wide_as_a_terminal_shows_them() {
        let columns = vec![
            Field::new("名前", "STRING".parse().expect("a type")),
            Field::new("n", "INT".parse().expect("a type")),
        ];
        let rows = inserts(vec![
            "e\u{301}\t1".into(),
            "👩‍👩‍👧\t2".into(),
            "\u{1b}[31m\t3".into(),
            "\u{202e}abc\t4".into(),
        ]);
        expect![[r#"
            名前  │ n
            ──────┼──
            é     │ 1
            👩‍👩‍👧    │ 2
            ␛[31m │ 3
            �abc  │ 4
        "#]]
        .assert_eq(&print(columns, Format::Table, false, &[&rows]).await);
    }

    #[tokio::test]
    async fn rows_in_every_format() {
        check(
            Format::Tsv,
            true,
            expect![[r#"
            # op	id	name
            +I	1	longer
            -D	2	\N
            +U	3	a\tb
        "#]],
        )
        .await;
        check(
            Format::Tsv,
            false,
            expect![[r#"
            # id	name
            1	longer
            2	\N
            3	a\tb
        "#]],
        )
        .await;
        check(
            Format::Json,
            true,
            expect![[r#"
            {"op":"+I","row":{"id":1,"name":"longer"}}
            {"op":"-D","row":{"id":2,"name":null}}
            {"op":"+U","row":{"id":3,"name":"a\tb"}}
        "#]],
        )
        .await;
        check(
            Format::Json,
            false,
            expect![[r#"
            {"id":1,"name":"longer"}
            {"id":2,"name":null}
            {"id":3,"name":"a\tb"}
        "#]],
        )
        .await;
        check(
            Format::Table,
            true,
            expect![[r#"
            op │ id │ name
            ───┼────┼───────
            +I │ 1  │ longer
            -D │ 2  │ NULL
            +U │ 3  │ a␉b
        "#]],
        )
        .await;
        check(
            Format::Table,
            false,
            expect![[r#"
            id │ name
            ───┼───────
            1  │ longer
            2  │ NULL
            3  │ a␉b
        "#]],
        )
        .await;
    }
}
