//! Change batches as an arrow IPC stream: the row kinds are a last column.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt8Array},
    datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type},
    error::ArrowError,
    ipc::{reader::StreamReader, writer},
};
use engine::{ChangeBatch, Kinds};
use proto::types::RowKind;

/// Collects the batches of an epoch into one stream.
pub(super) struct StreamWriter {
    schema: SchemaRef,
    with_kinds: SchemaRef,
    stream: Option<writer::StreamWriter<Vec<u8>>>,
}

impl StreamWriter {
    pub(super) fn new(schema: SchemaRef) -> StreamWriter {
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("row_kind", DataType::UInt8, false)));
        StreamWriter {
            schema,
            with_kinds: Arc::new(Schema::new(fields)),
            stream: None,
        }
    }

    /// Adds a batch, whatever its columns are called.
    pub(super) fn write(&mut self, batch: &ChangeBatch) -> Result<(), ArrowError> {
        if batch.rows.num_columns() != self.schema.fields().len() {
            return Err(ArrowError::SchemaError(
                "the batch's columns are not those of the sink".to_owned(),
            ));
        }
        let mut columns = batch.rows.columns().to_vec();
        let kinds: ArrayRef = match &batch.kinds {
            Some(kinds) => Arc::new(kinds.array().clone()),
            None => Arc::new(UInt8Array::from(vec![
                RowKind::Insert as u8;
                batch.num_rows()
            ])),
        };
        columns.push(kinds);
        let rows = RecordBatch::try_new(self.with_kinds.clone(), columns)?;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self
                .stream
                .insert(writer::StreamWriter::try_new(Vec::new(), &self.with_kinds)?),
        };
        stream.write(&rows)
    }

    /// The stream; empty if nothing was written since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        // Writing to memory does not fail.
        self.stream
            .take()
            .and_then(|stream| stream.into_inner().ok())
            .unwrap_or_default()
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> usize {
        self.stream
            .as_ref()
            .map_or(0, |stream| stream.get_ref().len())
    }
}

/// Appends the batches of a stream.
pub(super) fn read_stream(bytes: &[u8], batches: &mut Vec<ChangeBatch>) -> Result<(), ArrowError> {
    if bytes.is_empty() {
        return Ok(());
    }
    for rows in StreamReader::try_new(bytes, None)? {
        let rows = rows?;
        let (kinds, columns) = rows
            .columns()
            .split_last()
            .ok_or_else(|| ArrowError::SchemaError("the stream has no row kinds".to_owned()))?;
        let kinds = kinds
            .as_primitive_opt::<UInt8Type>()
            .ok_or_else(|| ArrowError::SchemaError("the row kinds are not bytes".to_owned()))?
            .values()
            .to_vec();
        let fields = rows.schema().fields()[..columns.len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new_with_options(schema, columns.to_vec(), &options)?;
        if let Some(unknown) = kinds
            .iter()
            .find(|kind| RowKind::from_byte(**kind).is_none())
        {
            return Err(ArrowError::SchemaError(format!(
                "unknown row kind {unknown}"
            )));
        }
        let changes = kinds.iter().any(|kind| *kind != RowKind::Insert as u8);
        batches.push(ChangeBatch::changes(
            rows,
            changes.then(|| Kinds::from_bytes(kinds)),
        ));
    }
    Ok(())
}
