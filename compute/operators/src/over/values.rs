//! What the calls of a node read of a row: columns of the input, with the calls over them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::{concat, interleave, take},
    datatypes::SchemaRef,
};
use engine::{operator::OperatorError, schema::arrow_schema};
use proto::{plan::AggregateCall, types::Field};

use super::shape::{Lag, OverShape};
use crate::rows::column;

/// Columns that calls read.
pub(super) struct ValueColumns {
    /// Of the input.
    pub(super) columns: Vec<usize>,
    pub(super) fields: Vec<Field>,
    /// The calls, over these columns.
    pub(super) aggregates: Vec<AggregateCall>,
    /// Likewise, but for the default, which is read of the row itself.
    pub(super) lags: Vec<Lag>,
    schema: SchemaRef,
}

impl ValueColumns {
    pub(super) fn new(shape: &OverShape, input: &[Field]) -> Result<ValueColumns, OperatorError> {
        let mut columns: Vec<usize> = Vec::new();
        let mut place = |at: u32| -> Result<u32, OperatorError> {
            let at = column(at, input)?;
            let known = columns.iter().position(|other| *other == at);
            Ok(known.unwrap_or_else(|| {
                columns.push(at);
                columns.len() - 1
            }) as u32)
        };
        let mut aggregates = Vec::with_capacity(shape.aggregates.len());
        for call in &shape.aggregates {
            let args = call.args.iter().map(|arg| place(*arg));
            aggregates.push(AggregateCall {
                args: args.collect::<Result<_, _>>()?,
                filter: call.filter.map(&mut place).transpose()?,
                ..call.clone()
            });
        }
        let mut lags = Vec::with_capacity(shape.lags.len());
        for lag in &shape.lags {
            lags.push(Lag {
                column: place(lag.column as u32)? as usize,
                ..*lag
            });
        }
        let fields: Vec<Field> = columns.iter().map(|at| input[*at].clone()).collect();
        Ok(ValueColumns {
            schema: arrow_schema(&fields),
            columns,
            fields,
            aggregates,
            lags,
        })
    }

    /// Columns as a batch.
    pub(super) fn batch(
        &self,
        columns: Vec<ArrayRef>,
        rows: usize,
    ) -> Result<RecordBatch, OperatorError> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }

    /// These columns of the rows of a batch, and behind them those of so many rows that were decoded.
    pub(super) fn with_old(
        &self,
        batch: &RecordBatch,
        old: &[ArrayRef],
        more: usize,
    ) -> Result<RecordBatch, OperatorError> {
        let columns = self.columns.iter().map(|at| batch.column(*at));
        let columns: Vec<ArrayRef> = match more {
            0 => columns.cloned().collect(),
            _ => columns
                .zip(old)
                .map(|(new, old)| concat(&[new.as_ref(), old.as_ref()]))
                .collect::<Result<_, _>>()?,
        };
        self.batch(columns, batch.num_rows() + more)
    }

    /// LAG: the values of the rows where there are any, else the default, of which there is one for each.
    pub(super) fn lag(
        &self,
        lag: usize,
        sources: &[Option<u32>],
        columns: &RecordBatch,
        default: Option<&ArrayRef>,
    ) -> Result<ArrayRef, OperatorError> {
        let values = columns.column(self.lags[lag].column);
        let Some(default) = default else {
            return Ok(take(values, &UInt32Array::from(sources.to_vec()), None)?);
        };
        let places = sources
            .iter()
            .enumerate()
            .map(|(row, source)| match source {
                Some(source) => (0, *source as usize),
                None => (1, row),
            });
        let places: Vec<(usize, usize)> = places.collect();
        Ok(interleave(&[values.as_ref(), default.as_ref()], &places)?)
    }
}
