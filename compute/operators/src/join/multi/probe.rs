//! From rows of one input to output: each with every choice of a row of each other input, a chunk at a
//! time, so that a key with many rows makes no unbounded output.
//!
//! The other inputs' rows do not change meanwhile. The last of them goes through its rows first, so that
//! those of the others repeat, and are decoded once where they do so often.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array},
    compute::take,
};
use engine::{
    ChangeBatch, Kinds,
    operator::{OperatorError, Outbox},
    state::NO_SLOT,
};

use proto::types::RowKind;

use super::{
    shape::MultiShape,
    state::{Kept, MultiState},
};

/// A row that comes or goes and meets rows of all other inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    /// Row of the probe's columns.
    pub(super) row: u32,
    pub(super) key_slot: u32,
    /// It comes.
    pub(super) is_add: bool,
}

/// Rows on their way to the output.
#[derive(Debug)]
pub(super) struct Probe {
    input: usize,
    columns: Vec<ArrayRef>,
    events: Vec<Event>,
    only_adds: bool,
    /// Event that is next or under way.
    event: usize,
    begun: bool,
    /// Of the event that is under way: the row of each other input that is next, and which copy of it.
    cursor: Vec<Cursor>,
    /// By input, for the chunk that is being made.
    met: Vec<Met>,
    /// Of its rows, where some go.
    kinds: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    slot: u32,
    copy: u32,
}

impl Cursor {
    #[inline]
    fn at(slot: u32) -> Self {
        Cursor { slot, copy: 0 }
    }

    /// Goes to the next copy or row; `false`: there is none.
    #[inline]
    fn advance(&mut self, kept: &Kept) -> bool {
        self.copy += 1;
        if self.copy >= kept.rows.copies(self.slot) {
            *self = Cursor::at(kept.chain.next(self.slot));
        }
        self.slot != NO_SLOT
    }
}

/// Rows of one input in a chunk.
#[derive(Clone, Debug, Default)]
struct Met {
    /// Slots of rows, or rows of the probe's columns; none twice in a row.
    rows: Vec<u32>,
    /// Per output row: which of them.
    at: Vec<u32>,
}

