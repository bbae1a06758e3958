//! The bytes of a record as the value of the table's one column.

use proto::types::{Field, LogicalType, RowKind};

use crate::{
    column::{Data, Rows},
    text::{TimestampStyle, push_text},
};

mod encode;

pub(crate) use encode::RawEncoder;

/// Decodes a record to a row of one value.
pub(crate) struct RawDecoder;

impl RawDecoder {
    pub(crate) fn new(fields: &[Field]) -> Result<RawDecoder, String> {
        check_fields(fields)?;
        Ok(RawDecoder)
    }

    pub(crate) fn decode(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), String> {
        let (_, columns) = rows.parts();
        // No column: nobody reads it, only rows count.
        if let Some(column) = columns.first_mut() {
            if column.logical.is_binary() {
                if let Data::Bytes { values, .. } = &mut column.data {
                    values.extend_from_slice(record);
                }
                column.close();
            } else {
                std::str::from_utf8(record).map_err(|_| "not valid UTF-8".to_owned())?;
                push_text(column, record, TimestampStyle::Sql)?;
            }
        }
        rows.complete(RowKind::Insert);
        Ok(())
    }
}

/// Lines can carry what has a text form without line ends of its own, and bytes as they are.
fn check_fields(fields: &[Field]) -> Result<(), String> {
    match fields {
        [] => Ok(()),
        [field] => match field.data_type.logical {
            LogicalType::Char(_)
            | LogicalType::Varchar(_)
            | LogicalType::Binary(_)
            | LogicalType::Varbinary(_) => Ok(()),
            _ => Err(format!(
                "format raw reads and writes STRING and BYTES only, column `{}` is {}",
                field.name, field.data_type
            )),
        },
        _ => Err(format!(
            "format raw needs a table of one column, this one has {}",
            fields.len()
        )),
    }
}
