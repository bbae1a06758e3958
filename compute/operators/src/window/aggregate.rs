//! Aggregation in windows. Each row changes one slice; when the watermark passes the end of a
//! window, its slices are merged and its rows leave, once and for all; when no window needs a
//! slice any more, its state is closed as a whole.
//!
//! Output columns: keys, calls, window properties. State: see [`AggregateStore`], one namespace
//! per slice, named by its end. All of it is in memory: windows fire without being asked for.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{AsArray as _, UInt32Array},
    datatypes::{Int64Type, SchemaRef},
};
use engine::{
    ChangeBatch, Element, Timestamp,
    clock::Clock,
    late::LateRows,
    operator::{Operator, OperatorContext, OperatorError, OperatorState, Step, TaskScope},
    schema::arrow_schema,
};
use proto::{
    plan::{self, WindowProperty, window_aggregate::Windowing as PlanWindowing},
    types::{Field, TableId},
};
use state_client::LoadedRow;

use super::{
    fire::{Firing, Growing},
    processing_time::{Alarm, Target},
    session::SessionAggregateOperator,
    slices::Slices,
    state::Freeze,
    state_keys::StateKeys,
    time_column::times,
};
use crate::{
    aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables, adds},
    rows::fired::Fired,
};

/// How rows come to their windows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Windowing {
    /// By a time column.
    Times { slices: Slices, column: usize },
    /// By the clock.
    Clock { slices: Slices },
    /// Partials come with the end of their slice in the last column.
    Partials { slices: Slices },
    /// Rows carry their window, which is a slice of its own.
    Attached { start: usize, end: usize },
}

impl Windowing {
    /// How time is cut, where it is.
    pub(super) fn slices(&self) -> Option<&Slices> {
        match self {
            Windowing::Times { slices, .. }
            | Windowing::Clock { slices }
            | Windowing::Partials { slices } => Some(slices),
            Windowing::Attached { .. } => None,
        }
    }

    /// The last window of a slice.
    pub(super) fn last_window(&self, slice: i64) -> i64 {
        self.slices()
            .map_or(slice, |slices| slices.last_window(slice))
    }

    /// Its first window that ends after `after`.
    pub(super) fn next_window(&self, slice: i64, after: i64) -> Option<i64> {
        match self.slices() {
            Some(slices) => slices.next_window(slice, after),
            None => (slice > after).then_some(slice),
        }
    }
}

/// Aggregates rows by key and window.
pub struct WindowAggregateOperator {
    pub(super) windowing: Windowing,
    pub(super) encoder: StateKeys,
    pub(super) plan: Arc<AggregatePlan>,
    pub(super) tables: StateTables,
    pub(super) properties: Vec<WindowProperty>,
    pub(super) schema: SchemaRef,
    pub(super) scope: TaskScope,
    pub(super) slices: BTreeMap<i64, AggregateStore>,
    /// Which windows have fired.
    pub(super) fired: Fired,
    /// Where the watermark (or the clock) under way leads.
    pub(super) target: Option<Target>,
    /// Of windows over processing time.
    pub(super) alarm: Option<Alarm>,
    pub(super) firing: Option<Firing>,
    /// CUMULATE: the window that grows.
    pub(super) growing: Option<Growing>,
    pub(super) freeze: Freeze,
    /// Values read before their group.
    pub(super) early: Vec<(TableId, LoadedRow)>,
    pub(super) slots: Vec<u32>,
}

impl WindowAggregateOperator {
    /// The operator of a plan node over rows of `input`, with the node's state tables; `output`
    /// are the node's output columns.
    ///
    /// # Errors
    /// When the plan does not fit, or asks for what is not supported.
    pub fn build(
        spec: &plan::WindowAggregate,
        input: &[Field],
        output: &[Field],
        tables: &[TableId],
        input_append_only: bool,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        if SessionAggregateOperator::is_for(spec) {
            return SessionAggregateOperator::build(
                spec,
                input,
                output,
                tables,
                input_append_only,
                scope,
            );
        }
        let keys: Vec<usize> = spec.keys.iter().map(|column| *column as usize).collect();
        let rowset = match (spec.from_partial, input_append_only) {
            (true, _) => Rowset::Partial { keys: keys.len() },
            (false, true) => Rowset::Appended,
            (false, false) => Rowset::Changed,
        };
        let plan = Arc::new(AggregatePlan::new(&spec.calls, input, rowset)?);
        let windowing = windowing(spec)?;
        let start = match windowing {
            Windowing::Attached { start, .. } => Some(start),
            _ => None,
        };
        let properties: Vec<WindowProperty> = spec.properties().collect();
        if output.len() != keys.len() + spec.calls.len() + properties.len() {
            let message = format!("a window aggregate has {} output columns", output.len());
            return Err(OperatorError::Plan(message));
        }
        let is_clocked = matches!(windowing, Windowing::Clock { .. });
        Ok(Box::new(WindowAggregateOperator {
            windowing,
            alarm: is_clocked.then(Alarm::new),
            encoder: StateKeys::new(&keys, start, input)?,
            tables: StateTables::new(tables, &plan)?,
            plan,
            properties,
            schema: arrow_schema(output),
            scope: scope.clone(),
            slices: BTreeMap::new(),
            fired: Fired::default(),
            target: None,
            firing: None,
            growing: None,
            freeze: Freeze::default(),
            early: Vec::new(),
            slots: Vec::new(),
        }))
    }

    pub(super) fn new_store(&self, namespace: i64) -> Result<AggregateStore, OperatorError> {
        let width = self.encoder.width();
        AggregateStore::new(
            self.plan.clone(),
            self.tables,
            namespace,
            width,
            &self.scope,
            false,
            None,
        )
    }

