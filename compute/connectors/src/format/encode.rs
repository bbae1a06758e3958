//! The writing half of every format, chosen by a plan's `FormatSpec`.

use engine::{ChangeBatch, sink::SinkError};
use proto::{
    plan::{FormatSpec, format_spec::Format},
    types::{Field, RowKind},
};

use super::{csv::CsvEncoder, debezium_json::DebeziumEncoder, json::JsonEncoder, raw::RawEncoder};
use crate::value::Values;

/// Encodes rows of one format, each as one line.
pub(crate) enum Encoder {
    Json(JsonEncoder),
    Csv(CsvEncoder),
    Debezium(DebeziumEncoder),
    Raw(RawEncoder),
}

impl Encoder {
    /// Appends row `row` of `values` to `out`, with the line's end. After an error `out` may hold
    /// half a line.
    pub(crate) fn encode(
        &self,
        values: &[Values<'_>],
        row: usize,
        kind: RowKind,
        out: &mut Vec<u8>,
    ) -> Result<(), SinkError> {
        match self {
            Encoder::Json(encoder) => encoder.encode(values, row, out)?,
            Encoder::Csv(encoder) => encoder.encode(values, row, out)?,
            Encoder::Debezium(encoder) => encoder.encode(values, row, kind, out)?,
            Encoder::Raw(encoder) => encoder.encode(values, row, out)?,
        }
        out.push(b'\n');
        Ok(())
    }

    /// Refuses batches that change rows where the format can only add them.
    pub(crate) fn check_kinds(&self, batch: &ChangeBatch) -> Result<(), SinkError> {
        if matches!(self, Encoder::Debezium(_)) {
            return Ok(());
        }
        let Some(kinds) = &batch.kinds else {
            return Ok(());
        };
        match kinds
            .bytes()
            .iter()
            .find(|kind| **kind != RowKind::Insert as u8)
        {
            None => Ok(()),
            Some(_) => Err(SinkError::Unsupported(
                "the sink's format takes inserts only, but the query updates or deletes rows; \
                 use 'format' = 'debezium-json'"
                    .to_owned(),
            )),
        }
    }
}

/// The encoder of `spec` for these columns.
///
/// # Errors
/// When the format cannot write them, or its options make no sense.
pub(crate) fn open_encoder(
    spec: Option<&FormatSpec>,
    fields: &[Field],
) -> Result<Encoder, SinkError> {
    let encoder = match spec.and_then(|spec| spec.format.as_ref()) {
        Some(Format::Json(json)) => JsonEncoder::new(json, fields).map(Encoder::Json),
        Some(Format::Csv(csv)) => CsvEncoder::new(csv, fields).map(Encoder::Csv),
        Some(Format::DebeziumJson(debezium)) => {
            DebeziumEncoder::new(debezium, fields).map(Encoder::Debezium)
        }
        Some(Format::Raw(_)) => RawEncoder::new(fields).map(Encoder::Raw),
        None => Err("the sink's format is not set".to_owned()),
    };
    encoder.map_err(SinkError::Unsupported)
}

/// What names of files of the format end in.
pub(crate) fn extension(spec: Option<&FormatSpec>) -> &'static str {
    match spec.and_then(|spec| spec.format.as_ref()) {
        Some(Format::Csv(_)) => "csv",
        Some(Format::Raw(_)) => "txt",
        Some(Format::Json(_) | Format::DebeziumJson(_)) | None => "json",
    }
}
