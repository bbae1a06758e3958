//! The window join: rows are held by window and joined when the watermark passes its end. A
//! window is a namespace of both state tables and is closed with it.

use engine::{
    ChangeBatch, Element, Timestamp,
    late::LateRows,
    operator::{
        Operator, OperatorContext, OperatorError, OperatorState, Reassigned, StateSize, Step,
        TaskScope,
    },
    state::{NO_SLOT, ScanJob, StateDelta},
};
use proto::{
    plan,
    types::{Epoch, Field, TableId},
};
use state_client::ScanReply;

use super::{
    probe::{Event, Probe},
    shape::{JoinShape, KeyColumns, LEFT, RIGHT},
    state::JoinState,
};
use crate::{
    EvalContext,
    rows::{Identity, RowTable, WindowState, Windows, column, milliseconds, window_index_scope},
};

/// The operator of a [`plan::WindowJoin`].
pub struct WindowJoinOperator {
    shape: JoinShape,
    tables: [TableId; 2],
    /// Per side: the column of the window's end.
    window_ends: [usize; 2],
    scope: TaskScope,
    windows: Windows<Window>,
    firing: Option<Firing>,
    /// What to send when all due windows have fired.
    pending_watermark: Option<Timestamp>,
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
            scope: scope.clone(),
            windows: Windows::new(vec![*left_table, *right_table], scope),
            firing: None,
            pending_watermark: None,
            eval: EvalContext::default(),
        }))
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
            let Some(window) = self.windows.take_due() else {
                return Ok(true);
            };
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
        let table = |table| {
            let identity = Identity::Append { removable: false };
            RowTable::new(table, end, identity, scope).begun_after(last_barrier)
        };
        let row_tables = tables.map(table);
        Window {
            state: JoinState::new(
                shape,
                row_tables,
                [true; 2],
                [None; 2],
                &window_index_scope(scope),
                false,
            ),
            key_slots: [Vec::new(), Vec::new()],
        }
    }
}

/// Key slot of a row that is another task's.
const NOT_OURS: u32 = NO_SLOT - 1;

impl Window {
    /// Rows whose keys are another task's from now on are not put out; they are still saved with the
    /// epoch that they belong to.
    fn disown(&mut self, left: &dyn Fn(u64) -> bool) {
        for (side, key_slots) in self.state.sides.iter().zip(&mut self.key_slots) {
            for (slot, key_slot) in (0..).zip(key_slots) {
                if left(side.rows.hash(slot)) {
                    *key_slot = NOT_OURS;
                }
            }
        }
        let keys: Vec<u32> = self.state.index.iter().collect();
        for key in keys {
            if left(self.state.index.hash(key)) {
                self.state.index.remove(key);
            }
        }
    }

    fn is_ours(&self, side: usize, slot: u32) -> bool {
        self.key_slots[side][slot as usize] != NOT_OURS
    }
}

impl WindowState for Window {
    fn tables(&mut self) -> impl Iterator<Item = &mut RowTable> {
        self.state.sides.iter_mut().map(|side| &mut side.rows)
    }

    fn size(&self) -> StateSize {
        self.state.size()
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
        let rows = self.window.key_slots[LEFT].len();
        let mut slots = Vec::new();
        while self.next < rows && slots.len() < shape.batch_rows {
            let slot = self.next as u32;
            if self.window.is_ours(LEFT, slot) {
                slots.push(slot);
            }
            self.next += 1;
        }
        self.probe_of(shape, LEFT, &slots, true)
    }

    fn next_lonely_right(&mut self, shape: &JoinShape) -> Result<Option<Probe>, OperatorError> {
        let Some(degrees) = &self.window.state.sides[RIGHT].degrees else {
            return Ok(None);
        };
        let mut slots = Vec::new();
        while self.next < degrees.len() && slots.len() < shape.batch_rows {
            let slot = self.next as u32;
            if degrees[self.next] == 0 && self.window.is_ours(RIGHT, slot) {
                slots.push(slot);
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
        if !batch.is_append() {
            let message = "an input of a window join takes rows back";
            return Err(OperatorError::Plan(message.to_owned()));
        }
        let columns = batch.rows.columns();
        let ends = milliseconds(&columns[self.window_ends[input]])?;
        let bytes = self.shape.codecs[input].encode(columns, batch.num_rows())?;
        let keys = self.shape.keys[input].encode(&batch.rows)?;
        let null_keys = self.shape.null_keys(input, columns);
        let keeps_lonely = self.shape.bare_unmatched[input];
        let mut late_rows = LateRows::default();
        let mut row = 0;
        while row < batch.num_rows() {
            let end = ends[row];
            let late = self.windows.is_late(end, keys.hashes[row]);
            let run = (row..batch.num_rows())
                .take_while(|row| {
                    ends[*row] == end && self.windows.is_late(end, keys.hashes[*row]) == late
                })
                .count();
            if late {
                for row in row..row + run {
                    late_rows.push(row, self.windows.passed(keys.hashes[row]));
                }
                row += run;
                continue;
            }
            let (shape, tables, scope) = (&self.shape, self.tables, &self.scope);
            let window = self.windows.window(end, |barrier| {
                Window::new(shape, tables, end, scope, barrier)
            });
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
        context.drop_late(input, &batch, &late_rows)?;
        Ok(Step::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        context: &mut OperatorContext<'_>,
    ) -> Result<Step, OperatorError> {
        self.windows.advance(watermark);
        self.eval.watermark = Some(watermark);
        self.pending_watermark = Some(watermark);
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
        self.windows.hydrate(scope)
    }

    fn reassign(&mut self, scope: &TaskScope, change: &Reassigned) -> Vec<ScanJob> {
        self.scope = scope.clone();
        self.windows.reassign(scope, change, Window::disown)
    }

    fn hydrated(&mut self, job: &ScanJob, reply: &ScanReply) -> Result<(), OperatorError> {
        let side = usize::from(job.table != self.tables[LEFT]);
        let (shape, tables, scope) = (&self.shape, self.tables, &self.scope);
        let make = |end, barrier| Window::new(shape, tables, end, scope, barrier);
        self.windows.hydrated(job, reply, make, |window, rows| {
            let slots = window.state.install(shape, side, rows)?;
            window.key_slots[side].extend(slots.iter().map(|(key_slot, _)| *key_slot));
            Ok(())
        })
    }

    fn freeze(&mut self, epoch: Epoch) {
        self.windows.freeze(epoch);
    }

    fn encode(&mut self, rows_max: usize) -> bool {
        self.windows.encode(rows_max)
    }

    fn take_delta(&mut self) -> StateDelta {
        self.windows.take_delta()
    }

    fn size(&self) -> StateSize {
        self.windows.size()
    }
}
