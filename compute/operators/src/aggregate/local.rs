//! Aggregation before an exchange: many rows of a key leave as one row of partial results.
//!
//! Output columns: keys, then the calls' partial columns (see [`super::accumulator`]), then for
//! windows the end of the slice in milliseconds, as BIGINT. Holds nothing across a barrier, so it
//! has no state. Where keys hardly repeat it passes rows through, one partial each, and looks
//! again later.

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, Field as ArrowField, Schema, SchemaRef},
};
use engine::{
    ChangeBatch, Element, Timestamp,
    key::KeyEncoder,
    operator::{Operator, OperatorContext, OperatorError, Step, TaskScope},
    state::{KeyIndex, Values as _},
};
use proto::{
    plan,
    types::{Epoch, Field, KeyGroupCount, KeyGroupSet},
};

use super::{
    plan::{AggregatePlan, Rowset},
    rows::Rows,
    values::Accumulators,
};
use crate::window::{SliceColumn, Slices};

/// Rows taken in before the partials leave.
const FLUSH_ROWS: usize = 32_768;
/// Partials kept before they leave.
const FLUSH_GROUPS: usize = 16_384;
/// Rows by which it is judged whether keys repeat.
const SAMPLE_ROWS: usize = 8_192;
/// More partials per 10 rows than this do not pay.
const GROUPS_PER_TEN_ROWS_MAX: usize = 7;
/// Partials leave after this time at the latest, should nothing else make them.
const FLUSH_NS: u64 = 10_000_000;
/// Rows passed through before keys are looked at again.
const PASS_ROWS: usize = 1_048_576;

/// Aggregates within a task.
pub struct LocalAggregateOperator {
    encoder: KeyEncoder,
    keys: Vec<usize>,
    plan: AggregatePlan,
    slices: Option<SliceColumn>,
    schema: SchemaRef,
    index: KeyIndex,
    values: Accumulators,
    slots: Vec<u32>,
    /// Rows in the groups.
    rows: usize,
    /// Rows still to pass through.
    pass: usize,
    /// When the oldest partial must leave.
    deadline_ns: Option<u64>,
}

impl LocalAggregateOperator {
    /// The operator of a plan node over rows of `input`.
    ///
    /// # Errors
    /// When the plan does not fit, or asks for what is not supported.
    pub fn build(
        spec: &plan::LocalAggregate,
        input: &[Field],
        _scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let keys: Vec<usize> = spec.keys.iter().map(|column| *column as usize).collect();
        let plan = AggregatePlan::new(&spec.calls, input, Rowset::Appended)?;
        if !plan.distincts.is_empty() {
            let message = "a local aggregate of DISTINCT values is not supported";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let by_key = super::group::key_encoder(&keys, input)?;
        let slices = match &spec.window {
            None => None,
            Some(window) => {
                let slices = Slices::of_window(window)?;
                Some(SliceColumn::new(slices, window.time_column as usize))
            }
        };
        // The slice is one more key.
        let mut types: Vec<DataType> = (keys.iter())
            .map(|column| engine::schema::arrow_type(&input[*column].data_type.logical))
            .collect();
        types.extend(slices.iter().map(|_| DataType::Int64));
        let encoder = match slices {
            None => by_key,
            Some(_) => KeyEncoder::new((0..types.len()).collect(), types)?,
        };
        let values = Accumulators::new(plan.accumulators()?, false);
        Ok(Box::new(LocalAggregateOperator {
            schema: schema(&keys, input, &plan, &values, slices.is_some())?,
            index: empty_index(&encoder),
            encoder,
            keys,
            plan,
            slices,
            values,
            slots: Vec::new(),
            rows: 0,
            pass: 0,
            deadline_ns: None,
        }))
    }

    fn key_columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut columns: Vec<ArrayRef> = self
            .keys
            .iter()
            .map(|column| batch.column(*column).clone())
            .collect();
        if let Some(slices) = &self.slices {
            columns.push(slices.ends(batch)?);
        }
        Ok(columns)
    }

