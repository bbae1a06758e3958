//! VALUES: a few constant rows, put out once, by one task.

use std::task::{Context, Poll};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, RecordBatchOptions},
    compute::concat,
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch,
    operator::{
        OperatorContext, OperatorError, OperatorState, Reassigned, SourceOperator, SourceStatus,
        StateSize, TaskScope,
    },
    schema::arrow_schema,
    state::{FrozenRows, ScanJob, StateDelta, TableDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, KeyGroup, TableId},
};
use state_client::ScanReply;

use crate::{CompiledExpr, EvalContext};

/// The source of a [`plan::Values`].
///
/// That its rows are out is a row of its table. A plan without one has them put out when the job
/// starts from nothing.
pub struct ValuesSource {
    rows: Option<Rows>,
    table: Option<TableId>,
    is_saved: bool,
    frozen: FrozenRows,
}

/// Rows that are not out yet: their expressions, and what columns they make. They are evaluated
/// when they go out, for some of them read the clock.
struct Rows {
    exprs: Vec<Vec<CompiledExpr>>,
    schema: SchemaRef,
}

/// The one row of the table: its hash is in key group 0.
const HASH: u64 = 0;
const IDENTITY: &[u8] = b"emitted";

impl ValuesSource {
    /// The rows of `spec`, with the columns `output`. Only task 0 puts them out.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::Values,
        output: &[Field],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn SourceOperator>, OperatorError> {
        let table = tables.first().copied();
        let is_out = table.is_none() && scope.restored != Epoch::ZERO;
        let is_mine = scope.index == 0 && !spec.rows.is_empty();
        let rows = match is_mine && !is_out {
            true => Some(Rows::compile(spec, output)?),
            false => None,
        };
        Ok(Box::new(ValuesSource {
            rows,
            table,
            is_saved: false,
            frozen: FrozenRows::default(),
        }))
    }
}

impl Rows {
    fn compile(spec: &plan::Values, output: &[Field]) -> Result<Rows, OperatorError> {
        let mut exprs = Vec::with_capacity(spec.rows.len());
        for row in &spec.rows {
            if row.values.len() != output.len() {
                let message = format!("VALUES of {} columns", row.values.len());
                return Err(OperatorError::Plan(message));
            }
            let compile = |expr| CompiledExpr::compile(expr, &[]);
            let row: Result<Vec<_>, _> = row.values.iter().map(compile).collect();
            exprs.push(row.map_err(|error| OperatorError::Plan(error.to_string()))?);
        }
        Ok(Rows {
            exprs,
            schema: arrow_schema(output),
        })
    }

    fn evaluate(&self, eval: &EvalContext) -> Result<RecordBatch, OperatorError> {
        let empty = std::sync::Arc::new(arrow::datatypes::Schema::empty());
        let one = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing = RecordBatch::try_new_with_options(empty, Vec::new(), &one)?;
        let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.schema.fields().len()];
        for row in &self.exprs {
            for (expr, column) in row.iter().zip(&mut columns) {
                let value = expr.evaluate(&nothing, eval);
                column.push(value.map_err(|error| OperatorError::Evaluate(error.to_string()))?);
            }
        }
        let mut arrays = Vec::with_capacity(columns.len());
        for column in &columns {
            let pieces: Vec<&dyn Array> = column.iter().map(AsRef::as_ref).collect();
            arrays.push(concat(&pieces)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.exprs.len()));
        let schema = self.schema.clone();
        Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
    }
}

impl SourceOperator for ValuesSource {
    fn poll_emit(
        &mut self,
        _cx: &mut Context<'_>,
        context: &mut OperatorContext<'_>,
    ) -> Poll<Result<SourceStatus, OperatorError>> {
        if let Some(rows) = self.rows.take() {
            let eval = EvalContext {
                now_ms: context.clock.wall_ms(),
                watermark: None,
            };
            let rows = rows.evaluate(&eval)?;
            context.out.batch(ChangeBatch::inserts(rows));
        }
        Poll::Ready(Ok(SourceStatus::Finished))
    }

    fn state(&mut self) -> &mut dyn OperatorState {
        self
    }
}

