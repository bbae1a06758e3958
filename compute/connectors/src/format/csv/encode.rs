//! Rows to delimited fields.

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use engine::sink::SinkError;
use proto::{plan::CsvFormat, types::Field};

use super::{CsvOptions, decode::check_type};
use crate::{
    text::{write_decimal_scientific, write_plain},
    value::{Typed, Values},
};

/// Encodes rows as delimited records.
#[derive(Debug)]
pub(crate) struct CsvEncoder {
    options: CsvOptions,
    scientific_decimals: bool,
}

impl CsvEncoder {
    pub(crate) fn new(format: &CsvFormat, fields: &[Field]) -> Result<CsvEncoder, String> {
        for field in fields {
            check_type(&field.name, &field.data_type.logical, 0)?;
        }
        Ok(CsvEncoder {
            options: CsvOptions::new(format)?,
            scientific_decimals: format.write_bigdecimal_in_scientific_notation,
        })
    }

    /// Appends row `row` without a line end.
    pub(crate) fn encode(
        &self,
        values: &[Values<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        for (nth, value) in values.iter().enumerate() {
            if nth > 0 {
                out.push(self.options.delimiter);
            }
            let start = out.len();
            self.value(value, row, out);
            self.quote(start, values.len() == 1, out)
                .map_err(|cause| SinkError::Encode {
                    column: value.name.to_owned(),
                    cause,
                })?;
        }
        Ok(())
    }

    fn value(&self, values: &Values<'_>, row: usize, out: &mut Vec<u8>) {
        if values.is_null(row) {
            out.extend_from_slice(self.options.null_literal.as_deref().unwrap_or_default());
            return;
        }
        match &values.typed {
            Typed::Decimal(array, scale) if self.scientific_decimals => {
                write_decimal_scientific(out, array.value(row), *scale);
            }
            Typed::Binary(array) => {
                let text = Base64Display::new(array.value(row), &STANDARD).to_string();
                out.extend_from_slice(text.as_bytes());
            }
            Typed::List(list, items) => {
                let offsets = list.value_offsets();
                for (nth, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                    self.element(nth, items, item as usize, out);
                }
            }
            Typed::Row(fields) => {
                for (nth, field) in fields.iter().enumerate() {
                    self.element(nth, field, row, out);
                }
            }
            plain => write_plain(out, plain, row),
        }
    }

    fn element(&self, nth: usize, values: &Values<'_>, row: usize, out: &mut Vec<u8>) {
        if nth > 0 {
            out.extend_from_slice(&self.options.element_delimiter);
        }
        self.value(values, row, out);
    }

    /// Puts the field that begins at `start` into quotes where a reader would else misread it.
    fn quote(&self, start: usize, only: bool, out: &mut Vec<u8>) -> Result<(), String> {
        let field = &out[start..];
        let special = |byte: &u8| {
            *byte == self.options.delimiter
                || Some(*byte) == self.options.quote
                || Some(*byte) == self.options.escape
                || matches!(byte, b'\n' | b'\r')
        };
        let comment = start == 0 || out.get(start - 1) == Some(&b'\n');
        // A record of nothing but an empty field would look like no record.
        let alone = comment && field.is_empty() && only;
        let needed = alone || field.iter().any(special) || (comment && field.starts_with(b"#"));
        if !needed {
            return Ok(());
        }
        let Some(quote) = self.options.quote else {
            return Err("the value has a delimiter or line end and quoting is disabled".to_owned());
        };
        let field = out.split_off(start);
        out.push(quote);
        for byte in field {
            if byte == quote || Some(byte) == self.options.escape {
                out.push(self.options.escape.unwrap_or(quote));
            }
            out.push(byte);
        }
        out.push(quote);
        Ok(())
    }
}
