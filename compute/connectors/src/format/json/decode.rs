//! Lines of JSON to inserts.

use proto::{
    plan::JsonFormat,
    types::{Field, LogicalType, RowKind},
};

use super::{Cursor, Fail, ObjectReader};
use crate::column::Rows;

/// Decodes one JSON text per record: an object is a row, an array of objects several.
pub(crate) struct JsonDecoder {
    reader: ObjectReader,
}

impl JsonDecoder {
    pub(crate) fn new(format: &JsonFormat, fields: &[Field]) -> Result<JsonDecoder, String> {
        if format.fail_on_missing_field && format.ignore_parse_errors {
            return Err(
                "fail-on-missing-field and ignore-parse-errors must not both be true".to_owned(),
            );
        }
        for field in fields {
            check_map_keys(&field.name, &field.data_type.logical)?;
        }
        Ok(JsonDecoder {
            reader: ObjectReader::new(format),
        })
    }

    pub(crate) fn ignores_errors(&self) -> bool {
        self.reader.lenient()
    }

    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), String> {
        // Checked once here, so that every string below is known to be UTF-8.
        std::str::from_utf8(record).map_err(|_| "not valid UTF-8".to_owned())?;
        let mut cursor = Cursor::new(record);
        match cursor.peek() {
            None => return Ok(()),
            Some(b'[') => self.array(&mut cursor, rows),
            Some(_) => self.row(&mut cursor, rows),
        }
        .map_err(|fail| fail.to_string())?;
        match cursor.peek() {
            None => Ok(()),
            Some(_) => Err(format!("not valid JSON: {}", cursor.expected("the end"))),
        }
    }

    fn array(&mut self, cursor: &mut Cursor<'_>, rows: &mut Rows) -> Result<(), Fail> {
        cursor.open(b'[', "an array")?;
        let mut more = cursor.not_empty(b']');
        while more {
            self.row(cursor, rows)?;
            more = cursor.more(b']')?;
        }
        Ok(())
    }

    fn row(&mut self, cursor: &mut Cursor<'_>, rows: &mut Rows) -> Result<(), Fail> {
        // As in Flink, `null` is no row.
        if cursor.peek() == Some(b'n') && cursor.eat_null()? {
            return Ok(());
        }
        self.reader.next_row(cursor, rows)?;
        rows.complete(RowKind::Insert);
        Ok(())
    }
}

/// JSON's member names are strings, so only those can be keys.
pub(crate) fn check_map_keys(column: &str, logical: &LogicalType) -> Result<(), String> {
    match logical {
        LogicalType::Map(key, value) => {
            if !key.logical.is_character() {
                return Err(format!(
                    "JSON has no MAP with keys of type {key} (column `{column}`); use STRING keys"
                ));
            }
            check_map_keys(column, &value.logical)
        }
        LogicalType::Multiset(element) if !element.logical.is_character() => Err(format!(
            "JSON has no MULTISET of {element} (column `{column}`); use STRING elements"
        )),
        LogicalType::Array(element) => check_map_keys(column, &element.logical),
        LogicalType::Row(fields) => fields
            .iter()
            .try_for_each(|field| check_map_keys(column, &field.data_type.logical)),
        _ => Ok(()),
    }
}