impl OperatorState for ValuesSource {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        let key_group = KeyGroup(0);
        let table = self.table.filter(|_| scope.owned.contains(key_group));
        table
            .map(|table| ScanJob::new(table, key_group))
            .into_iter()
            .collect()
    }

    fn hydrated(&mut self, _job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        if !reply.rows.is_empty() {
            self.rows = None;
            self.is_saved = true;
        }
        Ok(())
    }

    /// Its rows leave at once: whoever had them first has put them out.
    fn reassign(&mut self, _scope: &TaskScope, _change: &Reassigned) -> Vec<ScanJob> {
        Vec::new()
    }

    fn freeze(&mut self, _epoch: Epoch) {
        if self.rows.is_none() && !self.is_saved && self.table.is_some() {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(IDENTITY);
            self.frozen.push(HASH, write, Some(|_: &mut Vec<u8>| {}));
            self.is_saved = true;
        }
    }

    fn encode(&mut self, _rows_max: usize) -> bool {
        true
    }

    fn take_delta(&mut self) -> StateDelta {
        let rows = std::mem::take(&mut self.frozen);
        let mut delta = StateDelta::default();
        if let Some(table) = self.table.filter(|_| !rows.is_empty()) {
            delta.tables.push(TableDelta {
                table,
                namespace: 0,
                rows,
            });
        }
        delta
    }

    fn size(&self) -> StateSize {
        StateSize::default()
    }
}

#[cfg(test)]
mod tests {
    use engine::{Element, clock::ManualClock, operator::Outbox};
    use proto::{
        plan::{Expr, ScalarFunction, literal::Value},
        types::LogicalType,
    };

    use super::*;
    use crate::testing::{changelog, fields, scope};

    fn emitted(source: &mut dyn SourceOperator, scope: &TaskScope) -> String {
        let clock = ManualClock::default();
        clock.advance_ms(86_400_123);
        let mut out = Outbox::default();
        let mut context = OperatorContext {
            out: &mut out,
            clock: &clock,
            scope,
            counters: &mut Default::default(),
            dead_letters: &mut Vec::new(),
        };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let status = source.poll_emit(&mut cx, &mut context);
        assert!(matches!(status, Poll::Ready(Ok(SourceStatus::Finished))));
        let elements: Vec<Element> = std::iter::from_fn(|| out.pop()).collect();
        changelog(&elements)
    }

    #[test]
    fn rows_come_once() {
        let int = LogicalType::Int.nullable();
        let row = |values: [Expr; 2]| plan::ValuesRow {
            values: values.to_vec(),
        };
        let one = Expr::literal(Value::Integer(1), &int);
        let text = LogicalType::STRING.nullable();
        let spec = plan::Values {
            rows: vec![
                row([one, Expr::literal(Value::String("a".to_owned()), &text)]),
                row([Expr::null(&int), Expr::null(&text)]),
            ],
        };
        let columns = fields(&[("i", "INT"), ("s", "STRING")]);
        let scope = scope(Epoch::ZERO);
        let build = |scope: &TaskScope| ValuesSource::build(&spec, &columns, &[TableId(3)], scope);
        let mut source = build(&scope).expect("a source");
        source.state().freeze(Epoch(1));
        assert!(source.state().take_delta().tables.is_empty(), "not out yet");
        assert_eq!(emitted(source.as_mut(), &scope), "+I 1, a\n+I NULL, NULL\n");
        source.state().freeze(Epoch(2));
        assert_eq!(source.state().take_delta().tables.len(), 1);
        source.state().freeze(Epoch(3));
        assert!(source.state().take_delta().tables.is_empty());

        let second_task = TaskScope { index: 1, ..scope };
        let mut source = build(&second_task).expect("a source");
        assert_eq!(emitted(source.as_mut(), &second_task), "");
    }

    #[test]
    fn the_clock_is_read_when_rows_go_out() {
        let date = LogicalType::Date.not_null();
        let today = Expr::call(ScalarFunction::CurrentDate, vec![], &date);
        let spec = plan::Values {
            rows: vec![plan::ValuesRow {
                values: vec![today],
            }],
        };
        let scope = scope(Epoch::ZERO);
        let columns = fields(&[("d", "DATE")]);
        let mut source = ValuesSource::build(&spec, &columns, &[], &scope).expect("a source");
        assert_eq!(emitted(source.as_mut(), &scope), "+I 1970-01-02\n");
    }
}
