//! The window table functions alone: every row once per window that it belongs to, with
//! window_start, window_end and window_time appended. Stateless; watermarks pass. (Sessions have an operator
//! of their own.)

use arrow::{
    array::{RecordBatch, UInt32Array},
    datatypes::{DataType, SchemaRef},
};
use engine::{
    ChangeBatch,
    operator::{Operator, OperatorContext, OperatorError, Step, TaskScope},
    schema::arrow_schema,
};
use proto::{
    plan::{self, WindowKind},
    types::{Field, TableId},
};

use super::{
    session_assign::SessionAssignOperator,
    slices::Slices,
    time_column::{time_array, times},
};

/// Assigns rows to windows.
pub struct WindowAssignOperator {
    slices: Slices,
    time_column: usize,
    schema: SchemaRef,
    rest: Option<Rest>,
}

/// What is left of a batch.
struct Rest {
    batch: ChangeBatch,
    times: Vec<i64>,
    row: usize,
    /// The last window emitted of `row`; `i64::MIN`: none.
    window: i64,
}

impl WindowAssignOperator {
    /// The operator of a plan node over rows of `input`, with the node's state tables; `output` are the
    /// node's output columns.
    ///
    /// # Errors
    /// When the plan does not fit, or asks for what is not supported.
    pub fn build(
        spec: &plan::WindowAssign,
        input: &[Field],
        output: &[Field],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let window = spec.window.as_ref().ok_or_else(|| {
            OperatorError::Plan("a window table function without window".to_owned())
        })?;
        if window.kind() == WindowKind::Session {
            return SessionAssignOperator::build(spec, input, output, tables, scope);
        }
        if output.len() != input.len() + 3 || window.time_column as usize >= input.len() {
            let message = "a window table function appends three columns";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        Ok(Box::new(WindowAssignOperator {
            slices: Slices::of_window(window)?,
            time_column: window.time_column as usize,
            schema: arrow_schema(output),
            rest: None,
        }))
    }

    fn emit_some(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(rest) = &mut self.rest else {
            return Ok(Step::Done);
        };
        let (mut rows, mut windows) = (Vec::new(), Vec::new());
        while rest.row < rest.times.len() && rows.len() < context.scope.batch_rows.max(1) {
            let slice = self.slices.of_time(rest.times[rest.row]);
            match self.slices.next_window(slice, rest.window) {
                Some(window) => {
                    rows.push(rest.row as u32);
                    windows.push(window);
                    rest.window = window;
                }
                None => {
                    rest.row += 1;
                    rest.window = i64::MIN;
                }
            }
        }
        let is_whole = rows.len() == rest.times.len() && rows.windows(2).all(|w| w[0] < w[1]);
        let taken = match is_whole {
            true => rest.batch.clone(),
            false => rest.batch.take(&UInt32Array::from(rows))?,
        };
        if rest.row == rest.times.len() {
            self.rest = None;
        }
        let inputs = taken.rows.num_columns();
        let data_type =
            |index: usize| -> &DataType { self.schema.field(inputs + index).data_type() };
        let starts = windows
            .iter()
            .map(|window| self.slices.start(*window))
            .collect();
        let times = windows.iter().map(|window| window - 1).collect();
        let mut columns = taken.rows.columns().to_vec();
        columns.push(time_array(starts, data_type(0))?);
        columns.push(time_array(windows, data_type(1))?);
        columns.push(time_array(times, data_type(2))?);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        context.out.batch(ChangeBatch::changes(rows, taken.kinds));
        Ok(match self.rest {
            Some(_) => Step::More,
            None => Step::Done,
        })
    }
}

impl Operator for WindowAssignOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.rest = Some(Rest {
            times: times(batch.rows.column(self.time_column))?,
            batch,
            row: 0,
            window: i64::MIN,
        });
        self.emit_some(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.emit_some(context)
    }
}
