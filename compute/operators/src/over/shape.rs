//! What is fixed about a node: partition, order, frame, calls, and the columns that come out.

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use engine::{key::KeyEncoder, operator::OperatorError, schema::arrow_schema};
use proto::{
    plan::{self, AggregateCall, OverNumber, OverOrder, over_call::Function},
    types::Field,
};

use super::frame::Frame;
use crate::rows::{OrderKeys, RowOrder, arrow_types, column, columns};

/// A node over rows of some columns.
pub(super) struct OverShape {
    pub(super) keys: KeyEncoder,
    pub(super) frame: Frame,
    pub(super) order: OverOrder,
    pub(super) order_by: Vec<plan::SortKey>,
    pub(super) partition_by: Vec<u32>,
    /// Tells rows apart that the order tells apart; `None`: all are.
    peers: Option<RowOrder>,
    pub(super) aggregates: Vec<AggregateCall>,
    pub(super) lags: Vec<Lag>,
    /// By call.
    pub(super) outputs: Vec<Output>,
    schema: SchemaRef,
}

/// Where a call's result comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Output {
    /// An aggregate.
    Aggregate(usize),
    /// A value of a row before.
    Lag(usize),
    /// A number.
    Number(OverNumber),
}

/// `LAG(column, offset, default)`
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub(super) column: usize,
    pub(super) offset: usize,
    pub(super) default: Option<usize>,
}

impl OverShape {
    pub(super) fn new(spec: &plan::OverAggregate, input: &[Field]) -> Result<Self, OperatorError> {
        let types = arrow_types(input);
        let keys = columns(&spec.partition_by, input)?;
        let key_types = keys.iter().map(|key| types[*key].clone()).collect();
        let order = spec.order();
        let frame = frame(&spec.frame.unwrap_or_default())?;
        let peers = match order {
            OverOrder::ByArrival => None,
            _ => Some(RowOrder::new(&spec.order_by, input)?),
        };
        let (mut aggregates, mut lags, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut output = input.to_vec();
        for call in &spec.calls {
            let data_type = plan::data_type(&call.r#type)
                .map_err(|error| OperatorError::Plan(error.to_string()))?;
            output.push(Field::new(&call.name, data_type));
            outputs.push(match &call.function {
                Some(Function::Aggregate(call)) => {
                    aggregates.push(call.clone());
                    Output::Aggregate(aggregates.len() - 1)
                }
                Some(Function::Lag(lag)) => {
                    lags.push(Lag {
                        column: column(lag.column, input)?,
                        offset: usize::try_from(lag.offset).unwrap_or(usize::MAX),
                        default: match lag.default {
                            Some(default) => Some(column(default, input)?),
                            None => None,
                        },
                    });
                    Output::Lag(lags.len() - 1)
                }
                Some(Function::Number(number)) => {
                    Output::Number(OverNumber::try_from(*number).unwrap_or_default())
                }
                None => return fail("an OVER call has no function"),
            });
        }
        Ok(OverShape {
            keys: KeyEncoder::new(keys, key_types)?,
            frame,
            order,
            order_by: spec.order_by.clone(),
            partition_by: spec.partition_by.clone(),
            peers,
            aggregates,
            lags,
            outputs,
            schema: arrow_schema(&output),
        })
    }

    /// Whether a call is a number of this kind.
    pub(super) fn has_number(&self, wanted: OverNumber) -> bool {
        self.outputs.contains(&Output::Number(wanted))
    }

    /// What tells rows of a batch apart by their order; `None`: all are.
    pub(super) fn peer_keys(
        &self,
        batch: &RecordBatch,
    ) -> Result<Option<OrderKeys>, OperatorError> {
        let peers = self.peers.as_ref();
        peers.map(|peers| peers.keys(batch.columns())).transpose()
    }

    /// Rows of the input with the calls' results.
    pub(super) fn output(
        &self,
        columns: &[ArrayRef],
        results: Vec<ArrayRef>,
    ) -> Result<RecordBatch, OperatorError> {
        let rows = results.first().map_or(0, |result| result.len());
        let columns = columns.iter().cloned().chain(results).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = SchemaRef::clone(&self.schema);
        Ok(RecordBatch::try_new_with_options(
            schema, columns, &options,
        )?)
    }
}

fn frame(frame: &plan::OverFrame) -> Result<Frame, OperatorError> {
    Ok(match (frame.preceding, frame.range) {
        (None, range) => Frame::Unbounded { range },
        (Some(rows), false) => Frame::Rows(rows),
        (Some(ms), true) => match i64::try_from(ms) {
            Ok(ms) => Frame::Range(ms),
            Err(_) => return fail("a frame is longer than time"),
        },
    })
}

/// The error of a plan that cannot be run.
pub(super) fn fail<T>(message: &str) -> Result<T, OperatorError> {
    Err(OperatorError::Plan(message.to_owned()))
}
