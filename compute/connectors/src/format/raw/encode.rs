//! A row of one value to a line.

use engine::sink::SinkError;
use proto::types::Field;

use super::check_fields;
use crate::value::{Typed, Values};

/// Encodes the value of the table's one column.
#[derive(Debug)]
pub(crate) struct RawEncoder;

impl RawEncoder {
    pub(crate) fn new(fields: &[Field]) -> Result<RawEncoder, String> {
        check_fields(fields)?;
        Ok(RawEncoder)
    }

    pub(crate) fn encode(
        &self,
        values: &[Values<'_>],
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        for values in values.iter().filter(|values| !values.is_null(row)) {
            match &values.typed {
                Typed::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
                Typed::Binary(array) => out.extend_from_slice(array.value(row)),
                _ => {}
            }
        }
        Ok(())
    }
}
