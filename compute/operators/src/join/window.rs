//! The window join: rows are held by window and joined when the watermark passes its end. A
//! window is a namespace of both state tables and is closed with it.

use std::collections::{BTreeMap, VecDeque};

use engine::{
    ChangeBatch, Element, TIMESTAMP_MIN, Timestamp,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, StateSize, Step, TaskScope,
    },
    state::{NO_SLOT, ScanJob, StateDelta, TableDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, KeyGroupCount, TableId},
};
use state_client::{LoadedRow, ScanReply};

use super::{
    probe::{Event, Probe},
    shape::{JoinShape, KeyColumns, LEFT, RIGHT},
    state::JoinState,
};
use crate::{
    EvalContext,
    rows::{Identity, RowTable, column, milliseconds},
};

/// The operator of a [`plan::WindowJoin`].
pub struct WindowJoinOperator {
    shape: JoinShape,
    tables: [TableId; 2],
    /// Per side: the column of the window's end.
    window_ends: [usize; 2],
    scope: TaskScope,
    windows: BTreeMap<i64, Window>,
    firing: Option<Firing>,
    /// Windows to fire, oldest first, and what to send when they have.
    due: VecDeque<i64>,
    pending_watermark: Option<Timestamp>,
    watermark: Timestamp,
    /// Windows that end before it are closed.
    open_from: i64,
    open_from_saved: i64,
    open_from_frozen: Option<i64>,
    last_barrier: Epoch,
    /// Frozen rows of windows that have closed since.
    retired: Vec<TableDelta>,
    eval: EvalContext,
}

/// Rows of one window.
struct Window {
    state: JoinState,
    /// Per side and row: its key slot.
    key_slots: [Vec<u32>; 2],
}

/// A window that is being put out.
struct Firing {
    window: Window,
    probe: Option<Probe>,
    side: usize,
    next: usize,
}

impl WindowJoinOperator {
    /// A join of `inputs`, whose rows are held in `tables`: left rows, right rows.
    ///
    /// # Errors
    /// When the plan cannot be run.
    pub fn build(
        spec: &plan::WindowJoin,
        inputs: &[&[Field]],
        tables: &[TableId],
        scope: &TaskScope,
    ) -> Result<Box<dyn Operator>, OperatorError> {
        let ([left, right], [left_table, right_table]) = (inputs, tables) else {
            let message = "a window join has two inputs and two tables";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let (Some(left_window), Some(right_window)) = (&spec.left_window, &spec.right_window)
        else {
            let message = "a window join without windows";
            return Err(OperatorError::Plan(message.to_owned()));
        };
        let keys = KeyColumns {
            left: &spec.left_keys,
            right: &spec.right_keys,
            null_safe: &spec.null_safe,
        };
        let shape = JoinShape::new(
            spec.r#type(),
            &keys,
            spec.condition.as_ref(),
            [left, right],
            scope.batch_rows,
        )?;
        Ok(Box::new(WindowJoinOperator {
            shape,
            tables: [*left_table, *right_table],
            window_ends: [
                column(left_window.window_end, left)?,
                column(right_window.window_end, right)?,
            ],
            scope: *scope,
            windows: BTreeMap::new(),
            firing: None,
            due: VecDeque::new(),
            pending_watermark: None,
            watermark: TIMESTAMP_MIN,
            open_from: i64::MIN,
            open_from_saved: i64::MIN,
            open_from_frozen: None,
            last_barrier: scope.restored,
            retired: Vec::new(),
            eval: EvalContext::default(),
        }))
    }

    fn window(&mut self, end: i64) -> &mut Window {
        let (shape, tables, scope) = (&self.shape, self.tables, &self.scope);
        let last_barrier = self.last_barrier;
        self.windows
            .entry(end)
            .or_insert_with(|| Window::new(shape, tables, end, scope, last_barrier))
    }

    /// Puts out due windows; `true` when all are.
    fn fire(&mut self, context: &mut OperatorContext<'_>) -> Result<bool, OperatorError> {
        self.eval.now_ms = context.clock.wall_ms();
        loop {
            if let Some(firing) = &mut self.firing {
                if !firing.run(&self.shape, &self.eval, context)? {
                    return Ok(false);
                }
                self.firing = None;
            }
            let Some(end) = self.due.pop_front() else {
                return Ok(true);
            };
            let Some(mut window) = self.windows.remove(&end) else {
                continue;
            };
            for side in &mut window.state.sides {
                side.rows.encode(usize::MAX);
                self.retired.extend(side.rows.take_delta());
            }
            self.open_from = self.open_from.max(end + 1);
            self.firing = Some(Firing {
                window,
                probe: None,
                side: LEFT,
                next: 0,
            });
        }
    }

    fn go_on(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        if !self.fire(context)? {
            return Ok(Step::More);
        }
        if let Some(watermark) = self.pending_watermark.take() {
            context.out.element(Element::Watermark(watermark));
        }
        Ok(Step::Done)
    }
}

impl Window {
    fn new(
        shape: &JoinShape,
        tables: [TableId; 2],
        end: i64,
        scope: &TaskScope,
        last_barrier: Epoch,
    ) -> Self {
        // A window is hydrated whole, so its index need not tell key groups apart.
        let one = KeyGroupCount::new(1).unwrap_or(KeyGroupCount::DEFAULT);
        let index_scope = TaskScope {
            key_groups: one,
            owned: one.range(0, 1),
            ..*scope
        };
        let table = |table| {
            let identity = Identity::Append { removable: false };
            RowTable::new(table, end, identity, scope).begun_after(last_barrier)
        };
        let row_tables = tables.map(table);
        Window {
            state: JoinState::new(shape, row_tables, [true; 2], &index_scope, false),
            key_slots: [Vec::new(), Vec::new()],
        }
    }
}

impl Firing {
    /// Puts out chunks; `true` when the window is done. Left rows go first, each with its
    /// matches; then right rows without any.
    fn run(
        &mut self,
        shape: &JoinShape,
        eval: &EvalContext,
        context: &mut OperatorContext<'_>,
    ) -> Result<bool, OperatorError> {
        loop {
            if let Some(probe) = &mut self.probe {
                if !probe.run(shape, &mut self.window.state, eval, context.out)? {
                    return Ok(false);
                }
                self.probe = None;
            }
            if self.side == LEFT {
                self.probe = self.next_left(shape)?;
                if self.probe.is_none() {
                    (self.side, self.next) = (RIGHT, 0);
                }
            } else {
                self.probe = self.next_lonely_right(shape)?;
                if self.probe.is_none() {
                    return Ok(true);
                }
            }
        }
    }

