//! Batches from text and back, for tests that people read.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType as ArrowType,
    util::display::{ArrayFormatter, FormatOptions},
};
use engine::{ChangeBatch, Element, Kinds, schema::arrow_schema};
use proto::types::{Field, RowKind};

use super::Event;

/// Columns of these names and types in Flink's notation.
///
/// # Panics
/// When a type cannot be read.
#[must_use]
pub fn fields(columns: &[(&str, &str)]) -> Vec<Field> {
    columns
        .iter()
        .map(|(name, text)| Field::new(*name, text.parse().expect("a type")))
        .collect()
}

/// A batch from lines of comma-separated values, each with its row kind before it (`+I` if none).
/// `NULL` is NULL; timestamps may be numbers of their unit.
///
/// # Panics
/// When a line does not fit the columns.
#[must_use]
pub fn rows(fields: &[Field], text: &str) -> ChangeBatch {
    let mut kinds = Vec::new();
    let mut columns: Vec<Vec<Option<&str>>> = vec![Vec::new(); fields.len()];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (kind, line) = match line.split_at_checked(2) {
            Some(("+I", rest)) => (RowKind::Insert, rest),
            Some(("-U", rest)) => (RowKind::UpdateBefore, rest),
            Some(("+U", rest)) => (RowKind::UpdateAfter, rest),
            Some(("-D", rest)) => (RowKind::Delete, rest),
            _ => (RowKind::Insert, line),
        };
        kinds.push(kind);
        let values: Vec<&str> = line.split(',').map(str::trim).collect();
        assert_eq!(values.len(), fields.len(), "values of `{line}`");
        for (column, value) in columns.iter_mut().zip(values) {
            column.push((value != "NULL").then_some(value));
        }
    }
    let schema = arrow_schema(fields);
    let arrays: Vec<ArrayRef> = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(values, field)| column(&values, field.data_type()))
        .collect();
    let rows = RecordBatch::try_new(schema, arrays).expect("columns of the schema");
    let all_inserts = kinds.iter().all(|kind| *kind == RowKind::Insert);
    let kinds = (!all_inserts).then(|| Kinds::from_iter_kinds(kinds));
    ChangeBatch::changes(rows, kinds)
}

/// The event of a batch for input `input`, see [`rows`].
#[must_use]
pub fn insert(input: usize, fields: &[Field], text: &str) -> Event {
    Event::Batch(input, rows(fields, text))
}

fn column(values: &[Option<&str>], data_type: &ArrowType) -> ArrayRef {
    let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let is_number = |value: &Option<&str>| value.is_none_or(|value| value.parse::<i64>().is_ok());
    let source = match data_type {
        ArrowType::Timestamp(..) | ArrowType::Duration(_) if values.iter().all(is_number) => {
            cast(&text, &ArrowType::Int64).expect("numbers")
        }
        _ => text,
    };
    let options = arrow::compute::CastOptions {
        safe: false,
        ..Default::default()
    };
    arrow::compute::cast_with_options(&source, data_type, &options).expect("values of the type")
}

/// The changes as text, one per line: `+I 1, a`. Watermarks and barriers have lines of their own.
#[must_use]
pub fn changelog(elements: &[Element]) -> String {
    let mut out = String::new();
    for element in elements {
        match element {
            Element::Batch(batch) => {
                for (row, text) in row_texts(&batch.rows).into_iter().enumerate() {
                    out.push_str(&format!("{} {text}\n", batch.kind(row).symbol()));
                }
            }
            Element::Watermark(time) => out.push_str(&format!("watermark {time}\n")),
            Element::Idle => out.push_str("idle\n"),
            Element::Barrier(epoch) => out.push_str(&format!("barrier {}\n", epoch.epoch)),
            Element::End => out.push_str("end\n"),
        }
    }
    out
}

/// Each row's values as text.
pub(super) fn row_texts(rows: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<ArrayFormatter<'_>> = rows
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a printable type"))
        .collect();
    (0..rows.num_rows())
        .map(|row| {
            let values: Vec<String> = formatters
                .iter()
                .map(|formatter| formatter.value(row).to_string())
                .collect();
            values.join(", ")
        })
        .collect()
}
