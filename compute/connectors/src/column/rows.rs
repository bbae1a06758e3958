//! The rows of a batch that is being decoded: columns of one length and their row kinds.

use arrow::{
    array::RecordBatch, array::RecordBatchOptions, datatypes::SchemaRef, error::ArrowError,
};
use engine::{ChangeBatch, Kinds, schema::arrow_schema};
use proto::types::{Field, RowKind};

use super::Column;

/// Rows under construction.
#[derive(Debug)]
pub(crate) struct Rows {
    schema: SchemaRef,
    names: Vec<String>,
    pub(crate) columns: Vec<Column>,
    kinds: Vec<u8>,
    only_inserts: bool,
}

impl Rows {
    /// No rows of these columns.
    pub(crate) fn new(fields: &[Field]) -> Rows {
        Rows {
            schema: arrow_schema(fields),
            names: fields.iter().map(|field| field.name.clone()).collect(),
            columns: fields
                .iter()
                .map(|field| Column::new(&field.data_type))
                .collect(),
            kinds: Vec::new(),
            only_inserts: true,
        }
    }

    /// Names of the columns, and the columns to write to.
    pub(crate) fn parts(&mut self) -> (&[String], &mut [Column]) {
        (&self.names, &mut self.columns)
    }

    /// Number of complete rows.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Completes a row whose values are all appended.
    pub(crate) fn complete(&mut self, kind: RowKind) {
        debug_assert!(
            self.columns
                .iter()
                .all(|column| column.len() == self.kinds.len() + 1)
        );
        self.kinds.push(kind as u8);
        self.only_inserts &= kind == RowKind::Insert;
    }

    /// Cuts back to the first `length` rows, dropping what was half written.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.kinds.truncate(length);
        for column in &mut self.columns {
            column.truncate(length);
        }
    }

    /// The rows as a batch; none remain.
    pub(crate) fn finish(&mut self) -> Result<ChangeBatch, ArrowError> {
        let columns = self
            .columns
            .iter_mut()
            .map(Column::finish)
            .collect::<Result<Vec<_>, _>>()?;
        let kinds = std::mem::take(&mut self.kinds);
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let only_inserts = std::mem::replace(&mut self.only_inserts, true);
        Ok(ChangeBatch::changes(
            rows,
            (!only_inserts).then(|| Kinds::from_bytes(kinds)),
        ))
    }
}
