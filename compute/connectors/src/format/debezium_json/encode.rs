//! Changelog rows to change events. As Flink's format, which sees one row at a time, an update is
//! written as a delete of the old row and a create of the new one.

use engine::sink::SinkError;
use proto::{
    plan::DebeziumJsonFormat,
    types::{Field, RowKind},
};

use crate::{format::json::JsonEncoder, value::Values};

/// Encodes rows as change events.
#[derive(Debug)]
pub(crate) struct DebeziumEncoder {
    row: JsonEncoder,
}

impl DebeziumEncoder {
    pub(crate) fn new(
        format: &DebeziumJsonFormat,
        fields: &[Field],
    ) -> Result<DebeziumEncoder, String> {
        if format.schema_include {
            return Err("debezium-json.schema-include is not supported for a sink".to_owned());
        }
        let row = JsonEncoder::new(&format.json.clone().unwrap_or_default(), fields)?;
        Ok(DebeziumEncoder { row })
    }

    pub(crate) fn encode(
        &self,
        values: &[Values<'_>],
        row: usize,
        kind: RowKind,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        if kind.is_add() {
            out.extend_from_slice(b"{\"before\":null,\"after\":");
            self.row.encode(values, row, out)?;
            out.extend_from_slice(b",\"op\":\"c\"}");
        } else {
            out.extend_from_slice(b"{\"before\":");
            self.row.encode(values, row, out)?;
            out.extend_from_slice(b",\"after\":null,\"op\":\"d\"}");
        }
        Ok(())
    }
}
