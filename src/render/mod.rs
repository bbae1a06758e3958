//! Columns as lines of text: the one place where rows leave their arrow form for a client.
//!
//! Values are written as in `control_plane::results`: tab-separated, NULL is `\N`, nested values as
//! JSON. Numbers are plain, DOUBLE as Java writes it (`1.0E10`), TIMESTAMP with at least
//! milliseconds, bytes `x'0aff'`.

mod number;
mod time;
mod value;

use control_plane::results::ResultRow;
use engine::ChangeBatch;

/// Each row of the batch as a line.
#[must_use]
pub fn lines(batch: &ChangeBatch) -> Vec<ResultRow> {
    let columns = batch.rows.columns();
    let mut line = String::new();
    let row = |row: usize| {
        line.clear();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                line.push('\t');
            }
            value::push_value(&mut line, column, row);
        }
        ResultRow {
            kind: batch.kind(row),
            line: line.as_str().into(),
        }
    };
    (0..batch.num_rows()).map(row).collect()
}
