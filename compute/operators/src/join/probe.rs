//! From changes of one side to changes of the output: pairs each changed row with the rows of the
//! other side, a chunk at a time, so that a key with many matches makes no unbounded output.
//!
//! The other side's rows do not change meanwhile; how many matches each has does, and with the
//! first or the last one an outer row's lonely form goes or comes back.

use std::sync::Arc;

use arrow::{
    array::{Array as _, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
};
use engine::{
    ChangeBatch, Kinds,
    operator::{OperatorError, Outbox},
    state::NO_SLOT,
};
use proto::types::RowKind;

use super::{
    best::{Per, improving},
    shape::{JoinShape, LEFT, RIGHT},
    state::JoinState,
};
use crate::{EvalContext, rows::OrderKeys};

/// No row: NULLs in the output.
const NO_ROW: u32 = u32::MAX;

/// A row of one side that comes or goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Row of the probe's columns.
    pub(super) row: u32,
    /// Slot of its key; [`NO_SLOT`]: it matches nothing.
    pub(super) key_slot: u32,
    /// Where it is kept, if it comes and is.
    pub(super) own_slot: u32,
    /// It comes.
    pub(super) is_add: bool,
    /// It is the first or the last of equal rows.
    pub(super) is_distinct: bool,
}

/// Rows on their way to the output.
#[derive(Debug)]
pub(super) struct Probe {
    side: usize,
    columns: Vec<ArrayRef>,
    events: Vec<Event>,
    only_adds: bool,
    /// Lonely rows of the other side come and go with their matches (else the caller puts them
    /// out in the end).
    updating: bool,
    /// Event that is next or under way.
    event: usize,
    begun: bool,
    /// Row of the other side that is next, and which copy of it.
    slot: u32,
    copy: u32,
    /// Matches of the event that is under way.
    matched: u32,
    /// The other row's first match came, or its last one went, with this event.
    is_turn: bool,
    pairs: Pairs,
    /// The order of its rows, where only the best pairs of the other side's are wanted.
    orders: Option<OrderKeys>,
}

#[derive(Debug, Default)]
struct Pairs {
    events: Vec<u32>,
    rows: Vec<u32>,
    slots: Vec<u32>,
    /// First copy of the other row.
    first: Vec<bool>,
}

#[derive(Debug, Default)]
struct Output {
    rows: Vec<u32>,
    slots: Vec<u32>,
    kinds: Vec<u8>,
}

impl Output {
    fn push(&mut self, row: u32, slot: u32, is_add: bool) {
        let kind = if is_add {
            RowKind::Insert
        } else {
            RowKind::Delete
        };
        self.rows.push(row);
        self.slots.push(slot);
        self.kinds.push(kind as u8);
    }
}

impl Probe {
    /// Pairs `events`, rows of `columns` on side `side`.
    pub(super) fn new(
        side: usize,
        columns: Vec<ArrayRef>,
        events: Vec<Event>,
        updating: bool,
    ) -> Self {
        Probe {
            side,
            columns,
            only_adds: events.iter().all(|event| event.is_add),
            events,
            updating,
            event: 0,
            begun: false,
            slot: NO_SLOT,
            copy: 0,
            matched: 0,
            is_turn: false,
            pairs: Pairs::default(),
            orders: None,
        }
    }

    /// With the orders of the rows, where they are known.
    pub(super) fn ordered(mut self, orders: OrderKeys) -> Self {
        self.orders = Some(orders);
        self
    }

    /// The orders of the rows, where they were wanted.
    pub(super) fn into_orders(self) -> Option<OrderKeys> {
        self.orders
    }

    /// Puts out chunks until about `rows_max` rows wait in the outbox; `true` when all is done.
    pub(super) fn run(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        eval: &EvalContext,
        out: &mut Outbox,
    ) -> Result<bool, OperatorError> {
        while self.event < self.events.len() {
            if out.num_rows() >= shape.batch_rows {
                return Ok(false);
            }
            self.chunk(shape, state, eval, out)?;
        }
        Ok(true)
    }

