//! Rows to JSON objects.

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use engine::sink::SinkError;
use proto::{
    plan::{JsonFormat, MapNullKey, TimestampFormat},
    types::Field,
};

use super::decode::check_map_keys;
use crate::{
    text::{
        TimestampStyle, write_date, write_decimal, write_decimal_scientific, write_f32, write_f64,
        write_integer, write_time, write_timestamp,
    },
    value::{Typed, Values},
};

/// Encodes rows as JSON objects.
#[derive(Debug)]
pub(crate) struct JsonEncoder {
    style: TimestampStyle,
    plain_decimals: bool,
    ignore_nulls: bool,
    null_key: MapNullKey,
    null_key_literal: String,
}

impl JsonEncoder {
    pub(crate) fn new(format: &JsonFormat, fields: &[Field]) -> Result<JsonEncoder, String> {
        for field in fields {
            check_map_keys(&field.name, &field.data_type.logical)?;
        }
        Ok(JsonEncoder {
            style: match format.timestamp_format() {
                TimestampFormat::Iso8601 => TimestampStyle::Iso8601,
                TimestampFormat::Sql | TimestampFormat::Unspecified => TimestampStyle::Sql,
            },
            plain_decimals: format.encode_decimal_as_plain_number,
            ignore_nulls: format.encode_ignore_null_fields,
            null_key: format.map_null_key(),
            null_key_literal: format.map_null_key_literal.clone(),
        })
    }

    /// Appends row `row` as an object.
    pub(crate) fn encode(
        &self,
        values: &[Values<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        out.push(b'{');
        let mut first = true;
        for value in values {
            if self.ignore_nulls && value.is_null(row) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_string(out, value.name.as_bytes());
            out.push(b':');
            self.value(value, row, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn value(&self, values: &Values<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), SinkError> {
        if values.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &values.typed {
            Typed::Null => out.extend_from_slice(b"null"),
            Typed::Boolean(array) => {
                out.extend_from_slice(if array.value(row) { b"true" } else { b"false" });
            }
            Typed::I8(array) => write_integer(out, array.value(row).into()),
            Typed::I16(array) => write_integer(out, array.value(row).into()),
            Typed::I32(array) => write_integer(out, array.value(row).into()),
            Typed::I64(array) => write_integer(out, array.value(row)),
            Typed::Months(array) => write_integer(out, array[row].into()),
            Typed::Millis(array) => write_integer(out, array[row]),
            Typed::F32(array) => quoted_unless(array.value(row).is_finite(), out, |out| {
                write_f32(out, array.value(row));
            }),
            Typed::F64(array) => quoted_unless(array.value(row).is_finite(), out, |out| {
                write_f64(out, array.value(row));
            }),
            Typed::Decimal(array, scale) if self.plain_decimals => {
                write_decimal(out, array.value(row), *scale);
            }
            Typed::Decimal(array, scale) => write_decimal_scientific(out, array.value(row), *scale),
            Typed::Text(array) => write_string(out, array.value(row).as_bytes()),
            Typed::Binary(array) => quoted_unless(false, out, |out| {
                let text = Base64Display::new(array.value(row), &STANDARD).to_string();
                out.extend_from_slice(text.as_bytes());
            }),
            Typed::Date(days) => quoted_unless(false, out, |out| write_date(out, days[row].into())),
            Typed::Time(millis) => quoted_unless(false, out, |out| {
                write_time(out, i64::from(millis[row]) * 1_000_000);
            }),
            Typed::Timestamp {
                values,
                precision,
                local,
            } => quoted_unless(false, out, |out| {
                write_timestamp(out, values[row], *precision, self.style.separator());
                if *local {
                    out.push(b'Z');
                }
            }),
            Typed::List(list, items) => self.list(list.value_offsets(), items, row, out)?,
            Typed::Map(map, keys, values) => {
                self.map(map.value_offsets(), keys, values, row, out)?
            }
            Typed::Row(fields) => self.encode(fields, row, out)?,
        }
        Ok(())
    }

    fn list(
        &self,
        offsets: &[i32],
        items: &Values<'_>,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        out.push(b'[');
        for (nth, item) in (offsets[row]..offsets[row + 1]).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            self.value(items, item as usize, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn map(
        &self,
        offsets: &[i32],
        keys: &Values<'_>,
        values: &Values<'_>,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        out.push(b'{');
        let mut first = true;
        for entry in offsets[row]..offsets[row + 1] {
            let entry = entry as usize;
            let key = match &keys.typed {
                Typed::Text(array) if !keys.is_null(entry) => array.value(entry),
                _ => match self.null_key {
                    MapNullKey::Drop => continue,
                    MapNullKey::Literal => &self.null_key_literal,
                    MapNullKey::Fail | MapNullKey::Unspecified => {
                        return Err(SinkError::Encode {
                            column: keys.name.to_owned(),
                            cause: "a MAP key is NULL; set 'json.map-null-key.mode' to \
                                    DROP or LITERAL"
                                .to_owned(),
                        });
                    }
                },
            };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_string(out, key.as_bytes());
            out.push(b':');
            self.value(values, entry, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

fn quoted_unless(bare: bool, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    if bare {
        write(out);
    } else {
        out.push(b'"');
        write(out);
        out.push(b'"');
    }
}

/// Appends a JSON string.
fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            0..=31 => 0,
            _ => continue,
        };
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        if short == 0 {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
}
