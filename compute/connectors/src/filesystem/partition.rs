//! Partition columns: their values stand in the names of directories, `day=2024-03-01/hour=7/`,
//! and not in the files.

use std::{iter, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
    datatypes::SchemaRef,
    error::ArrowError,
};
use engine::{ChangeBatch, schema::arrow_schema};
use proto::types::Field;

use crate::{
    column::Column,
    text::{TimestampStyle, push_text},
};

/// What stands for NULL (and the empty string) in a directory's name.
pub(super) const NULL_PARTITION: &str = "__DEFAULT_PARTITION__";

/// Splits columns into those in the files and those in the directories' names.
pub(super) fn split_fields(fields: &[Field], partition_by: &[String]) -> (Vec<Field>, Vec<Field>) {
    fields
        .iter()
        .cloned()
        .partition(|field| !partition_by.contains(&field.name))
}

/// Adds the partition columns of one file to the rows read from it.
#[derive(Debug)]
pub(super) struct PartitionColumns {
    schema: SchemaRef,
    /// Per column of the table: a column of the file, or the one value that all rows have.
    columns: Vec<Result<usize, ArrayRef>>,
}

impl PartitionColumns {
    /// For a file in these directories; `None` where no column is a partition column.
    pub(super) fn new(
        fields: &[Field],
        partition_by: &[String],
        directories: &[String],
    ) -> Result<Option<PartitionColumns>, String> {
        let (in_file, in_path) = split_fields(fields, partition_by);
        if in_path.is_empty() {
            return Ok(None);
        }
        let mut next = 0..in_file.len();
        let columns = fields
            .iter()
            .map(|field| match in_path.contains(field) {
                true => partition_value(field, directories).map(Err),
                false => Ok(Ok(next.next().unwrap_or_default())),
            })
            .collect::<Result<_, String>>()?;
        Ok(Some(PartitionColumns {
            schema: arrow_schema(fields),
            columns,
        }))
    }

    /// The table's columns from the file's.
    pub(super) fn add(&self, batch: ChangeBatch) -> Result<ChangeBatch, ArrowError> {
        let length = batch.num_rows();
        let first = UInt32Array::from_iter_values(iter::repeat_n(0, length));
        let columns = self
            .columns
            .iter()
            .map(|column| match column {
                Ok(index) => Ok(Arc::clone(batch.rows.column(*index))),
                Err(value) => take(value, &first, None),
            })
            .collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(ChangeBatch::changes(rows, batch.kinds))
    }
}

fn partition_value(field: &Field, directories: &[String]) -> Result<ArrayRef, String> {
    let text = directories.iter().find_map(|directory| {
        let (name, value) = directory.split_once('=')?;
        (unescape(name) == field.name).then(|| unescape(value))
    });
    let text = text.ok_or_else(|| {
        format!(
            "there is no directory `{}=…` for the partition column",
            field.name
        )
    })?;
    let mut column = Column::new(&field.data_type);
    if text == NULL_PARTITION {
        column.push_null();
    } else {
        push_text(&mut column, text.as_bytes(), TimestampStyle::Sql)
            .map_err(|cause| format!("partition column `{}`: {cause}", field.name))?;
    }
    column.finish().map_err(|error| error.to_string())
}

/// Appends a name or value so that it is one legal name of a directory.
pub(super) fn escape(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for character in text.chars() {
        if character.is_control() || "\"#%'*/:=?\\{[]^".contains(character) {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        } else {
            out.push(character);
        }
    }
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) if *byte == b'%' => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_escaping() {
        for text in ["plain", "a/b=c", "50%", "ä:\u{1}", "2024-03-01 00:00:00"] {
            let mut escaped = String::new();
            escape(&mut escaped, text);
            assert!(!escaped.contains(['/', '=', ':']), "{escaped}");
            assert_eq!(unescape(&escaped), text);
        }
        assert_eq!(unescape("100%"), "100%");
    }
}