    fn chunk(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        eval: &EvalContext,
        out: &mut Outbox,
    ) -> Result<(), OperatorError> {
        let first_event = self.event;
        self.collect(state, shape.batch_rows);
        let mask = if shape.condition.is_none() || self.pairs.rows.is_empty() {
            None
        } else {
            let rows = &state.sides[1 - self.side].rows;
            let others: Vec<&[u8]> = self
                .pairs
                .slots
                .iter()
                .map(|slot| rows.row(*slot))
                .collect();
            shape.matches(self.side, &self.columns, &self.pairs.rows, &others, eval)?
        };
        let mask = self.best(shape, state, mask)?;
        let output = if shape.emits_pairs && !shape.tracks(LEFT) && !shape.tracks(RIGHT) {
            self.inner_output(mask.as_ref())
        } else {
            self.output(shape, state, first_event, mask.as_ref())
        };
        if !output.rows.is_empty() {
            out.batch(self.gather(shape, state, output)?);
        }
        Ok(())
    }

    /// Which of the pairs that match are put out.
    fn best(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        matched: Option<BooleanArray>,
    ) -> Result<Option<BooleanArray>, OperatorError> {
        let Some(wanted) = shape.best.as_ref().filter(|_| !self.pairs.rows.is_empty()) else {
            return Ok(matched);
        };
        let other = 1 - self.side;
        let is_own = wanted.ordered == self.side;
        let of_pair;
        let orders = if is_own {
            match &mut self.orders {
                Some(orders) => &*orders,
                orders => orders.insert(wanted.order.keys(&self.columns)?),
            }
        } else {
            let rows = &state.sides[other].rows;
            let slots = self.pairs.slots.iter();
            let rows: Vec<&[u8]> = slots.map(|slot| rows.row(*slot)).collect();
            of_pair = wanted.order.keys_of(&shape.codecs[other], &rows)?;
            &of_pair
        };
        let Some(best) = &mut state.best else {
            return Ok(matched);
        };
        let (pairs, events) = (&self.pairs, &self.events);
        let order_at = |pair: usize| match is_own {
            true => pairs.rows[pair] as usize,
            false => pair,
        };
        let slot_at = |pair: usize| match wanted.per {
            Per::Row(side) if side == other => pairs.slots[pair],
            Per::Row(_) => events[pairs.events[pair] as usize].own_slot,
            Per::Key => events[pairs.events[pair] as usize].key_slot,
        };
        let each = (0..pairs.rows.len()).map(|pair| (slot_at(pair), order_at(pair)));
        let mask = improving(best, matched.as_ref(), orders, each);
        Ok(Some(mask))
    }

    /// Collects the next pairs.
    fn collect(&mut self, state: &JoinState, pairs_max: usize) {
        let pairs = &mut self.pairs;
        pairs.events.clear();
        pairs.rows.clear();
        pairs.slots.clear();
        pairs.first.clear();
        let other = 1 - self.side;
        let side = &state.sides[other];
        while pairs.rows.len() < pairs_max && self.event < self.events.len() {
            let event = self.events[self.event];
            if !self.begun {
                self.begun = true;
                self.copy = 0;
                self.slot = match event.key_slot {
                    NO_SLOT => NO_SLOT,
                    key_slot => state.head(key_slot, other),
                };
            }
            while self.slot != NO_SLOT && pairs.rows.len() < pairs_max {
                pairs.events.push(self.event as u32);
                pairs.rows.push(event.row);
                pairs.slots.push(self.slot);
                pairs.first.push(self.copy == 0);
                self.copy += 1;
                if self.copy >= side.rows.copies(self.slot) {
                    self.copy = 0;
                    self.slot = side.next(self.slot);
                }
            }
            if self.slot == NO_SLOT {
                self.begun = false;
                self.event += 1;
            }
        }
    }

    /// The output of an inner join: the pairs that match.
    fn inner_output(&mut self, mask: Option<&BooleanArray>) -> Output {
        let pairs = &mut self.pairs;
        if let Some(mask) = mask.filter(|mask| mask.true_count() < mask.len()) {
            let mut kept = 0;
            for pair in mask.values().set_indices() {
                pairs.events[kept] = pairs.events[pair];
                pairs.rows[kept] = pairs.rows[pair];
                pairs.slots[kept] = pairs.slots[pair];
                kept += 1;
            }
            pairs.events.truncate(kept);
            pairs.rows.truncate(kept);
            pairs.slots.truncate(kept);
        }
        let kind = |event: &u32| match self.events[*event as usize].is_add {
            true => RowKind::Insert as u8,
            false => RowKind::Delete as u8,
        };
        Output {
            kinds: match self.only_adds {
                true => Vec::new(),
                false => pairs.events.iter().map(kind).collect(),
            },
            rows: std::mem::take(&mut pairs.rows),
            slots: std::mem::take(&mut pairs.slots),
        }
    }