    fn aggregate(&mut self, batch: &RecordBatch) -> Result<(), OperatorError> {
        let keys = self
            .encoder
            .encode_arrays(&self.key_columns(batch)?, batch.num_rows())?;
        let values = &mut self.values;
        self.index.find_or_insert(&keys, &mut self.slots, |slot| {
            values.reserve(slot as usize + 1);
            values.reset(slot);
        });
        let rows = Rows::all(&self.slots);
        self.values
            .update(&self.plan, &rows, batch, &mut Vec::new())?;
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Rows as partials of themselves.
    fn pass(
        &mut self,
        batch: &RecordBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        self.pass = self.pass.saturating_sub(batch.num_rows());
        let columns = self.key_columns(batch)?;
        self.slots.clear();
        self.slots.extend(0..batch.num_rows() as u32);
        self.values.reserve(batch.num_rows());
        self.slots.iter().for_each(|slot| self.values.reset(*slot));
        self.values
            .update(&self.plan, &Rows::all(&self.slots), batch, &mut Vec::new())?;
        let slots = std::mem::take(&mut self.slots);
        self.put_out(columns, &slots, context)?;
        self.slots = slots;
        Ok(())
    }

    fn flush(&mut self, context: &mut OperatorContext<'_>) -> Result<(), OperatorError> {
        self.deadline_ns = None;
        if self.rows == 0 {
            return Ok(());
        }
        let groups = self.index.len();
        if self.rows >= SAMPLE_ROWS && groups * 10 > self.rows * GROUPS_PER_TEN_ROWS_MAX {
            self.pass = PASS_ROWS;
        }
        let slots: Vec<u32> = (0..groups as u32).collect();
        for slots in slots.chunks(context.scope.batch_rows.max(1)) {
            let columns = self.encoder.decode(&self.index.keys_of(slots))?;
            self.put_out(columns, slots, context)?;
        }
        self.index = empty_index(&self.encoder);
        self.rows = 0;
        Ok(())
    }

    fn put_out(
        &self,
        mut keys: Vec<ArrayRef>,
        slots: &[u32],
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let slice_ends = keys.split_off(self.keys.len());
        let mut columns = keys;
        for accumulator in &self.plan.outputs {
            columns.extend(self.partials(*accumulator, slots)?);
        }
        columns.extend(slice_ends);
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        context.out.batch(ChangeBatch::inserts(rows));
        Ok(())
    }

    fn partials(
        &self,
        output: super::plan::Output,
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        match output {
            super::plan::Output::Accumulator(index) => self.values.list[index].partials(slots),
            super::plan::Output::Ordered { .. } => {
                unreachable!("only retracting input needs ordered tables")
            }
        }
    }
}

/// Columns of keys, partials and slice.
fn schema(
    keys: &[usize],
    input: &[Field],
    plan: &AggregatePlan,
    values: &Accumulators,
    is_windowed: bool,
) -> Result<SchemaRef, OperatorError> {
    let mut fields: Vec<ArrowField> = (keys.iter())
        .map(|column| engine::schema::arrow_field(&input[*column].name, &input[*column].data_type))
        .collect();
    for (output, call) in plan.outputs.iter().zip(&plan.fields) {
        let super::plan::Output::Accumulator(index) = output else {
            continue;
        };
        for (number, partial) in values.list[*index].partials(&[])?.iter().enumerate() {
            let name = format!("{}${number}", call.name);
            fields.push(ArrowField::new(name, partial.data_type().clone(), true));
        }
    }
    if is_windowed {
        fields.push(ArrowField::new("$slice_end", DataType::Int64, true));
    }
    Ok(std::sync::Arc::new(Schema::new(fields)))
}

/// An index of one key group: nothing here is owned.
fn empty_index(encoder: &KeyEncoder) -> KeyIndex {
    let one = KeyGroupCount::new(1).expect("one is a power of two");
    KeyIndex::new(encoder.width(), one, &KeyGroupSet::all(one), false)
}

impl Operator for LocalAggregateOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        let rows = match &self.slices {
            None => batch.rows,
            Some(slices) => slices.within_windows(batch)?.rows,
        };
        if self.pass > 0 {
            self.pass(&rows, context)?;
            return Ok(Step::Done);
        }
        self.aggregate(&rows)?;
        if self.deadline_ns.is_none() {
            self.deadline_ns = Some(context.clock.monotonic_ns().saturating_add(FLUSH_NS));
        }
        let is_sampled =
            self.rows >= SAMPLE_ROWS && self.index.len() * 10 > self.rows * GROUPS_PER_TEN_ROWS_MAX;
        if is_sampled || self.rows >= FLUSH_ROWS || self.index.len() >= FLUSH_GROUPS {
            self.flush(context)?;
        }
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.flush(context)?;
        context.out.element(Element::Watermark(watermark));
        Ok(Step::Done)
    }

    fn barrier(
        &mut self,
        epoch: Epoch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.flush(context)?;
        context.out.element(Element::barrier(epoch));
        Ok(Step::Done)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn deadline(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.flush(context)?;
        Ok(Step::Done)
    }

    fn end(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.flush(context)?;
        context.out.element(Element::End);
        Ok(Step::Done)
    }
}
