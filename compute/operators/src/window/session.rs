//! Aggregation in sessions: rows of a key that are at most the gap apart belong together. A row
//! may start a session, lengthen one, or join two to one; a session leaves when the watermark
//! passes the gap after its last row.
//!
//! State: [`AggregateStore`] without namespace, keyed by key and the time of the session's first
//! row to arrive, with the session's extent.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, UInt32Array},
    datatypes::SchemaRef,
};
use engine::{
    ChangeBatch, Element, Timestamp,
    clock::Clock,
    key::KeyBatch,
    late::LateRows,
    operator::{Operator, OperatorContext, OperatorError, OperatorState, Step, TaskScope},
    schema::arrow_schema,
};
use proto::{
    plan::{self, WindowKind, WindowProperty, WindowSpec, window_aggregate::Windowing},
    types::{Field, TableId},
};
use state_client::LoadedRow;

use super::{
    processing_time::{Alarm, Target},
    session_index::SessionIndex,
    session_state::Unsettled,
    state_keys::StateKeys,
    time_column::{time_array, times},
};
use crate::{
    aggregate::{AggregatePlan, AggregateStore, Rowset, StateTables, adds},
    rows::fired::{Fired, FrozenMarks},
};

/// Aggregates rows by key and session.
pub(super) struct SessionAggregateOperator {
    pub(super) encoder: StateKeys,
    keys: Vec<usize>,
    time_column: usize,
    pub(super) gap: i64,
    pub(super) plan: Arc<AggregatePlan>,
    pub(super) tables: StateTables,
    properties: Vec<WindowProperty>,
    schema: SchemaRef,
    pub(super) scope: TaskScope,
    pub(super) store: AggregateStore,
    pub(super) index: SessionIndex,
    /// Which sessions have fired, by their end.
    pub(super) fired: Fired,
    pub(super) frozen: FrozenMarks,
    pub(super) unsettled: Unsettled,
    /// Where the watermark (or the clock) under way leads.
    target: Option<Target>,
    /// Of sessions over processing time.
    pub(super) alarm: Option<Alarm>,
    /// Sessions on their way out, in order.
    firing: Vec<u32>,
    next: usize,
    /// Values read before their session.
    pub(super) early: Vec<(TableId, LoadedRow)>,
}

impl SessionAggregateOperator {
    /// Whether the plan asks for sessions.
    pub(super) fn is_for(spec: &plan::WindowAggregate) -> bool {
        window(spec).is_some_and(|window| window.kind() == WindowKind::Session)
    }

    pub(super) fn build(
        spec: &plan::WindowAggregate,
        input: &[Field],
        output: &[Field],
        tables: &[TableId],
        input_append_only: bool,
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let fail = |message: &str| Err(OperatorError::Plan(message.to_owned()));
        let Some(window) = window(spec) else {
            return fail("sessions without window");
        };
        let gap = i64::try_from(window.gap_ms).ok().filter(|gap| *gap > 0);
        let Some(gap) = gap else {
            return fail("a session needs a gap");
        };
        if spec.from_partial {
            return fail("sessions have no partial form");
        }
        let keys: Vec<usize> = spec.keys.iter().map(|column| *column as usize).collect();
        let rowset = match input_append_only {
            true => Rowset::Appended,
            false => Rowset::Changed,
        };
        let plan = Arc::new(AggregatePlan::new(&spec.calls, input, rowset)?);
        let properties: Vec<WindowProperty> = spec.properties().collect();
        if output.len() != keys.len() + spec.calls.len() + properties.len() {
            return fail("a session aggregate's output columns do not fit");
        }
        let encoder = StateKeys::with_number(&keys, input)?;
        let tables = StateTables::new(tables, &plan)?;
        let mut store =
            AggregateStore::new(plan.clone(), tables, 0, encoder.width(), scope, false, None)?;
        store.main.values.keep_extents();
        Ok(Box::new(SessionAggregateOperator {
            index: SessionIndex::new(encoder.key_width(), scope),
            encoder,
            keys,
            time_column: window.time_column as usize,
            gap,
            plan,
            tables,
            properties,
            schema: arrow_schema(output),
            scope: scope.clone(),
            store,
            fired: Fired::default(),
            frozen: FrozenMarks::default(),
            unsettled: Unsettled::default(),
            target: None,
            alarm: window.processing_time.then(Alarm::new),
            firing: Vec::new(),
            next: 0,
            early: Vec::new(),
        }))
    }