    /// The slice of each row.
    fn slice_ends(
        &self,
        batch: &ChangeBatch,
        clock: &dyn Clock,
    ) -> Result<Vec<i64>, OperatorError> {
        let rows = &batch.rows;
        match self.windowing {
            Windowing::Times { slices, column } => {
                let times = times(rows.column(column))?;
                Ok(times.into_iter().map(|time| slices.of_time(time)).collect())
            }
            Windowing::Clock { slices } => {
                let now = clock.wall_ms();
                if self.fired.is_even() {
                    let slice = slices.of_time(now.max(self.fired.upto()));
                    return Ok(vec![slice; rows.num_rows()]);
                }
                let slice = |hash: &u64| {
                    let fired = self.fired.of(self.scope.key_groups.of_hash(*hash));
                    slices.of_time(now.max(fired))
                };
                Ok(self
                    .encoder
                    .encode(batch)?
                    .hashes
                    .iter()
                    .map(slice)
                    .collect())
            }
            Windowing::Partials { .. } => {
                let ends = rows
                    .columns()
                    .last()
                    .and_then(|c| c.as_primitive_opt::<Int64Type>());
                let ends = ends.ok_or_else(|| {
                    OperatorError::Plan("partials without the end of their slice".to_owned())
                })?;
                Ok(ends.values().to_vec())
            }
            Windowing::Attached { end, .. } => times(rows.column(end)),
        }
    }

    /// Takes each row into its slice.
    fn take_in(
        &mut self,
        batch: &ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let ends = self.slice_ends(batch, context.clock)?;
        if let Some(first) = ends.first()
            && ends.iter().all(|end| end == first)
            && self.fired.is_even()
            && self.windowing.last_window(*first) > self.fired.upto()
            && self.windowing.last_window(*first) >= *first
        {
            return self.update(*first, batch);
        }
        let hashes = match self.fired.is_even() {
            true => Vec::new(),
            false => self.encoder.encode(batch)?.hashes,
        };
        let fired = |row: usize| match hashes.get(row) {
            Some(hash) => self.fired.of(self.scope.key_groups.of_hash(*hash)),
            None => self.fired.upto(),
        };
        let mut rows_of: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let mut late = LateRows::default();
        for (row, end) in ends.iter().enumerate() {
            let last = self.windowing.last_window(*end);
            if last < *end {
                continue;
            }
            if last <= fired(row) {
                late.push(row, fired(row).saturating_sub(1));
                continue;
            }
            rows_of.entry(*end).or_default().push(row as u32);
        }
        context.drop_late(0, batch, &late)?;
        for (slice, rows) in rows_of {
            self.update(slice, &batch.take(&UInt32Array::from(rows))?)?;
        }
        Ok(())
    }

    /// The first window that is open.
    pub(super) fn first_window(&self) -> Option<i64> {
        // The first open slice has it.
        let first = self.slices.keys().next()?;
        self.windowing.next_window(*first, self.fired.upto())
    }

    /// Over processing time: wakes when the first open window is over.
    pub(super) fn set_alarm(&mut self, clock: &dyn Clock) {
        let first = self.first_window();
        if let Some(alarm) = &mut self.alarm {
            alarm.set(first, clock);
        }
    }

    /// Takes rows of one slice in.
    fn update(&mut self, slice: i64, batch: &ChangeBatch) -> Result<(), OperatorError> {
        if self
            .growing
            .as_ref()
            .is_some_and(|growing| slice <= growing.upto)
        {
            // The window that grows has this slice already, without these rows.
            self.growing = None;
        }
        if !self.slices.contains_key(&slice) {
            let store = self.new_store(slice)?;
            self.slices.insert(slice, store);
        }
        let keys = self.encoder.encode(batch)?;
        if let Some(store) = self.slices.get_mut(&slice) {
            store.main.upsert(&keys, &mut self.slots);
            store.update(&batch.rows, adds(batch).as_deref(), &self.slots)?;
        }
        Ok(())
    }
}

fn windowing(spec: &plan::WindowAggregate) -> Result<Windowing, OperatorError> {
    match &spec.windowing {
        Some(PlanWindowing::Window(window)) => {
            let slices = Slices::of_window(window)?;
            Ok(match spec.from_partial {
                _ if window.processing_time => Windowing::Clock { slices },
                true => Windowing::Partials { slices },
                false => Windowing::Times {
                    slices,
                    column: window.time_column as usize,
                },
            })
        }
        Some(PlanWindowing::Attached(window)) => Ok(Windowing::Attached {
            start: window.window_start as usize,
            end: window.window_end as usize,
        }),
        None => Err(OperatorError::Plan(
            "a window aggregate without window".to_owned(),
        )),
    }
}

impl Operator for WindowAggregateOperator {
    fn batch(
        &mut self,
        _input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.settle()?;
        self.take_in(&batch, context)?;
        self.set_alarm(context.clock);
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if self.alarm.is_some() {
            context.out.element(Element::Watermark(watermark));
            return Ok(Step::Done);
        }
        self.settle()?;
        self.target = Some(Target::of_watermark(watermark));
        self.advance(context)
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.alarm.as_ref().and_then(Alarm::at_ns)
    }

    fn deadline(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.settle()?;
        self.target = Some(Target::of_clock(context.clock));
        self.advance(context)
    }

    fn end(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        if self.alarm.is_none() {
            context.out.element(Element::End);
            return Ok(Step::Done);
        }
        self.settle()?;
        self.target = Some(Target::of_end());
        self.advance(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.advance(context)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}