    /// The output of any join.
    fn output(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        first_event: usize,
        mask: Option<&BooleanArray>,
    ) -> Output {
        let mut output = Output::default();
        let mut pair = 0;
        let last = self.event.min(self.events.len() - 1);
        for at in first_event..=last {
            let event = self.events[at];
            while pair < self.pairs.events.len() && self.pairs.events[pair] as usize == at {
                if mask.is_none_or(|mask| mask.value(pair)) {
                    self.put_pair(shape, state, event, pair, &mut output);
                }
                pair += 1;
            }
            if at < self.event {
                self.finish(shape, state, event, &mut output);
            }
        }
        if self.only_adds
            && output
                .kinds
                .iter()
                .all(|kind| *kind == RowKind::Insert as u8)
        {
            output.kinds.clear();
        }
        output
    }

    fn put_pair(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        event: Event,
        pair: usize,
        output: &mut Output,
    ) {
        let other = 1 - self.side;
        let slot = self.pairs.slots[pair];
        if self.pairs.first[pair] {
            self.matched += 1;
            self.is_turn = false;
            if let Some(degrees) = state.sides[other]
                .degrees
                .as_mut()
                .filter(|_| event.is_distinct)
            {
                let degree = &mut degrees[slot as usize];
                if event.is_add {
                    self.is_turn = self.updating && *degree == 0;
                    *degree += 1;
                } else {
                    *degree = degree.saturating_sub(1);
                    self.is_turn = self.updating && *degree == 0;
                }
            }
        }
        // What is taken back goes before what comes.
        if event.is_add && self.is_turn && shape.tracks(other) {
            output.push(NO_ROW, slot, shape.bare_matched[other]);
        }
        if shape.emits_pairs {
            output.push(event.row, slot, event.is_add);
        }
        if !event.is_add && self.is_turn && shape.tracks(other) {
            output.push(NO_ROW, slot, shape.bare_unmatched[other]);
        }
    }

    /// All matches of an event are known.
    fn finish(
        &mut self,
        shape: &JoinShape,
        state: &mut JoinState,
        event: Event,
        output: &mut Output,
    ) {
        let matched = std::mem::take(&mut self.matched);
        let is_bare = if matched == 0 {
            shape.bare_unmatched[self.side]
        } else {
            shape.bare_matched[self.side]
        };
        if is_bare {
            output.push(event.row, NO_SLOT, event.is_add);
        }
        if event.is_add
            && event.own_slot != NO_SLOT
            && let Some(degrees) = &mut state.sides[self.side].degrees
        {
            degrees[event.own_slot as usize] = matched;
        }
    }

    fn gather(
        &self,
        shape: &JoinShape,
        state: &JoinState,
        output: Output,
    ) -> Result<ChangeBatch, OperatorError> {
        let other = 1 - self.side;
        let rows = output.rows.len();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(shape.schema.fields().len());
        for side in [LEFT, RIGHT] {
            if side == RIGHT && !shape.emits_pairs {
                continue;
            }
            if side == self.side {
                take_rows(&self.columns, &output.rows, &mut arrays)?;
            } else {
                let table = &state.sides[other].rows;
                let row = |slot: &u32| match *slot {
                    NO_SLOT => &shape.null_rows[other][..],
                    slot => table.row(slot),
                };
                let others: Vec<&[u8]> = output.slots.iter().map(row).collect();
                arrays.extend(shape.codecs[other].decode(&others)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&shape.schema), arrays, &options)?;
        let kinds = (!output.kinds.is_empty()).then(|| Kinds::from_bytes(output.kinds));
        Ok(ChangeBatch::changes(batch, kinds))
    }
}

/// The rows of columns at `rows`, NULLs at [`NO_ROW`]. Consecutive rows are not copied.
fn take_rows(
    columns: &[ArrayRef],
    rows: &[u32],
    arrays: &mut Vec<ArrayRef>,
) -> Result<(), OperatorError> {
    let first = rows.first().copied().unwrap_or(NO_ROW);
    let in_order = |(at, row): (usize, &u32)| *row as usize == first as usize + at;
    if first != NO_ROW && rows.iter().enumerate().all(in_order) {
        arrays.extend(columns.iter().map(|c| c.slice(first as usize, rows.len())));
        return Ok(());
    }
    let indices: UInt32Array = if rows.contains(&NO_ROW) {
        rows.iter()
            .map(|row| (*row != NO_ROW).then_some(*row))
            .collect()
    } else {
        rows.to_vec().into()
    };
    for column in columns {
        arrays.push(take(column, &indices, None)?);
    }
    Ok(())
}