    /// Where a session ends.
    pub(super) fn end_of(&self, session: u32) -> i64 {
        self.store
            .main
            .values
            .extent(session)
            .1
            .saturating_add(self.gap)
    }

    /// Takes each row into its session, old or new.
    fn take_in(
        &mut self,
        batch: &ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let mut columns: Vec<ArrayRef> = self
            .keys
            .iter()
            .map(|column| batch.rows.column(*column).clone())
            .collect();
        let by_key = self.encoder.encode_key(&columns, batch.num_rows())?;
        let times = self.times(batch, &by_key, context.clock)?;
        let mut numbers = Vec::new();
        self.index.keys(&by_key, &mut numbers);
        columns.push(Arc::new(Int64Array::from(times.clone())));
        let fired = |hash: u64| self.fired.of(self.scope.key_groups.of_hash(hash));
        let fired: Vec<i64> = match self.fired.is_even() {
            true => Vec::new(),
            false => by_key.hashes.iter().map(|hash| fired(*hash)).collect(),
        };
        let upto = self.fired.upto();
        let fired_of = |row: usize| fired.get(row).copied().unwrap_or(upto);
        let whole = self.encoder.encode_whole(by_key.hashes, &columns)?;
        let (mut rows, mut sessions) = (Vec::new(), Vec::new());
        let mut joined = BTreeMap::new();
        let mut touching = Vec::new();
        let mut late = LateRows::default();
        for (row, time) in times.into_iter().enumerate() {
            let to = time.saturating_add(self.gap);
            let (values, gap) = (&self.store.main.values, self.gap);
            let reaches = |session: u32| values.extent(session).1.saturating_add(gap) >= time;
            self.index
                .touching(numbers[row], to, reaches, &mut touching);
            let session = match touching.split_last() {
                Some((session, others)) => {
                    self.lengthen(*session, time);
                    for other in others {
                        self.join(*session, *other)?;
                        joined.insert(*other, *session);
                    }
                    *session
                }
                None if to <= fired_of(row) => {
                    late.push(row, fired_of(row).saturating_sub(1));
                    continue;
                }
                None if !batch.kind(row).is_add() => continue,
                None => self.begin(&whole, row, numbers[row], time),
            };
            rows.push(row as u32);
            sessions.push(session);
        }
        self.index.forget_idle(&numbers);
        context.drop_late(0, batch, &late)?;
        for session in &mut sessions {
            while let Some(into) = joined.get(session) {
                *session = *into;
            }
        }
        self.update(batch, &rows, &sessions)?;
        // Only now, because a new session could have taken their places.
        joined
            .keys()
            .for_each(|session| self.store.remove(*session));
        Ok(())
    }

    /// When the rows are.
    fn times(
        &self,
        batch: &ChangeBatch,
        keys: &KeyBatch,
        clock: &dyn Clock,
    ) -> Result<Vec<Timestamp>, OperatorError> {
        if self.alarm.is_none() {
            return times(batch.rows.column(self.time_column));
        }
        let now = clock.wall_ms();
        let fired = |hash: &u64| self.fired.of(self.scope.key_groups.of_hash(*hash));
        Ok(keys
            .hashes
            .iter()
            .map(|hash| now.max(fired(hash)))
            .collect())
    }

    /// Over processing time: wakes when the first session may be over.
    fn set_alarm(&mut self, clock: &dyn Clock) {
        let first = self.index.first_alarm();
        if let Some(alarm) = &mut self.alarm {
            alarm.set(first, clock);
        }
    }

    fn update(
        &mut self,
        batch: &ChangeBatch,
        rows: &[u32],
        sessions: &[u32],
    ) -> Result<(), OperatorError> {
        sessions
            .iter()
            .for_each(|session| self.store.main.touch(*session));
        let taken = match rows.len() == batch.num_rows() {
            true => batch.clone(),
            false => batch.take(&UInt32Array::from(rows.to_vec()))?,
        };
        self.store
            .update(&taken.rows, adds(&taken).as_deref(), sessions)
    }