    fn next_left(&mut self, shape: &JoinShape) -> Result<Option<Probe>, OperatorError> {
        let key_slots = &self.window.key_slots[LEFT];
        let end = key_slots.len().min(self.next + shape.batch_rows);
        let slots: Vec<u32> = (self.next as u32..end as u32).collect();
        self.next = end;
        self.probe_of(shape, LEFT, &slots, true)
    }

    fn next_lonely_right(&mut self, shape: &JoinShape) -> Result<Option<Probe>, OperatorError> {
        let Some(degrees) = &self.window.state.sides[RIGHT].degrees else {
            return Ok(None);
        };
        let mut slots = Vec::new();
        while self.next < degrees.len() && slots.len() < shape.batch_rows {
            if degrees[self.next] == 0 {
                slots.push(self.next as u32);
            }
            self.next += 1;
        }
        self.probe_of(shape, RIGHT, &slots, false)
    }

    fn probe_of(
        &self,
        shape: &JoinShape,
        side: usize,
        slots: &[u32],
        is_matched: bool,
    ) -> Result<Option<Probe>, OperatorError> {
        if slots.is_empty() {
            return Ok(None);
        }
        let table = &self.window.state.sides[side].rows;
        let rows: Vec<&[u8]> = slots.iter().map(|slot| table.row(*slot)).collect();
        let columns = shape.codecs[side].decode(&rows)?;
        let event = |(row, slot): (usize, &u32)| Event {
            row: row as u32,
            key_slot: if is_matched {
                self.window.key_slots[side][*slot as usize]
            } else {
                NO_SLOT
            },
            own_slot: NO_SLOT,
            is_add: true,
            is_distinct: true,
        };
        let events = slots.iter().enumerate().map(event).collect();
        Ok(Some(Probe::new(side, columns, events, false)))
    }
}

impl Operator for WindowJoinOperator {
    fn batch(
        &mut self,
        input: usize,
        batch: ChangeBatch,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        if batch
            .kinds
            .as_ref()
            .is_some_and(|kinds| kinds.bytes().iter().any(|k| *k != 0))
        {
            let message = "an input of a window join takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let columns = batch.rows.columns();
        let ends = milliseconds(&columns[self.window_ends[input]])?;
        let bytes = self.shape.codecs[input].encode(columns, batch.num_rows())?;
        let keys = self.shape.keys[input].encode(&batch.rows)?;
        let null_keys = self.shape.null_keys(input, columns);
        let keeps_lonely = self.shape.bare_unmatched[input];
        let mut row = 0;
        while row < batch.num_rows() {
            let end = ends[row];
            let run = ends[row..]
                .iter()
                .take_while(|other| **other == end)
                .count();
            if end - 1 <= self.watermark || end < self.open_from {
                context.counters.late_rows += run as u64;
                row += run;
                continue;
            }
            let window = self.window(end);
            for row in row..row + run {
                let hash = keys.hashes[row];
                let key_slot = if null_keys.as_ref().is_some_and(|nulls| nulls.value(row)) {
                    if !keeps_lonely {
                        continue;
                    }
                    window.state.append_lonely(input, hash, bytes.row(row));
                    NO_SLOT
                } else {
                    let key_slot = window.state.key_slot(&keys, row);
                    window.state.append(input, key_slot, hash, bytes.row(row));
                    key_slot
                };
                window.key_slots[input].push(key_slot);
            }
            row += run;
        }
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.watermark = watermark;
        self.eval.watermark = Some(watermark);
        self.pending_watermark = Some(watermark);
        let last_end = watermark.saturating_add(1);
        self.due
            .extend(self.windows.range(..=last_end).map(|(end, _)| *end));
        self.go_on(context)
    }

    fn resume(&mut self, context: &mut OperatorContext<'_>) -> Result<Step, OperatorError> {
        self.go_on(context)
    }

    fn state(&mut self) -> Option<&mut dyn OperatorState> {
        Some(self)
    }
}

impl OperatorState for WindowJoinOperator {
    fn hydrate(&mut self, scope: &TaskScope) -> Vec<ScanJob> {
        let job = |table, key_group| ScanJob { table, key_group };
        let of_table = |table| scope.owned.iter().map(move |group| job(table, group));
        self.tables
            .iter()
            .flat_map(|table| of_table(*table))
            .collect()
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let side = usize::from(job.table != self.tables[LEFT]);
        if let Some(open_from) = reply.open_from {
            self.open_from = self.open_from.max(open_from);
            self.open_from_saved = self.open_from;
        }
        let same_window = |a: &LoadedRow, b: &LoadedRow| a.namespace == b.namespace;
        for rows in reply.rows.chunk_by(same_window) {
            let end = rows[0].namespace;
            self.window(end);
            if let Some(window) = self.windows.get_mut(&end) {
                let slots = window.state.install(&self.shape, side, rows)?;
                window.key_slots[side].extend(slots);
            }
        }
        Ok(())
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.last_barrier = epoch;
        for window in self.windows.values_mut() {
            window
                .state
                .sides
                .iter_mut()
                .for_each(|side| side.rows.freeze(epoch));
        }
        let has_moved = self.open_from > self.open_from_saved;
        self.open_from_frozen = has_moved.then_some(self.open_from);
        self.open_from_saved = self.open_from;
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        let sides = self
            .windows
            .values_mut()
            .flat_map(|window| &mut window.state.sides);
        sides.fold(true, |done, side| side.rows.encode(rows_max) && done)
    }

    fn take_delta(&mut self) -> StateDelta {
        let mut tables = std::mem::take(&mut self.retired);
        let sides = self
            .windows
            .values_mut()
            .flat_map(|window| &mut window.state.sides);
        tables.extend(sides.filter_map(|side| side.rows.take_delta()));
        let mut low_water_marks = Vec::new();
        if let Some(open_from) = self.open_from_frozen.take() {
            for table in self.tables {
                let groups = self.scope.owned.iter();
                low_water_marks.extend(groups.map(|group| (table, group, open_from)));
            }
        }
        StateDelta {
            tables,
            low_water_marks,
            ..StateDelta::default()
        }
    }

    fn size(&self) -> StateSize {
        let mut size = StateSize::default();
        for window in self.windows.values() {
            let of_window = window.state.size();
            size.rows += of_window.rows;
            size.bytes += of_window.bytes;
        }
        size
    }
}