/// Where the columns of an input come from.
enum Picked<'a> {
    /// So many rows of the probe's columns from this one on.
    Slice(usize, usize),
    /// Rows of the probe's columns.
    Rows(UInt32Array),
    /// Bytes of each row.
    Bytes(Vec<&'a [u8]>),
    /// Bytes of rows, and which of them.
    Repeated(Vec<&'a [u8]>, UInt32Array),
}

impl Met {
    fn clear(&mut self) {
        self.rows.clear();
        self.at.clear();
    }

    #[inline]
    fn push(&mut self, row: u32, times: usize) {
        if self.rows.last() != Some(&row) {
            self.rows.push(row);
        }
        let last = self.rows.len() as u32 - 1;
        self.at.extend(std::iter::repeat_n(last, times));
    }
}

impl Probe {
    /// Pairs `events`, rows of `columns`, which are those of `input`.
    pub(super) fn new(input: usize, columns: Vec<ArrayRef>, events: Vec<Event>) -> Self {
        Probe {
            input,
            columns,
            only_adds: events.iter().all(|event| event.is_add),
            events,
            event: 0,
            begun: false,
            cursor: Vec::new(),
            met: Vec::new(),
            kinds: Vec::new(),
        }
    }

    /// Puts out chunks until about `batch_rows` rows wait in the outbox; `true` when all is done.
    ///
    /// # Errors
    /// When stored rows do not decode.
    pub(super) fn run(
        &mut self,
        shape: &MultiShape,
        state: &MultiState,
        out: &mut Outbox,
    ) -> Result<bool, OperatorError> {
        self.met.resize_with(shape.inputs.len(), Met::default);
        while self.event < self.events.len() {
            if out.num_rows() >= shape.batch_rows {
                return Ok(false);
            }
            let rows = self.collect(state, shape.batch_rows);
            out.batch(self.gather(shape, state, rows)?);
        }
        Ok(true)
    }

    /// Collects the next rows of the output; their number.
    fn collect(&mut self, state: &MultiState, rows_max: usize) -> usize {
        self.met.iter_mut().for_each(Met::clear);
        self.kinds.clear();
        let inputs = state.inputs.len();
        let last = if self.input + 1 == inputs {
            inputs - 2
        } else {
            inputs - 1
        };
        let kept = &state.inputs[last];
        let mut rows = 0;
        while rows < rows_max && self.event < self.events.len() {
            let event = self.events[self.event];
            if !self.begun {
                self.begun = true;
                self.cursor.clear();
                let heads = state.heads(event.key_slot).iter();
                self.cursor.extend(heads.map(|head| Cursor::at(*head)));
                self.cursor[self.input].slot = event.row;
            }
            let (cursor, met) = (&mut self.cursor[last], &mut self.met[last]);
            let (mut count, mut is_more) = (0, true);
            while is_more && rows + count < rows_max {
                met.push(cursor.slot, 1);
                is_more = cursor.advance(kept);
                count += 1;
            }
            for (input, met) in self.met.iter_mut().enumerate() {
                if input != last {
                    met.push(self.cursor[input].slot, count);
                }
            }
            if !self.only_adds {
                let kind = match event.is_add {
                    true => RowKind::Insert,
                    false => RowKind::Delete,
                };
                self.kinds.extend(std::iter::repeat_n(kind as u8, count));
            }
            rows += count;
            if !is_more && !self.advance(state, event.key_slot, last) {
                self.begun = false;
                self.event += 1;
            }
        }
        rows
    }

    /// The next choice of rows of the inputs before the last one, which begins again; `false`: there is
    /// none.
    fn advance(&mut self, state: &MultiState, key_slot: u32, last: usize) -> bool {
        let heads = state.heads(key_slot);
        self.cursor[last] = Cursor::at(heads[last]);
        for input in (0..last).rev().filter(|input| *input != self.input) {
            if self.cursor[input].advance(&state.inputs[input]) {
                return true;
            }
            self.cursor[input] = Cursor::at(heads[input]);
        }
        false
    }

    fn gather(
        &self,
        shape: &MultiShape,
        state: &MultiState,
        rows: usize,
    ) -> Result<ChangeBatch, OperatorError> {
        let inputs = self.met.iter().enumerate();
        let picked: Vec<Picked<'_>> = inputs
            .map(|(input, met)| match input == self.input {
                true => met.own(),
                false => met.of_table(|slot| state.inputs[input].rows.row(slot)),
            })
            .collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(shape.output.len());
        for (input, column) in &shape.output {
            let codec = &shape.inputs[*input].codec;
            arrays.push(match &picked[*input] {
                Picked::Slice(first, count) => self.columns[*column].slice(*first, *count),
                Picked::Rows(rows) => take(&self.columns[*column], rows, None)?,
                Picked::Bytes(rows) => codec.decode_column(*column, rows)?,
                Picked::Repeated(rows, at) => take(&codec.decode_column(*column, rows)?, at, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&shape.schema), arrays, &options)?;
        let kinds = (!self.only_adds).then(|| Kinds::from_bytes(self.kinds.clone()));
        Ok(ChangeBatch::changes(batch, kinds))
    }
}

impl Met {
    /// Rows of the probe's columns. Consecutive ones are not copied.
    fn own<'a>(&self) -> Picked<'a> {
        let first = self.rows.first().copied().unwrap_or_default();
        let in_order = |(at, row): (usize, &u32)| *row as usize == first as usize + at;
        let is_each_once = self.rows.len() == self.at.len();
        if is_each_once && self.rows.iter().enumerate().all(in_order) {
            return Picked::Slice(first as usize, self.rows.len());
        }
        let rows = self.at.iter().map(|at| self.rows[*at as usize]);
        Picked::Rows(UInt32Array::from_iter_values(rows))
    }

    fn of_table<'a>(&self, row: impl Fn(u32) -> &'a [u8]) -> Picked<'a> {
        if self.rows.len() * 2 <= self.at.len() {
            let rows = self.rows.iter().map(|slot| row(*slot));
            return Picked::Repeated(rows.collect(), UInt32Array::from(self.at.clone()));
        }
        let rows = self.at.iter().map(|at| row(self.rows[*at as usize]));
        Picked::Bytes(rows.collect())
    }
}