    fn begin(&mut self, keys: &KeyBatch, row: usize, key: u32, time: i64) -> u32 {
        let mut slots = Vec::with_capacity(1);
        self.store
            .main
            .find_or_insert(&keys.take(&[row as u32]), &mut slots);
        let session = slots[0];
        self.store.main.touch(session);
        self.store.main.values.set_extent(session, (time, time));
        self.index
            .insert(key, time, session, time.saturating_add(self.gap));
        session
    }

    fn lengthen(&mut self, session: u32, time: i64) {
        let (first, last) = self.store.main.values.extent(session);
        if (first..=last).contains(&time) {
            return;
        }
        self.store.main.touch(session);
        self.store
            .main
            .values
            .set_extent(session, (first.min(time), last.max(time)));
        if time < first {
            self.index.restart(session, first, time);
        }
    }

    fn join(&mut self, into: u32, from: u32) -> Result<(), OperatorError> {
        let values = &self.store.main.values;
        let (one, other) = (values.extent(into), values.extent(from));
        self.index.remove(from, other.0);
        self.store.main.touch(into);
        let extent = (one.0.min(other.0), one.1.max(other.1));
        self.store.main.values.set_extent(into, extent);
        if extent.0 < one.0 {
            self.index.restart(into, one.0, extent.0);
        }
        self.store.merge_within(into, from)
    }

    /// Emits sessions that are over, a batch per call; then lets the watermark pass.
    fn advance(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        let Some(due) = self.target.as_ref().map(|target| target.due) else {
            return Ok(Step::Done);
        };
        if self.next == self.firing.len() {
            self.collect(due);
        }
        while self.next < self.firing.len() {
            let end = self
                .firing
                .len()
                .min(self.next + context.scope.batch_rows.max(1));
            let sessions = self.firing[self.next..end].to_vec();
            self.next = end;
            self.emit(&sessions, context)?;
            sessions
                .iter()
                .for_each(|session| self.store.remove(*session));
            if self.next < self.firing.len() {
                return Ok(Step::More);
            }
        }
        self.firing.clear();
        self.next = 0;
        if self.alarm.is_none() {
            self.fired.advance(due);
        }
        self.set_alarm(context.clock);
        let then = self.target.take().and_then(|target| target.then);
        then.into_iter()
            .for_each(|element| context.out.element(element));
        Ok(Step::Done)
    }

    /// Takes the sessions that end at `due` or before out of the index.
    fn collect(&mut self, due: i64) {
        while let Some(session) = self.index.due(due) {
            let end = self.end_of(session);
            if end > due {
                self.index.set_alarm(session, end);
                continue;
            }
            let first = self.store.main.values.extent(session).0;
            self.index.remove(session, first);
            self.firing.push(session);
        }
        let mut firing = std::mem::take(&mut self.firing);
        firing.sort_by_cached_key(|session| (self.end_of(*session), *session));
        self.firing = firing;
    }

    fn emit(
        &self,
        sessions: &[u32],
        context: &mut OperatorContext<'_>,
    ) -> Result<(), OperatorError> {
        let values = &self.store.main.values;
        let with_rows = sessions
            .iter()
            .copied()
            .filter(|session| values.has_rows(*session));
        let sessions: Vec<u32> = with_rows.collect();
        if sessions.is_empty() {
            return Ok(());
        }
        let (mut columns, _) = self
            .encoder
            .decode(&self.store.main.index().keys_of(&sessions))?;
        columns.extend(self.store.results(&sessions)?);
        for property in &self.properties {
            let time = |session: &u32| match property {
                WindowProperty::WindowStart => values.extent(*session).0,
                WindowProperty::WindowTime => self.end_of(*session) - 1,
                WindowProperty::WindowEnd | WindowProperty::Unspecified => self.end_of(*session),
            };
            let data_type = self.schema.field(columns.len()).data_type();
            columns.push(time_array(sessions.iter().map(time).collect(), data_type)?);
        }
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        context.out.batch(ChangeBatch::inserts(rows));
        Ok(())
    }
}

fn window(spec: &plan::WindowAggregate) -> Option<&WindowSpec> {
    match &spec.windowing {
        Some(Windowing::Window(window)) => Some(window),
        _ => None,
    }
}

impl Operator for SessionAggregateOperator {
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
