//! From what a connector reads of a table to rows that can be looked up.

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::{concat_batches, filter_record_batch},
    datatypes::SchemaRef,
};
use engine::{ChangeBatch, operator::OperatorError, schema::arrow_schema, source::SourceError};
use proto::plan;

use super::{LookupIndex, LookupKeys, columns_of, lookup_table};
use crate::{EvalContext, calc::Projector, join::shape::null_rows};

/// What finding a row by its key takes beside the row: its hash, its key and where it is.
const INDEX_ROW_BYTES: usize = 32;

/// Takes the rows of a table, one batch after the other, and keeps those that can be found.
pub struct LookupReader {
    table: String,
    projector: Projector,
    keys: LookupKeys,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    bytes: usize,
    bytes_max: usize,
}

impl LookupReader {
    /// For what `spec` looks up, of which at most `bytes_max` bytes are kept.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn new(spec: &plan::LookupJoin, bytes_max: usize) -> Result<LookupReader, OperatorError> {
        let table = lookup_table(spec)?;
        let produced = columns_of(table.produced.as_ref())?;
        let columns = columns_of(table.columns.as_ref())?;
        let calc = table.calc.as_ref();
        let calc =
            calc.ok_or_else(|| OperatorError::Plan("a table without projection".to_owned()))?;
        let projector = Projector::compile(calc, &produced, &columns)
            .map_err(|error| OperatorError::Plan(error.to_string()))?;
        let types = super::key_types(&spec.right_keys, &columns)?;
        Ok(LookupReader {
            table: table.table.clone(),
            projector,
            keys: LookupKeys::new(spec, types)?,
            schema: arrow_schema(&columns),
            batches: Vec::new(),
            bytes: 0,
            bytes_max,
        })
    }

    /// Takes rows of the columns that the connector makes.
    ///
    /// # Errors
    /// When an expression of the query cannot be computed, and when the rows are too many.
    pub fn add(&mut self, rows: RecordBatch) -> Result<(), OperatorError> {
        let rows = ChangeBatch::inserts(rows);
        let projected = self.projector.evaluate(&rows, &EvalContext::default());
        let projected = projected
            .map_err(|error| OperatorError::Evaluate(format!("table `{}`: {error}", self.table)))?;
        let Some(projected) = projected else {
            return Ok(());
        };
        let mut rows = projected.rows;
        let keys = self.keys.encoder.columns().iter();
        let keys: Vec<_> = keys.map(|column| rows.column(*column).clone()).collect();
        if let Some(lost) = null_rows(&keys, &self.keys.strict) {
            rows = filter_record_batch(&rows, &BooleanArray::new(!&lost, None))?;
        }
        self.bytes += rows.get_array_memory_size() + rows.num_rows() * INDEX_ROW_BYTES;
        if self.bytes > self.bytes_max {
            return Err(OperatorError::Source {
                table: self.table.clone(),
                source: SourceError::Refused {
                    what: "what is looked up".to_owned(),
                    cause: format!(
                        "its rows take more than {} MiB; join the table as a stream, without FOR \
                         SYSTEM_TIME, or look up a view that has fewer columns and rows",
                        self.bytes_max >> 20
                    ),
                },
            });
        }
        self.batches.push(rows);
        Ok(())
    }

    /// All that was taken, to be looked up.
    ///
    /// # Errors
    /// When keys cannot be made of it.
    pub fn finish(self) -> Result<LookupIndex, OperatorError> {
        let rows = match self.batches.first() {
            Some(first) => concat_batches(&first.schema(), &self.batches)?,
            None => RecordBatch::new_empty(self.schema),
        };
        // They are put into another order next, which takes their memory again.
        drop(self.batches);
        let keys = self.keys.encoder.encode(&rows)?;
        LookupIndex::new(&rows, &keys)
    }
}
